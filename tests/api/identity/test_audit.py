"""Audit events: their content, and who may read them."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from models.identity.audit_event import AuditAction, AuditEvent, RequestOrigin
from tests.api.accounts import bearer, edit_account, fresh_address, read_account, token_for
from tests.api.resources import BUNDLE
from tests.databases import change_all, delete_ended
from tests.factories import fresh_email, make_account
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


def test_the_actions_are_those_in_the_contract() -> None:
    declared = BUNDLE["components"]["schemas"]["AuditAction"]["enum"]
    assert declared == sorted(AuditAction.__args__)  # type: ignore[attr-defined]  # of a Literal.


def test_an_event_records_actor_action_target_origin_and_outcome(
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


def test_every_sign_in_attempt_is_recorded(service: Service, client: httpx.Client) -> None:
    user, boss = make_account(service), make_account(service, role="admin")
    own, admin = bearer(token_for(service, user)), bearer(token_for(service, boss))
    try_to_sign_in(client, user.email, "not this one")
    try_to_sign_in(client, user.email, PASSWORD)
    assert [event["succeeded"] for event in read(client, own, action="sign-in")] == [True, False]
    try_to_sign_in(client, fresh_email(), PASSWORD, **{"X-Request-ID": "a-stranger-2"})
    latest = read(client, admin, action="sign-in")
    unknown = next(event for event in latest if event["request_id"] == "a-stranger-2")
    assert (unknown["user_id"], unknown["actor_id"], unknown["succeeded"]) == (None, None, False)


def test_users_read_events_about_themselves_and_administrators_all(
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


def test_events_are_filtered_by_time_and_paged(service: Service, client: httpx.Client) -> None:
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


def test_events_are_kept_for_the_configured_time(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    own = bearer(token_for(service, user))
    try_to_sign_in(client, user.email, PASSWORD)
    change_all(service.app.database, partial(AuditEvent.purge, timedelta(hours=1)))
    assert len(read(client, own)) == 1
    change_all(service.app.database, partial(AuditEvent.purge, timedelta(0)))
    assert read(client, own) == []


def test_a_wrong_current_password_is_recorded(service: Service, client: httpx.Client) -> None:
    own = bearer(token_for(service, make_account(service)))
    change = {"password": "eleven quiet harbours", "current_password": "not this one"}
    answer = client.patch("/v1/profile", json=change, headers=own | fresh_address())
    assert answer.status_code == 403
    event = read(client, own)[0]
    assert (event["action"], event["succeeded"]) == ("password.change", False)


def test_only_administrators_see_the_addresses_of_administrators(
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


def test_events_written_during_an_erasure_are_emptied(service: Service) -> None:
    user = make_account(service)
    edit_account(service, user.id, lambda session, row: row.erase(session))
    record = partial(
        AuditEvent.record,
        action="sign-in",
        origin=RequestOrigin("203.0.113.9", "id"),
        user_id=user.id,
    )
    service.app.database.transact(record, write=True)
    delete_ended(service.app.database)
    query = select(AuditEvent.address, AuditEvent.request_id).where(AuditEvent.user_id == user.id)
    rows = service.app.database.transact(lambda session: session.execute(query).all(), write=False)
    assert [tuple(row) for row in rows] == [(None, None)]
