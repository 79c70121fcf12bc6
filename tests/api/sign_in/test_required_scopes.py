"""Members of bodies that require further scopes, as `x-requires-scopes` declares them (M18)."""

from dataclasses import replace

import httpx
import pytest

from models.identity.permission import SCOPES_OF_ROLE
from tests.api.accounts import bearer, fresh_address, key_for
from tests.api.answers import problem
from tests.api.sample_calls import operations
from tests.api.things import things_for
from tests.contract.walk import operations as declared_operations
from tests.factories import make_account
from tests.our_document import our_document
from tests.service import Service

pytestmark = [pytest.mark.mission("M18"), pytest.mark.mission("M28")]

BUNDLE = our_document().bundle
CALLS = {each.id: each for each in operations()}
REQUIRED = [
    (operation.node["operationId"], member.removeprefix("#/"), scope)
    for operation in declared_operations(BUNDLE)
    for required in operation.node.get("x-requires-scopes", ())
    for member in required["when-given"]
    for scope in required["scopes"]
]


def test_ordering_for_others_requires_scopes() -> None:
    assert {("create_order", "user_id", scope) for scope in ("admin:access", "orders:manage")} <= {
        *REQUIRED
    }


@pytest.mark.parametrize(("operation_id", "member", "lacking"), REQUIRED)
def test_a_key_without_the_scope_of_a_member_is_refused(
    service: Service, client: httpx.Client, operation_id: str, member: str, lacking: str
) -> None:
    operation, owner = CALLS[operation_id], make_account(service)
    administrator = make_account(service, role="admin")
    scopes = set(SCOPES_OF_ROLE["admin"]) - {"tokens:write", "security:write", lacking}
    headers = bearer(key_for(service, administrator, *scopes)[1]) | fresh_address()
    things = things_for(service, operation, owner, administrator)
    given = replace(operation, body={**(operation.body or {}), member: owner.id})

    refused, without = (
        each.call(client, headers, places=things.places, members=things.members)
        for each in (given, operation)
    )

    assert (refused.status_code, problem(refused)) == (403, "not-permitted")
    assert refused.json()["detail"].endswith(f": {lacking}.")
    assert lacking in refused.headers["www-authenticate"].split('"')[3].split()
    assert without.status_code == operation.success
