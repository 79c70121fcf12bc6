"""A person gets all that is kept of them as one document, and nobody else does (MISSION M30)."""

import httpx
import pytest

from tests.api.accounts import bearer, fresh_address, key_for, read_account, token_for
from tests.api.answers import problem
from tests.api.authenticators import enrolled
from tests.api.identity.test_erasure import DETAILS, HERE, SECRET
from tests.api.recovering import link_for, request_reset
from tests.api.shopping import SHIPMENT, Shopper, lines, payment
from tests.factories import make_account, make_product
from tests.service import PASSWORD, Service

pytestmark = pytest.mark.mission("M30")

URL = "/v1/profile/export"


@pytest.fixture
def admin(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client, admin=True)


def test_the_export_has_everything_that_is_kept_of_a_person(
    service: Service, client: httpx.Client, admin: Shopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.messages.message.Message.is_any_due", lambda _session: False)
    user = make_account(service, email=f"{SECRET}.exported@concord.example")
    signed_in = client.post(
        "/v1/auth/token", json={"email": user.email, "password": PASSWORD}, headers=HERE
    )
    me = bearer(signed_in.json()["access_token"]) | HERE
    _, key = key_for(service, user, "orders:read")
    app = enrolled(service, user)
    request_reset(client, user.email)
    link = link_for(service, user, "change_email", email=f"{SECRET}2@concord.example")
    product = make_product(service.app.database, price=1000, stock=10)
    placed = client.post(
        "/v1/orders",
        json=lines((product.id, 2)) | DETAILS,
        headers=me | {"Idempotency-Key": "export"},
    ).json()
    assert admin.act(placed["id"], "pay", payment(2000)).status_code == 200
    assert admin.act(placed["id"], "ship", SHIPMENT).status_code == 200

    answer = client.get(URL, headers=me)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"].startswith("no-store")
    export = answer.json()
    assert export["complete"]
    assert export["account"] == client.get("/v1/profile", headers=me).json()
    assert export["second_factor"]["active"]
    assert {each["kind"] for each in export["tokens"]} == {"session", "api_key"}
    assert [each["network"] for each in export["known_addresses"]] == ["203.0.113.77"]
    assert [each["email"] for each in export["links"]] == [f"{SECRET}2@concord.example"]
    [order] = export["orders"]
    assert order["order"] == client.get(f"/v1/orders/{placed['id']}", headers=me).json()
    events = client.get(f"/v1/orders/{placed['id']}/events", headers=me).json()["items"]
    assert order["events"] == events
    assert [each["action"] for each in events] == ["create", "pay", "ship"]
    audited = client.get("/v1/audit-events?limit=100", headers=me).json()["items"]
    assert export["audit_events"] == audited
    for secret in (key, link, app.secret, signed_in.json()["refresh_token"], "argon2"):
        assert str(secret) not in answer.text


def test_an_export_shows_nothing_of_others(service: Service, client: httpx.Client) -> None:
    user, other = Shopper(service, client), Shopper(service, client)
    product = make_product(service.app.database, stock=10)
    for each in (user, other):
        assert each.post("/v1/orders", lines((product.id, 1))).status_code == 201
    answer, of_other = user.get(URL), other.get(URL).json()
    assert [each["order"]["user_id"] for each in answer.json()["orders"]] == [user.id]
    assert of_other["account"]["email"] not in answer.text
    assert of_other["orders"][0]["order"]["id"] not in answer.text


def test_an_administrator_exports_only_their_own_data(
    service: Service, client: httpx.Client, admin: Shopper
) -> None:
    user = Shopper(service, client)
    product = make_product(service.app.database, stock=10)
    assert user.post("/v1/orders", lines((product.id, 1))).status_code == 201
    assert admin.patch(f"/v1/users/{user.id}", {"active": False}).status_code == 200
    export = admin.get(URL).json()
    assert export["account"]["id"] == admin.id
    assert export["orders"] == []
    # What they did to others is about them too, but what others did is not.
    done = {(each["action"], each["user_id"]) for each in export["audit_events"]}
    assert ("account.disable", user.id) in done
    assert all(admin.id in (each["user_id"], each["actor_id"]) for each in export["audit_events"])


@pytest.mark.parametrize("role", ["user", "admin"])
def test_the_address_of_whoever_changed_an_account_is_hidden(
    service: Service, client: httpx.Client, admin: Shopper, role: str
) -> None:
    user = make_account(service)
    changed = client.patch(
        f"/v1/users/{user.id}",
        json={"role": role, "active": True, "password_change_required": False},
        headers=admin.headers | {"X-Forwarded-For": "198.51.100.99"},
    )
    assert changed.status_code == 200, changed.text
    ended = client.post(
        f"/v1/users/{user.id}/logout", headers=admin.headers | {"X-Forwarded-For": "198.51.100.99"}
    )
    assert ended.status_code == 204
    export = client.get(URL, headers=bearer(token_for(service, read_account(service, user.id))))
    assert "session.end-all" in export.text
    assert "198.51.100.99" not in export.text


def test_an_api_key_cannot_export(service: Service, client: httpx.Client) -> None:
    scopes = ("profile:read", "orders:read", "audit:read", "tokens:read", "security:read")
    _, key = key_for(service, make_account(service), *scopes)
    answer = client.get(URL, headers=bearer(key) | fresh_address())
    assert (answer.status_code, problem(answer)) == (403, "session-required")


@pytest.mark.parametrize("limit", ["_MOST_ORDERS", "_MOST_EVENTS"])
def test_a_long_export_says_that_it_was_cut(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    user = Shopper(service, client)
    product = make_product(service.app.database, stock=100)
    placed = [user.post("/v1/orders", lines((product.id, 1))).json()["id"] for _ in range(3)]
    place = "models.accounts.person_export."
    monkeypatch.setattr(place + "_PAGE", 1)
    assert user.get(URL).json()["complete"]
    monkeypatch.setattr(place + limit, 2)
    export = user.get(URL).json()
    assert not export["complete"]
    assert [each["order"]["id"] for each in export["orders"]] == placed[:0:-1]


def test_a_long_audit_log_is_cut_to_the_newest(
    service: Service, admin: Shopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    for active in (False, True):
        user = make_account(service, active=not active)
        assert admin.patch(f"/v1/users/{user.id}", {"active": active}).status_code == 200
    monkeypatch.setattr("models.accounts.person_export._MOST_AUDIT_EVENTS", 1)
    export = admin.get(URL).json()
    assert not export["complete"]
    assert [each["action"] for each in export["audit_events"]] == ["account.enable"]
