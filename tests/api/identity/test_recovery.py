"""Emailed links: their purpose, how often they work, and for whom (MISSION M11, M13)."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import httpx
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from models.access.authenticator_app import SecondFactor
from models.access.recovery_code import RecoveryCode
from models.identity.audit_event import AuditEvent
from models.identity.one_time_token import OneTimeToken, Purpose
from models.identity.user import User
from models.messages.message import Message
from models.storage.base import Base, utcnow
from tests.api.accounts import bearer, edit_account, fresh_address, key_for, read_account, token_for
from tests.api.answers import comparable, problem
from tests.api.authenticators import enrolled
from tests.api.recovering import (
    NEW_PASSWORD,
    confirm_email,
    link_for,
    request_reset,
    reset_password,
    signs_in,
)
from tests.databases import change_all
from tests.factories import fresh_email, make_account
from tests.mailbox import folder_of, messages, secret_for, wait_for
from tests.models.actions import Change, change_user
from tests.service import CHEAP, PASSWORD, Service

pytestmark = [pytest.mark.mission("M11"), pytest.mark.mission("M13"), pytest.mark.mission("M24")]

LINKLESS = "x" * 43
PROFILE = "/v1/profile"


def register(client: httpx.Client, **members: str) -> dict[str, object]:
    body = {"name": "Ada Lovelace", "email": fresh_email(), **members}
    answer = client.post("/v1/users", json=body, headers=fresh_address())
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def ask_to_verify(client: httpx.Client, token: str) -> httpx.Response:
    return client.post("/v1/auth/email-verification", headers=bearer(token))


def ask_to_move(
    client: httpx.Client, token: str, email: str, password: str = PASSWORD
) -> httpx.Response:
    body = {"email": email, "current_password": password}
    return client.post("/v1/profile/email-change", json=body, headers=bearer(token))


def has_ended(client: httpx.Client, token: str) -> bool:
    """Whether a token holds no longer, which binds within a second."""
    deadline = time.monotonic() + 1
    while client.get(PROFILE, headers=bearer(token)).status_code == 200:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def actions(service: Service, user: User) -> list[tuple[str, bool]]:
    """What is on record of an account, in order."""
    query = select(AuditEvent.action, AuditEvent.succeeded).where(AuditEvent.user_id == user.id)
    rows = service.app.database.transact(
        lambda session: session.execute(query.order_by(AuditEvent.id)).all(), write=False
    )
    return [(action, succeeded) for action, succeeded in rows]


def rows_of(service: Service, user: User, *tables: type[SecondFactor] | type[RecoveryCode]) -> int:
    """How many rows of some tables are an account's."""

    def read(session: Session) -> int:
        each = (select(func.count()).where(table.user_id == user.id) for table in tables)
        return sum(session.scalar(query) or 0 for query in each)

    return service.app.database.transact(read, write=False)


def counts(service: Service, *tables: type[Base]) -> list[int]:
    """How many rows tables have."""

    def read(session: Session) -> list[int]:
        each = (select(func.count()).select_from(table) for table in tables)
        return [session.scalar(query) or 0 for query in each]

    return service.app.database.transact(read, write=False)


def test_a_new_user_is_welcomed_and_verifies_the_address(
    service: Service, client: httpx.Client
) -> None:
    user = register(client, password=PASSWORD)
    secret = secret_for(service, str(user["email"]), "welcome")
    assert not user["email_verified"]

    answer = confirm_email(client, secret)

    assert (answer.status_code, answer.content) == (204, b"")
    account = read_account(service, int(str(user["id"])))
    assert account.email_verified
    assert actions(service, account) == [("account.create", True), ("email.verify", True)]
    again = confirm_email(client, secret)
    assert again.status_code == 422
    assert problem(again) == "invalid-link"


def test_an_account_without_password_sets_one_by_the_welcome_link(
    service: Service, client: httpx.Client
) -> None:
    user = register(client)
    email = str(user["email"])
    secret = secret_for(service, email, "welcome")
    assert reset_password(client, secret).status_code == 204
    assert signs_in(client, email, NEW_PASSWORD)
    # The link was read there.
    assert read_account(service, int(str(user["id"]))).email_verified


