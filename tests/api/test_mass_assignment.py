"""Members that a request does not have, slipped into it: none of them does anything (TRUST 16)."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.contract.document import load_document
from models.user import User
from tests.api.accounts import (
    bearer,
    fresh_address,
    fresh_email,
    make_account,
    read_account,
    token_for,
)
from tests.api.calling import Operation, operations
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M11"), pytest.mark.mission("M18")]

WRITING = [operation for operation in operations() if operation.body is not None]
VALUES: dict[str, object] = {
    "id": 1,
    "role": "admin",
    "active": False,
    "email_verified": True,
    "created_at": "2020-01-01T00:00:00Z",
    "updated_at": "2020-01-01T00:00:00Z",
    "scope": "users:list",
    "expires_in": 10**6,
}
"""What a member that somebody might want to set would be set to."""


def _declared_anywhere() -> Iterator[str]:
    bundle = load_document(Path(__file__).parents[2] / "openapi").bundle
    for schema in bundle["components"]["schemas"].values():
        yield from schema.get("properties", ())


STORED = tuple(column.name for column in User.__table__.columns)
FAVOURITES = (
    "is_admin",
    "admin",
    "scopes",
    "user_id",
    "owner_id",
    "__class__",
    "__proto__",
    "$ref",
)
MEMBERS = sorted({*_declared_anywhere(), *STORED, *FAVOURITES})


@pytest.mark.parametrize("operation", WRITING, ids=lambda operation: operation.id)
def test_no_member_slipped_into_a_request_changes_anything(
    service: Service, client: httpx.Client, operation: Operation
) -> None:
    user = make_account(service)
    own = bearer(token_for(service, user))
    registering = operation.success == 201
    body = {"name": "Mallory"} if operation.method == "PATCH" else dict(operation.body or {})
    email = (
        {}
        if operation.method == "PATCH"
        else {"email": fresh_email() if registering else user.email}
    )
    for member in MEMBERS:
        if member in (operation.body or {}) or member in ("email", "password", "current_password"):
            continue
        answer = client.request(
            operation.method,
            operation.path.format(user_id=user.id),
            json={**body, **email, member: VALUES.get(member, "x")},
            headers=own | fresh_address(),
        )
        # Where the member is declared, it is another's to change.
        assert answer.status_code in (403, 422), member
    after = read_account(service, user.id)
    assert (after.role, after.active, after.email_verified) == ("user", True, False)
    assert (after.version, after.token_version) == (user.version, user.token_version)
    if registering:
        assert _by_email(service, email["email"]) is None


def _by_email(service: Service, email: str) -> User | None:
    return service.app.database.transact(lambda session: User.by_email(session, email), write=False)


@pytest.mark.parametrize("operation", WRITING, ids=lambda operation: operation.id)
def test_no_member_of_the_query_or_the_headers_stands_for_one_of_the_body(
    service: Service, client: httpx.Client, operation: Operation
) -> None:
    user = make_account(service)
    answer = client.request(
        operation.method,
        operation.path.format(user_id=user.id),
        params={"role": "admin"},
        json={"name": "Mallory"},
        headers=bearer(token_for(service, user)) | fresh_address(),
    )
    assert answer.status_code == 400
    assert read_account(service, user.id).role == "user"


def test_a_person_registers_as_an_ordinary_user_only(
    service: Service, client: httpx.Client
) -> None:
    boss = bearer(token_for(service, make_account(service, role="admin")))
    body = {"name": "Ada", "email": fresh_email(), "password": PASSWORD}
    made = client.post("/v1/users", json=body, headers=boss | fresh_address())
    assert made.json()["role"] == "user"
    assert not made.json()["email_verified"]
