"""What is written down about accounts, and who may read it."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from models.audit_event import AuditAction, AuditEvent, Origin, forget_erased, purge_events
from tests.api.accounts import (
    bearer,
    edit_account,
    fresh_address,
    fresh_email,
    make_account,
    read_account,
    token_for,
)
from tests.api.resources import BUNDLE
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M14"), pytest.mark.mission("M18")]

EVENTS = "/v1/audit-events"


def read(client: httpx.Client, headers: dict[str, str], **query: str | int) -> list[dict[str, Any]]:
    answer = client.get(EVENTS, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def try_to_sign_in(client: httpx.Client, email: str, password: str, **headers: str) -> None:
    credentials = {"email": email, "password": password}
    client.post("/v1/auth/token", json=credentials, headers={**fresh_address(), **headers})


def test_the_actions_are_those_of_the_contract() -> None:
    declared = BUNDLE["components"]["schemas"]["AuditAction"]["enum"]
    assert declared == sorted(AuditAction.__args__)  # type: ignore[attr-defined]  # of a Literal.


def test_an_event_says_who_what_whom_from_where_and_whether(
    service: Service, client: httpx.Client
) -> None:
    user, boss = make_account(service), make_account(service, role="admin")
    admin = {**bearer(token_for(service, boss)), "X-Request-ID": "look-here-1"}
    admin["X-Forwarded-For"] = "203.0.113.77"
    client.patch(f"/v1/users/{user.id}", json={"active": False}, headers=admin)
    event = read(client, admin, user_id=user.id)[0]
    assert event["action"] == "account.disable"
    assert event["succeeded"] is True
    assert (event["user_id"], event["actor_id"]) == (user.id, boss.id)
    assert event["token_id"] is not None
    assert (event["address"], event["request_id"]) == ("203.0.113.77", "look-here-1")
    assert datetime.now(UTC) - datetime.fromisoformat(event["created_at"]) < timedelta(minutes=1)


def test_every_attempt_to_sign_in_is_written_down(service: Service, client: httpx.Client) -> None:
    user, boss = make_account(service), make_account(service, role="admin")
    own, admin = bearer(token_for(service, user)), bearer(token_for(service, boss))
    try_to_sign_in(client, user.email, "not this one")
    try_to_sign_in(client, user.email, PASSWORD)
    assert [event["succeeded"] for event in read(client, own, action="sign-in")] == [True, False]
    try_to_sign_in(client, fresh_email(), PASSWORD, **{"X-Request-ID": "a-stranger-2"})
    latest = read(client, admin, action="sign-in")
    unknown = next(event for event in latest if event["request_id"] == "a-stranger-2")
    assert (unknown["user_id"], unknown["actor_id"], unknown["succeeded"]) == (None, None, False)


def test_people_read_what_was_done_to_them_and_administrators_everything(
    service: Service, client: httpx.Client
) -> None:
    user, other = make_account(service), make_account(service)
    boss = make_account(service, role="admin")
    own, admin = bearer(token_for(service, user)), bearer(token_for(service, boss))
    for account in (user, other):
        client.post(f"/v1/users/{account.id}/logout", headers=admin)
    own = bearer(token_for(service, user.__class__(id=user.id, role="user", token_version=2)))
    assert {event["user_id"] for event in read(client, own)} == {user.id}
    assert read(client, own, user_id=other.id) == []
    assert read(client, admin, user_id=other.id)[0]["action"] == "session.end-all"


def test_events_are_narrowed_by_time_and_come_in_pages(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    own = bearer(token_for(service, user))
    for _ in range(5):
        try_to_sign_in(client, user.email, PASSWORD)
    everything = read(client, own)
    assert [event["id"] for event in everything] == sorted(
        (event["id"] for event in everything), reverse=True
    )
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = client.get(EVENTS, params=query, headers=own).json()
        found += [event["id"] for event in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found == [event["id"] for event in everything]
    middle = everything[2]["created_at"]
    later = read(client, own, created_from=middle)
    earlier = read(client, own, created_to=middle)
    assert {event["id"] for event in later} | {event["id"] for event in earlier} == set(found)
    assert not {event["id"] for event in later} & {event["id"] for event in earlier}
    assert everything[0]["id"] in {event["id"] for event in later}


def test_events_cannot_be_changed_or_removed(client: httpx.Client) -> None:
    answer = client.request("OPTIONS", EVENTS)
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert client.request("OPTIONS", f"{EVENTS}/1").status_code == 404


def test_events_are_kept_for_as_long_as_the_settings_say(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    own = bearer(token_for(service, user))
    try_to_sign_in(client, user.email, PASSWORD)
    purge_events(service.app.database, timedelta(hours=1))
    assert len(read(client, own)) == 1
    purge_events(service.app.database, timedelta(0))
    assert read(client, own) == []


def test_a_wrong_current_password_is_written_down(service: Service, client: httpx.Client) -> None:
    own = bearer(token_for(service, make_account(service)))
    change = {"password": "eleven quiet harbours", "current_password": "not this one"}
    answer = client.patch("/v1/profile", json=change, headers=own | fresh_address())
    assert answer.status_code == 403
    event = read(client, own)[0]
    assert (event["action"], event["succeeded"]) == ("password.change", False)


def test_from_where_an_administrator_works_is_shown_to_administrators_only(
    service: Service, client: httpx.Client
) -> None:
    user, boss = make_account(service), make_account(service, role="admin")
    admin = bearer(token_for(service, boss)) | {"X-Forwarded-For": "203.0.113.78"}
    client.patch(f"/v1/users/{user.id}", json={"active": False}, headers=admin)
    client.patch(f"/v1/users/{user.id}", json={"active": True}, headers=admin)
    own = bearer(token_for(service, read_account(service, user.id)))
    assert {event["address"] for event in read(client, own)} == {None}
    assert {event["token_id"] for event in read(client, own)} == {None}
    assert {event["address"] for event in read(client, admin, user_id=user.id)} == {"203.0.113.78"}


def test_what_was_written_while_an_account_was_erased_is_emptied(service: Service) -> None:
    user = make_account(service)
    edit_account(service, user.id, lambda session, row: row.erase(session))
    record = partial(
        AuditEvent.record, action="sign-in", origin=Origin("203.0.113.9", "id"), user_id=user.id
    )
    service.app.database.transact(record, write=True)
    forget_erased(service.app.database)
    query = select(AuditEvent.address, AuditEvent.request_id).where(AuditEvent.user_id == user.id)
    rows = service.app.database.transact(lambda session: session.execute(query).all(), write=False)
    assert [tuple(row) for row in rows] == [(None, None)]