def test_a_verification_link_can_be_requested(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    token = token_for(service, user)
    answer = ask_to_verify(client, token)
    assert (answer.status_code, answer.content) == (202, b"")
    secret = secret_for(service, user.email, "verify_email")
    assert confirm_email(client, secret).status_code == 204
    # The session goes on, and what is verified is not verified again.
    before = counts(service, Message)
    assert ask_to_verify(client, token).status_code == 202
    assert counts(service, Message) <= before
    assert len(messages(folder_of(service), user.email, "verify_email")) == 1


def test_an_account_moves_to_an_address_that_its_owner_confirms(
    service: Service, client: httpx.Client
) -> None:
    user, email = make_account(service, verified=True), fresh_email()
    token = token_for(service, user)
    assert ask_to_move(client, token, email).status_code == 202
    secret = secret_for(service, email, "change_email")
    assert read_account(service, user.id).email == user.email
    assert client.get(PROFILE, headers=bearer(token)).status_code == 200

    assert confirm_email(client, secret).status_code == 204

    moved = read_account(service, user.id)
    assert (moved.email, moved.email_verified) == (email, True)
    assert has_ended(client, token)
    assert signs_in(client, email, PASSWORD)
    assert not signs_in(client, user.email, PASSWORD)
    wait_for(folder_of(service), user.email, "email_changed")
    assert actions(service, user)[:2] == [("email.change-request", True), ("email.change", True)]
    assert problem(confirm_email(client, secret)) == "invalid-link"


def test_an_unverified_address_gets_no_notice_of_a_move(
    service: Service, client: httpx.Client
) -> None:
    # Its owner may know nothing of the account.
    user, email = make_account(service), fresh_email()
    assert ask_to_move(client, token_for(service, user), email).status_code == 202
    assert confirm_email(client, secret_for(service, email, "change_email")).status_code == 204
    # Messages are sent in turn, so that one to it would have been sent before this one.
    other = make_account(service)
    assert ask_to_verify(client, token_for(service, other)).status_code == 202
    secret_for(service, other.email, "verify_email")
    assert messages(folder_of(service), user.email, "email_changed") == []


def test_moving_requires_the_password_and_a_valid_address(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    token = token_for(service, user)
    wrong = ask_to_move(client, token, fresh_email(), "wrong")
    assert (wrong.status_code, problem(wrong)) == (403, "wrong-password")
    for email in ("nobody", "a@localhost", "\u0430da@concord.example"):
        invalid = ask_to_move(client, token, email)
        assert invalid.status_code == 422
        assert invalid.json()["errors"][0]["pointer"] == "/email"
    # One's own address in other letters is not somebody else's.
    assert ask_to_move(client, token, user.email.upper()).status_code == 202
    assert counts(service, OneTimeToken) >= [0]
    secret = secret_for(service, user.email.upper(), "change_email")
    assert confirm_email(client, secret).status_code == 204
    assert read_account(service, user.id).email == user.email.upper()


@pytest.mark.mission("M18")
def test_moving_does_not_reveal_who_has_an_account(service: Service, client: httpx.Client) -> None:
    user, other = make_account(service), make_account(service)
    token, taken = token_for(service, user), other.email.upper()
    answers = [comparable(ask_to_move(client, token, email)) for email in (fresh_email(), taken)]
    assert answers[0] == answers[1]
    assert answers[0].status == 202
    # Whoever reads mail there is told.
    secret = secret_for(service, taken, "change_email")
    refused = confirm_email(client, secret)
    assert (refused.status_code, problem(refused)) == (409, "email-taken")


def test_an_unsent_link_is_not_sent_after_a_reset(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, email = make_account(service), fresh_email()
    token = token_for(service, user)
    with monkeypatch.context() as held:
        held.setattr(Message, "is_any_due", lambda _session: False)
        assert ask_to_move(client, token, email).status_code == 202
        assert ask_to_verify(client, token).status_code == 202
        secret = link_for(service, user, "set_password")
        assert reset_password(client, secret).status_code == 204
    wait_for(folder_of(service), user.email, "password_changed")
    wait_until_sent(service)
    assert messages(folder_of(service), email, "change_email") == []
    assert messages(folder_of(service), user.email, "verify_email") == []


def test_an_account_cannot_move_to_an_address_taken_meanwhile(
    service: Service, client: httpx.Client
) -> None:
    user, email = make_account(service), fresh_email()
    secret = link_for(service, user, "change_email", email=email)
    other = make_account(service, email=email.upper())
    refused = confirm_email(client, secret)
    assert (refused.status_code, problem(refused)) == (409, "email-taken")
    assert read_account(service, user.id).email == user.email
    # The link stays good, should the other one leave.
    edit_account(service, other.id, lambda session, row: row.erase(session))
    assert confirm_email(client, secret).status_code == 204


@pytest.mark.mission("M25")
def test_one_of_concurrent_moves_to_one_address_succeeds(
    service: Service, client: httpx.Client
) -> None:
    email = fresh_email()
    secrets = [
        link_for(service, make_account(service), "change_email", email=email) for _ in range(6)
    ]

    def register_there(number: int) -> httpx.Response:
        body = {"name": f"Person {number}", "email": email.upper()}
        return client.post("/v1/users", json=body, headers=fresh_address())

    with ThreadPoolExecutor(8) as pool:
        moving = pool.map(partial(confirm_email, client), secrets)
        registering = pool.map(register_there, range(4))
        statuses = sorted(answer.status_code for answer in (*moving, *registering))
    assert statuses[0] in (201, 204)
    assert statuses[1:] == [409] * 9


def test_a_password_reset_ends_all_sessions(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    token = token_for(service, user)
    answer = request_reset(client, user.email.upper())
    assert (answer.status_code, answer.content) == (202, b"")
    secret = secret_for(service, user.email, "set_password")
    assert signs_in(client, user.email, PASSWORD)
    edit_account(
        service, user.id, lambda _session, row: setattr(row, "password_change_required", True)
    )

    same = reset_password(client, secret, PASSWORD)
    assert (same.status_code, problem(same)) == (422, "weak-password")
    assert reset_password(client, secret).status_code == 204

    assert has_ended(client, token)
    assert not signs_in(client, user.email, PASSWORD)
    assert signs_in(client, user.email, NEW_PASSWORD)
    account = read_account(service, user.id)
    assert account.email_verified
    assert not account.password_change_required
    wait_for(folder_of(service), user.email, "password_changed")
    known = actions(service, user)
    assert ("password.reset-request", True) in known
    assert ("password.reset", True) in known


def test_a_refused_password_does_not_use_up_the_link(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    secret = link_for(service, user, "set_password")
    for password in ("password123", user.email):
        weak = reset_password(client, secret, password)
        assert (weak.status_code, problem(weak)) == (422, "weak-password")
        assert weak.json()["errors"][0]["pointer"] == "/password"
    assert problem(reset_password(client, secret, "short")) == "invalid-body"
    assert reset_password(client, secret).status_code == 204


@pytest.mark.mission("M18")
def test_a_reset_does_not_reveal_who_has_an_account(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, disabled = make_account(service), make_account(service)
    edit_account(service, disabled.id, lambda session, row: row.change(session, active=False))
    answers, written = [], []
    with monkeypatch.context() as held:
        held.setattr(Message, "is_any_due", lambda _session: False)
        for email in (known.email, disabled.email, fresh_email(), "nobody@localhost"):
            before = counts(service, Message, AuditEvent)
            answers.append(comparable(request_reset(client, email)))
            after = counts(service, Message, AuditEvent)
            written.append([now - then for now, then in zip(after, before, strict=True)])
    assert all(answer == answers[0] for answer in answers)
    assert answers[0].status == 202
    assert written == [[1, 0]] * 4
    wait_for(folder_of(service), known.email, "set_password")
    wait_until_sent(service)
    assert messages(folder_of(service), disabled.email, "set_password") == []
    assert actions(service, known) == [("password.reset-request", True)]
    assert actions(service, disabled) == [("password.reset-request", False)]


def wait_until_sent(service: Service) -> None:
    """Wait until no message waits."""
    deadline = time.monotonic() + 10
    while counts(service, Message) != [0]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.mission("M25")
def test_a_link_used_fifty_times_at_once_works_once(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    secret = link_for(service, user, "set_password")
    verifying = link_for(service, make_account(service), "verify_email")
    passwords = [f"{NEW_PASSWORD} {number}" for number in range(50)]
    with ThreadPoolExecutor(25) as pool:
        resets = list(pool.map(partial(reset_password, client, secret), passwords))
        confirmed = list(pool.map(partial(confirm_email, client), [verifying] * 50))
    # A link to confirm an address takes ten tries, because the password can be guessed with it.
    for answers, tries in ((resets, 50), (confirmed, 10)):
        statuses = [204, *[422] * (tries - 1), *[429] * (50 - tries)]
        assert sorted(answer.status_code for answer in answers) == statuses
        refused = {problem(answer) for answer in answers if answer.status_code == 422}
        assert refused == {"invalid-link"}
    winner = [answer.status_code for answer in resets].index(204)
    assert signs_in(client, user.email, passwords[winner])
    assert read_account(service, user.id).version == user.version + 1


def test_a_link_is_valid_until_it_expires(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    secrets = [
        link_for(service, user, "set_password"),
        link_for(service, user, "verify_email"),
        link_for(service, user, "change_email", email=fresh_email()),
    ]
    age = update(OneTimeToken).where(OneTimeToken.user_id == user.id)
    over = age.values(expires_at=utcnow() - timedelta(seconds=1))
    service.app.database.transact(lambda session: session.execute(over), write=True)
    answers = [
        reset_password(client, secrets[0]),
        confirm_email(client, secrets[1]),
        confirm_email(client, secrets[2]),
    ]
    assert [problem(answer) for answer in answers] == ["invalid-link"] * 3
    change_all(service.app.database, OneTimeToken.purge)
    left = select(OneTimeToken).where(OneTimeToken.user_id == user.id)
    rows = service.app.database.transact(lambda session: session.scalars(left).all(), write=False)
    assert rows == []


def test_requests_by_strangers_do_not_disturb_a_recovery(
    service: Service, client: httpx.Client
) -> None:
    user = register(client)
    email = str(user["email"])
    invitation = secret_for(service, email, "welcome")
    request_reset(client, email)
    own = secret_for(service, email, "set_password")
    strangers = [request_reset(client, email).status_code for _ in range(40)]
    assert strangers == [202] * 40
    wait_until_sent(service)
    # The owner can ask as before, and the link that came first is as good as the last.
    assert request_reset(client, email).status_code == 202
    assert reset_password(client, invitation, "password123").json()["code"] == "weak-password"
    assert reset_password(client, own).status_code == 204
    # A password that is set ends all of them.
    assert problem(reset_password(client, invitation)) == "invalid-link"


def test_registering_with_tags_does_not_flood_a_mailbox(
    service: Service, client: httpx.Client
) -> None:
    name, _, domain = fresh_email().partition("@")
    emails = [f"{name}+{number}@{domain}" for number in range(12)]
    for email in emails:
        register(client, email=email)
    wait_until_sent(service)
    sent = [messages(folder_of(service), email, "welcome") for email in emails]
    assert sum(map(len, sent)) == 5
    # Those whom no message welcomed get a link when they ask for one.
    assert request_reset(client, emails[-1]).status_code == 202
    secret = secret_for(service, emails[-1], "set_password")
    assert reset_password(client, secret).status_code == 204


def test_a_link_survives_unrelated_changes(service: Service, client: httpx.Client) -> None:
    user = make_account(service, role="admin")
    make_account(service, role="admin")
    reset, verification = (
        link_for(service, user, purpose) for purpose in ("set_password", "verify_email")
    )
    changes: list[Change] = [
        {"role": "user"},
        {"role": "admin"},
        {"name": "Alice Baker"},
        {"password_change_required": True},
        {"active": True},
    ]
    for change in changes:
        change_user(service.app.database, user.id, **change)
    edit_account(service, user.id, lambda session, row: row.end_tokens(session))
    rehash = CHEAP.hash(PASSWORD, email=user.email)
    edit_account(service, user.id, lambda session, row: row.upgrade_password_hash(session, rehash))
    assert confirm_email(client, verification).status_code == 204
    assert reset_password(client, reset).status_code == 204


def test_a_verification_survives_a_new_password_only(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    first, second = (link_for(service, user, "verify_email") for _ in range(2))
    reset = link_for(service, user, "set_password")
    new_hash = CHEAP.hash(NEW_PASSWORD, email=user.email)
    edit_account(service, user.id, lambda s, row: row.change(s, password_hash=new_hash))
    assert confirm_email(client, first, NEW_PASSWORD).status_code == 204
    email = fresh_email()
    edit_account(service, user.id, lambda s, row: row.change(s, email=email))
    reset = link_for(service, read_account(service, user.id), "set_password")
    edit_account(service, user.id, lambda s, row: row.change(s, email=fresh_email()))
    assert problem(confirm_email(client, second, NEW_PASSWORD)) == "invalid-link"
    assert problem(reset_password(client, reset)) == "invalid-link"


def test_disabling_an_account_ends_its_links(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    reset = link_for(service, user, "set_password")
    move = link_for(service, user, "change_email", email=fresh_email())
    for active in (False, True):
        change_user(service.app.database, user.id, active=active)
    assert problem(reset_password(client, reset)) == "invalid-link"
    assert problem(confirm_email(client, move)) == "invalid-link"


@pytest.mark.parametrize("how", ["password", "session.end-all", "role"])
def test_a_move_ends_with_the_sessions_of_the_account(
    service: Service, client: httpx.Client, how: str
) -> None:
    user = make_account(service)
    move = link_for(service, user, "change_email", email=fresh_email())
    new_hash = CHEAP.hash(PASSWORD, email=user.email)
    edits: Mapping[str, Callable[[Session, User], None]] = {
        "password": lambda session, row: row.change(session, password_hash=new_hash),
        "session.end-all": lambda session, row: row.end_tokens(session),
        "role": lambda session, row: row.change(session, role="admin"),
    }
    edit_account(service, user.id, edits[how])
    assert problem(confirm_email(client, move)) == "invalid-link"


def test_the_owner_of_an_address_recovers_a_squatted_account(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    session, key = token_for(service, user), key_for(service, user, "profile:read")[1]
    # An earlier release let the stranger enrol an app.
    enrolled(service, user)
    edit_account(service, user.id, lambda _, row: setattr(row, "email_verified", False))
    stranger = fresh_email()
    move = link_for(service, user, "change_email", email=stranger)

    secret = link_for(service, user, "set_password")
    assert reset_password(client, secret).status_code == 204

    assert signs_in(client, user.email, NEW_PASSWORD)
    assert not signs_in(client, user.email, PASSWORD)
    assert has_ended(client, session)
    assert has_ended(client, key)
    assert problem(confirm_email(client, move)) == "invalid-link"
    owner = read_account(service, user.id)
    assert owner.email_verified
    assert rows_of(service, user, SecondFactor, RecoveryCode) == 0
    assert ("second-factor.disable", True) in actions(service, user)


def test_a_reset_keeps_the_second_factor_of_a_verified_address(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service, verified=True)
    enrolled(service, user)
    assert reset_password(client, link_for(service, user, "set_password")).status_code == 204
    assert not signs_in(client, user.email, NEW_PASSWORD)
    assert rows_of(service, user, SecondFactor, RecoveryCode) == 11


@pytest.mark.parametrize("purpose", ["verify_email", "change_email"])
def test_confirming_an_address_requires_the_password(
    service: Service, client: httpx.Client, purpose: Purpose
) -> None:
    user, email = make_account(service), fresh_email()
    before = user.email if purpose == "verify_email" else email
    secret = link_for(service, user, purpose, email=before)
    refused = confirm_email(client, secret, "not the password")
    assert (refused.status_code, problem(refused)) == (403, "wrong-password")
    action = "email.verify" if purpose == "verify_email" else "email.change"
    assert actions(service, user) == [(action, False)]
    unchanged = read_account(service, user.id)
    assert (unchanged.email, unchanged.email_verified) == (user.email, False)
    # The password is looked at only with a link, and the link is not used up by a wrong one.
    assert problem(confirm_email(client, LINKLESS)) == "invalid-link"
    assert confirm_email(client, secret).status_code == 204


def test_verifying_keeps_the_registering_session(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    session, key = token_for(service, user), key_for(service, user, "profile:read")[1]
    assert confirm_email(client, link_for(service, user, "verify_email")).status_code == 204
    for credential in (session, key):
        assert client.get(PROFILE, headers=bearer(credential)).status_code == 200


def test_a_link_is_valid_for_its_purpose_only(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    others: tuple[Purpose, ...] = ("verify_email", "change_email", "second_factor")
    for purpose in others:
        secret = link_for(service, user, purpose)
        assert problem(reset_password(client, secret)) == "invalid-link"
    for purpose in others[2:]:
        secret = link_for(service, user, purpose)
        assert problem(confirm_email(client, secret)) == "invalid-link"
    assert problem(confirm_email(client, LINKLESS)) == "invalid-link"
    unchanged = read_account(service, user.id)
    assert (unchanged.version, unchanged.email_verified) == (user.version, False)


def test_ending_sessions_ends_links(service: Service, client: httpx.Client) -> None:
    def by_password(user: User) -> None:
        body = {"password": NEW_PASSWORD, "current_password": PASSWORD}
        headers = bearer(token_for(service, user))
        assert client.patch(PROFILE, json=body, headers=headers).status_code == 200

    def by_administrator(user: User) -> None:
        edit_account(service, user.id, lambda session, row: row.change(session, active=False))

    def by_leaving(user: User) -> None:
        headers = bearer(token_for(service, user))
        assert client.delete(f"/v1/users/{user.id}", headers=headers).status_code == 204

    for end in (by_password, by_administrator, by_leaving):
        user = make_account(service)
        secret = link_for(service, user, "set_password")
        end(user)
        assert problem(reset_password(client, secret)) == "invalid-link"


def test_the_owner_is_notified_of_a_password_change(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    body = {"password": NEW_PASSWORD, "current_password": PASSWORD}
    headers = bearer(token_for(service, user))
    assert client.patch(PROFILE, json=body, headers=headers).status_code == 200
    wait_for(folder_of(service), user.email, "password_changed")


def test_an_erased_account_leaves_no_message_and_no_link(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Message, "is_any_due", lambda _session: False)
    user = make_account(service)
    headers = bearer(token_for(service, user))
    request_reset(client, user.email.upper())
    link_for(service, user, "verify_email")
    assert ask_to_move(client, token_for(service, user), fresh_email()).status_code == 202
    assert client.delete(f"/v1/users/{user.id}", headers=headers).status_code == 204

    def left(session: Session) -> str:
        return repr(session.scalars(select(Message.email)).all())

    assert user.email not in service.app.database.transact(left, write=False)
    gone = select(Message.user_id).union_all(select(OneTimeToken.user_id))
    owners = service.app.database.transact(lambda s: s.scalars(gone).all(), write=False)
    assert user.id not in owners


def test_no_secret_of_a_link_is_stored(
    service: Service, client: httpx.Client, capfd: pytest.CaptureFixture[str]
) -> None:
    user = make_account(service)
    request_reset(client, user.email)
    secret = secret_for(service, user.email, "set_password")

    def everything(session: Session) -> str:
        names = Base.metadata.tables
        return repr([session.execute(text(f"SELECT * FROM {name}")).all() for name in names])  # noqa: S608 - our tables.

    kept = service.app.database.transact(everything, write=False)
    assert secret not in kept
    assert reset_password(client, secret, "password123").status_code == 422
    assert reset_password(client, secret).status_code == 204
    logged = "".join(capfd.readouterr())
    assert secret not in logged
    assert user.email not in logged
    assert NEW_PASSWORD not in logged


def test_an_address_cannot_change_without_a_link(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    headers = bearer(token_for(service, user))
    body = {"email": fresh_email(), "current_password": PASSWORD}
    for path in (PROFILE, f"/v1/users/{user.id}"):
        answer = client.patch(path, json=body, headers=headers)
        assert (answer.status_code, problem(answer)) == (422, "invalid-body")
    assert read_account(service, user.id).email == user.email
