"""Who may do what: every operation of the contract, asked for by everybody who could ask.

What is expected is computed from the contract's `security`, the scopes of the two roles and who
owns an account. No operation is named here, so that a new one is tested as soon as it is declared.
"""

import re
from collections.abc import Callable
from functools import cache

import httpx
import pytest

from tests.api.accounts import bearer, edit_account, fresh_address, key_for, read_account, token_for
from tests.api.answers import comparable, problem
from tests.api.callers import (
    ADMINISTRATOR,
    ADMITTED,
    KEY,
    KEY_SCOPES,
    NOBODY,
    OTHER_USER,
    REFUSED,
    USER,
    caller_of,
)
from tests.api.sample_calls import SampleCall, operations
from tests.api.things import Things, state_of_order, things_for
from tests.factories import fresh_email, make_account
from tests.service import PASSWORD, Service

pytestmark = pytest.mark.mission("M18")

OPERATIONS = operations()
OWNED = [operation for operation in OPERATIONS if operation.is_owned]
SECURED = [operation for operation in OPERATIONS if operation.scopes]
BY_ID = {operation.id: operation for operation in OPERATIONS}
LISTING = [each for each in OPERATIONS if each.shown and BY_ID[each.shown].is_owned]
READING = [operation for operation in OPERATIONS if operation.method == "GET"]

USER_SCOPES = frozenset(
    {
        *("profile:read", "profile:write", "users:read", "users:write"),
        *("products:read", "orders:read", "orders:write"),
        *("audit:read", "tokens:read", "tokens:write", "security:read", "security:write"),
    }
)
SCOPES = {
    USER: USER_SCOPES,
    OTHER_USER: USER_SCOPES,
    KEY: frozenset(KEY_SCOPES),
    ADMINISTRATOR: USER_SCOPES
    | {"users:list", "products:write", "stock:read", "stock:write", "orders:manage", "events:read"}
    | {"jobs:read", "webhooks:read", "webhooks:write", "admin:access"},
}


def expected(operation: SampleCall, caller: str) -> int:
    """What the contract and the ownership of accounts make of it."""
    if operation.scopes is None or (operation.is_open and caller == NOBODY):
        return operation.success
    if caller in REFUSED:
        return 401
    if not operation.scopes <= SCOPES[caller]:
        return 403
    if operation.is_owned and caller == OTHER_USER:
        return 404
    return operation.success


@pytest.fixture(scope="module")
def things_of_another(service: Service) -> Callable[[str], Things]:
    """What an operation needs, made once: whoever is refused leaves it as it is."""
    owner = make_account(service)
    return cache(lambda operation_id: things_for(service, BY_ID[operation_id], owner))


@pytest.mark.parametrize("caller", [*REFUSED, *ADMITTED])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_an_operation_admits_the_callers_declared_in_the_contract(
    service: Service,
    client: httpx.Client,
    things_of_another: Callable[[str], Things],
    operation: SampleCall,
    caller: str,
) -> None:
    account, headers = {**REFUSED, **ADMITTED}[caller](service)
    # Signing in needs an address that has a password, whatever else takes one needs a free one.
    signs_in = operation.id == "create_token"
    email = make_account(service).email if signs_in else fresh_email()
    status = expected(operation, caller)
    if status == operation.success:
        asking = caller_of(service, headers) if caller in ADMITTED else account
        things = things_for(service, operation, account, asking)
    else:
        things = things_of_another(operation.id)
    answer = operation.call(
        client,
        headers | fresh_address(),
        places={**things.places, "user_id": account.id},
        members={**things.members, "email": email, "password": PASSWORD},
    )
    assert answer.status_code == status, answer.text
    # RFC 6750, section 3: whoever lacks a token, or the scope, is told so.
    assert ("www-authenticate" in answer.headers) is (answer.status_code in (401, 403))
    if answer.status_code >= 400:
        slugs = {401: "not-authenticated", 403: "not-permitted", 404: "not-found"}
        assert problem(answer) == slugs[answer.status_code]


@pytest.mark.parametrize("caller", [*REFUSED, OTHER_USER])
def test_a_refused_change_or_deletion_changes_nothing(
    service: Service, client: httpx.Client, caller: str
) -> None:
    account, headers = {**REFUSED, **ADMITTED}[caller](service)
    before = read_account(service, account.id)
    for operation in OWNED:
        things = things_for(service, operation, account)
        order_before = state_of_order(service, things)
        members = {**things.members, "name": "Mallory"}
        operation.call(client, headers, places=things.places, members=members)
        assert state_of_order(service, things) == order_before
    after = read_account(service, account.id)
    assert (after.version, after.name) == (before.version, before.name)


@pytest.mark.parametrize("operation", LISTING, ids=lambda operation: operation.id)
def test_a_list_shows_nothing_of_another_account(
    service: Service, client: httpx.Client, operation: SampleCall
) -> None:
    owner, headers = ADMITTED[OTHER_USER](service)
    shown = BY_ID[str(operation.shown)]
    (name,) = re.findall(r"{(\w+)}", shown.path)
    thing = things_for(service, shown, owner).places[name]
    answer = client.get(operation.path, headers=headers | fresh_address())
    if operation.scopes is not None and operation.scopes <= SCOPES[OTHER_USER]:
        assert answer.status_code == 200
        assert str(thing) not in [str(item["id"]) for item in answer.json()["items"]]
    else:
        assert answer.status_code == 403


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("missing", ["never used", "erased", "the largest", "zero", "not a number"])
def test_another_users_account_looks_missing(
    service: Service, client: httpx.Client, method: str, missing: str
) -> None:
    caller = bearer(token_for(service, make_account(service)))
    erased = make_account(service).id
    edit_account(service, erased, lambda session, row: row.erase(session))
    ids = {
        "never used": "987654321",
        "erased": str(erased),
        "the largest": str(2**63 - 1),
        "zero": "0",
        "not a number": "me",
    }

    def ask(user_id: str | int) -> httpx.Response:
        body = {"role": "admin", "name": "Mallory"} if method == "PATCH" else None
        headers = {**caller, "If-Match": '"999"'} if method != "GET" else caller
        return client.request(method, f"/v1/users/{user_id}", json=body, headers=headers)

    foreign, absent = comparable(ask(make_account(service).id)), comparable(ask(ids[missing]))
    assert foreign.status == 404
    if missing in ("zero", "not a number"):
        # No resource can have this path, which everybody can read in the contract.
        assert absent.status == 404
    else:
        assert foreign == absent


@pytest.mark.parametrize("operation", READING, ids=lambda operation: operation.id)
def test_head_admits_the_same_callers_as_get(
    service: Service, client: httpx.Client, operation: SampleCall
) -> None:
    for caller in (NOBODY, "disabled account", USER, OTHER_USER, ADMINISTRATOR):
        account, headers = {**REFUSED, **ADMITTED}[caller](service)
        path = operation.url(things_for(service, operation, account).places)
        got = client.get(path, params=operation.query, headers=headers | fresh_address())
        head = client.head(path, params=operation.query, headers=headers | fresh_address())
        assert head.status_code == got.status_code == expected(operation, caller)
        assert head.content == b""


def test_every_required_scope_belongs_to_some_role() -> None:
    for operation in OPERATIONS:
        assert operation.scopes is None or operation.scopes <= SCOPES[ADMINISTRATOR]


def test_administrator_operations_require_admin_access() -> None:
    reserved = SCOPES[ADMINISTRATOR] - USER_SCOPES
    for operation in OPERATIONS:
        required = (operation.scopes or frozenset()) & reserved
        assert not required or "admin:access" in required


@pytest.mark.parametrize(
    ("operation", "lacking"),
    [
        pytest.param(operation, scope, id=f"{operation.id} without {scope}")
        for operation in OPERATIONS
        for scope in sorted(operation.scopes or ())
    ],
)
def test_a_key_that_lacks_one_required_scope_is_refused(
    service: Service,
    client: httpx.Client,
    things_of_another: Callable[[str], Things],
    operation: SampleCall,
    lacking: str,
) -> None:
    administrator = make_account(service, role="admin")
    key = key_for(service, administrator, *(SCOPES[ADMINISTRATOR] - {lacking}))[1]
    things = things_of_another(operation.id)
    answer = operation.call(
        client, bearer(key) | fresh_address(), places=things.places, members=things.members
    )
    assert (answer.status_code, problem(answer)) == (403, "not-permitted")
    assert answer.json()["detail"].endswith(f": {lacking}.")
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer error="insufficient_scope", scope="')
    assert frozenset(challenge.split('"')[3].split()) == operation.scopes


@pytest.mark.parametrize("operation", SECURED, ids=lambda operation: operation.id)
def test_a_key_with_the_required_scopes_passes_the_scope_check(
    service: Service, client: httpx.Client, operation: SampleCall
) -> None:
    administrator = make_account(service, role="admin")
    key = key_for(service, administrator, *(operation.scopes or ()))[1]
    things = things_for(service, operation, administrator)
    answer = operation.call(
        client, bearer(key) | fresh_address(), places=things.places, members=things.members
    )
    # Some operations refuse every key, or give it nothing: that is no matter of their scopes.
    assert answer.status_code in (operation.success, 403), answer.text
    assert "www-authenticate" not in answer.headers
