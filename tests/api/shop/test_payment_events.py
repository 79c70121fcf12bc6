"""Events of payment providers act once, however often and in whatever order they come (M29)."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.server.setting_files import SettingsError
from api.server.settings import Settings
from tests.api.answers import problem
from tests.api.shopping import Shopper, lines, money
from tests.databases import make_database_url
from tests.factories import make_order, make_product
from tests.models.books import check_books
from tests.models.together import together
from tests.service import Service, running
from tests.signing import (
    OTHER_SECRET,
    STRIPE_SECRET,
    dispute,
    intent,
    payment_id,
    send_standard,
    send_stripe,
    standard_headers,
    stripe_headers,
)

pytestmark = pytest.mark.mission("M29")

PRICE = 1500
URL = "/v1/payment-events/stripe"


@pytest.fixture
def admin(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client, admin=True)


@pytest.fixture
def order(service: Service, client: httpx.Client) -> str:
    product = make_product(service.app.database, price=PRICE)
    placed = Shopper(service, client).post("/v1/orders", lines((product.id, 2)))
    assert placed.status_code == 201
    return str(placed.json()["id"])


def state(admin: Shopper, order: str) -> tuple[str, int, int]:
    """The status of an order, and what was paid and is unapplied."""
    found = admin.get(f"/v1/orders/{order}").json()
    return found["status"], found["paid"]["amount"], found["unapplied"]["amount"]


def newest(admin: Shopper, outcome: str | None = None) -> dict[str, object]:
    query = f"?outcome={outcome}" if outcome else ""
    item: dict[str, object] = admin.get(f"/v1/payment-events{query}").json()["items"][0]
    return item


def test_a_payment_of_stripe_pays_its_order(
    client: httpx.Client, admin: Shopper, order: str
) -> None:
    event = intent(order, 2 * PRICE)
    answer = send_stripe(client, event)
    assert (answer.status_code, answer.content) == (204, b"")
    assert state(admin, order) == ("paid", 2 * PRICE, 0)
    *_, paid = admin.get(f"/v1/orders/{order}/events").json()["items"]
    facts = (paid["action"], paid["method"], paid["reference"], paid["actor_id"], paid["amount"])
    assert facts == ("pay", "stripe", payment_id(event), None, money(2 * PRICE))
    kept = newest(admin)
    assert kept | {"id": None, "created_at": None} == {
        "id": None,
        "provider": "stripe",
        "key": f"payment_intent.succeeded/{payment_id(event)}",
        "kind": "payment",
        "outcome": "applied",
        "order_id": order,
        "reference": payment_id(event),
        "amount": money(2 * PRICE),
        "refusal": None,
        "created_at": None,
    }


def test_a_payment_of_another_provider_pays_its_order(
    client: httpx.Client, admin: Shopper, order: str
) -> None:
    data = {"order_id": order, "amount": money(2 * PRICE), "reference": "tr_1"}
    assert send_standard(client, "payment.succeeded", data).status_code == 204
    assert state(admin, order) == ("paid", 2 * PRICE, 0)
    bounced = {"order_id": order, "reference": "tr_1", "reason": "returned transfer"}
    assert send_standard(client, "payment.bounced", bounced).status_code == 204
    assert state(admin, order) == ("pending", 0, 0)
    *_, event = admin.get(f"/v1/orders/{order}/events").json()["items"]
    assert (event["action"], event["method"]) == ("bounce", "acme")
    assert event["reason"] == "returned transfer"


def test_an_event_acts_once_however_often_it_comes(
    client: httpx.Client, admin: Shopper, order: str
) -> None:
    event = intent(order, PRICE)
    # Stripe may send a second event, with another id, about the same payment.
    for sent in (event, event, {**event, "id": "evt_another"}):
        assert send_stripe(client, sent).status_code == 204
    assert state(admin, order) == ("pending", PRICE, 0)
    data = {"order_id": order, "amount": money(100), "reference": "tr_1"}
    for _ in range(2):
        assert send_standard(client, "payment.succeeded", data, event="msg_1").status_code == 204
    assert state(admin, order) == ("pending", PRICE + 100, 0)
    withdrawn = dispute(payment_id(event), 400)
    for _ in range(2):
        assert send_stripe(client, withdrawn).status_code == 204
    assert state(admin, order) == ("pending", PRICE + 100 - 400, 0)


def test_the_same_event_at_the_same_moment_acts_once(
    service: Service, admin: Shopper, order: str
) -> None:
    event = intent(order, 2 * PRICE)
    clients = [service.client() for _ in range(6)]
    answers = together(*(lambda each=each: send_stripe(each, event) for each in clients))
    assert [each.status_code for each in answers if isinstance(each, httpx.Response)] == [204] * 6
    assert state(admin, order) == ("paid", 2 * PRICE, 0)
    check_books(service.app.database)


def test_a_bounce_before_its_payment_is_sent_again(
    client: httpx.Client, admin: Shopper, order: str
) -> None:
    event = intent(order, 2 * PRICE)
    withdrawn = dispute(payment_id(event), 2 * PRICE)
    early = send_stripe(client, withdrawn)
    assert (early.status_code, problem(early)) == (409, "payment-not-recorded")
    assert send_stripe(client, event).status_code == 204
    assert send_stripe(client, withdrawn).status_code == 204
    assert state(admin, order) == ("pending", 0, 0)
    bounced = {"order_id": order, "reference": "tr_unknown"}
    early = send_standard(client, "payment.bounced", bounced)
    assert (early.status_code, problem(early)) == (409, "payment-not-recorded")


def test_a_dispute_that_is_won_brings_the_money_back(
    client: httpx.Client, admin: Shopper, order: str
) -> None:
    event = intent(order, 2 * PRICE)
    assert send_stripe(client, event).status_code == 204
    for kind, left in (("created", 2), ("funds_withdrawn", 0), ("funds_reinstated", 2)):
        sent = dispute(payment_id(event), 2 * PRICE, kind, dispute=f"du_{order}")
        assert send_stripe(client, sent).status_code == 204
        assert state(admin, order)[1] == left * PRICE
    assert state(admin, order) == ("paid", 2 * PRICE, 0)
    *_, back = admin.get(f"/v1/orders/{order}/events").json()["items"]
    assert (back["action"], back["reference"]) == ("pay", f"du_{order}")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "charge.refunded", "data": {"object": {"id": "ch_1", "amount_refunded": 100}}},
        {"type": "customer.created", "data": {"object": {"id": "cus_1"}}},
        intent(None, PRICE),
        dispute("pi_1", PRICE, "created"),
        {"type": "charge.dispute.funds_withdrawn", "data": {"object": {
            "id": "du_1", "amount": 1, "currency": "eur", "charge": "ch_1", "payment_intent": None,
        }}},
    ],
    ids=["refund", "other", "no order", "dispute", "no payment"],
)  # fmt: skip
def test_other_events_of_stripe_are_ignored(
    client: httpx.Client, admin: Shopper, event: dict[str, object]
) -> None:
    before = admin.get("/v1/payment-events").json()
    assert send_stripe(client, event).status_code == 204
    assert admin.get("/v1/payment-events").json() == before


def test_other_events_of_a_provider_are_ignored(client: httpx.Client, admin: Shopper) -> None:
    before = admin.get("/v1/payment-events").json()
    assert send_standard(client, "invoice.created", {"id": 1}).status_code == 204
    assert admin.get("/v1/payment-events").json() == before


@pytest.mark.parametrize("order_id", ["", "5", "0190163d-8694-739b-aea5-966c26f8ad91"])
def test_money_for_an_unknown_order_is_kept_as_refused(
    client: httpx.Client, admin: Shopper, order_id: str
) -> None:
    event = intent(order_id, PRICE)
    assert send_stripe(client, event).status_code == 204
    kept = newest(admin, "refused")
    assert (kept["reference"], kept["amount"]) == (payment_id(event), money(PRICE))
    assert kept["refusal"] == "The order does not exist."


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (PRICE, "usd", money(PRICE, "USD")),
        (PRICE, "xyz", None),
        (0, "eur", money(0)),
        (-5, "eur", None),
        (2**53, "eur", None),
    ],
)
def test_money_that_an_order_cannot_have_is_kept_as_refused(
    client: httpx.Client, admin: Shopper, order: str, amount: int, currency: str, shown: object
) -> None:
    event = intent(order, amount, currency)
    assert send_stripe(client, event).status_code == 204
    kept = newest(admin, "refused")
    assert (kept["order_id"], kept["reference"]) == (order, payment_id(event))
    assert kept["amount"] == shown
    assert kept["refusal"] == "The amount is not one that the order can be paid with."
    assert state(admin, order) == ("pending", 0, 0)


def test_a_bounce_beyond_its_payment_is_kept_as_refused(
    client: httpx.Client, admin: Shopper, order: str
) -> None:
    event = intent(order, 100)
    assert send_stripe(client, event).status_code == 204
    assert send_stripe(client, dispute(payment_id(event), 101)).status_code == 204
    assert newest(admin, "refused")["refusal"] == "The amount exceeds what remains of the payment."
    assert admin.act(order, "refund", {}).status_code == 409
    assert send_stripe(client, dispute(payment_id(event), 100)).status_code == 204
    assert send_stripe(client, dispute(payment_id(event), 100)).status_code == 204
    assert newest(admin, "refused")["refusal"] == "The order holds no money that could bounce."


def test_a_refused_event_is_counted_and_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    event = intent(str(uuid.uuid4()), PRICE)
    with make_database_url("sqlite", tmp_path) as url, running(tmp_path, url) as service:
        assert send_stripe(service.client(), event).status_code == 204
        counted = 'concord_payment_events_total{outcome="refused",provider="stripe"} 1.0'
        assert counted in service.app.metrics.text()
    logged = [line for line in capfd.readouterr().err.splitlines() if payment_id(event) in line]
    assert len(logged) == 1
    assert "payment event refused" in logged[0]


def test_a_payment_recorded_by_hand_is_not_recorded_again(
    client: httpx.Client, admin: Shopper, order: str
) -> None:
    event = intent(order, PRICE)
    body = {"amount": money(PRICE), "method": "stripe", "reference": payment_id(event)}
    assert admin.act(order, "pay", body).status_code == 200
    assert send_stripe(client, event).status_code == 204
    assert state(admin, order) == ("pending", PRICE, 0)
    assert newest(admin)["outcome"] == "applied"


def test_another_payment_with_the_same_reference_is_kept_as_refused(
    client: httpx.Client, admin: Shopper, order: str
) -> None:
    def report(kind: str, amount: int) -> object:
        told = {"order_id": order, "amount": money(amount), "reference": "debit_7"}
        assert send_standard(client, f"payment.{kind}", told).status_code == 204
        return newest(admin)["refusal"]

    reason = "The order has another payment with this reference, or the payment bounced."
    assert report("succeeded", 500) is None
    assert report("succeeded", 500) is None
    assert report("succeeded", 501) == reason
    assert report("bounced", 500) is None
    # The debit was collected again.
    assert report("succeeded", 500) == reason
    assert state(admin, order) == ("pending", 0, 0)
    assert newest(admin, "refused")["amount"] == money(500)


def test_late_money_waits_for_a_refund(
    service: Service, client: httpx.Client, admin: Shopper
) -> None:
    cancelled = str(make_order(service.app.database, status="cancelled").id)
    assert send_stripe(client, intent(cancelled, PRICE)).status_code == 204
    assert state(admin, cancelled) == ("cancelled", PRICE, PRICE)


def test_money_revives_an_expired_order(
    service: Service, client: httpx.Client, admin: Shopper
) -> None:
    expired = make_order(service.app.database, status="expired")
    assert send_stripe(client, intent(str(expired.id), expired.total_amount)).status_code == 204
    assert state(admin, str(expired.id))[0] == "paid"
    check_books(service.app.database)


@pytest.mark.parametrize(
    ("sent", "currency", "recorded"),
    [(500, "isk", 5), (500, "jpy", 500), (5, "mga", 500), (1000, "kwd", 1000)],
)
def test_amounts_of_stripe_become_minor_units(
    service: Service,
    client: httpx.Client,
    admin: Shopper,
    sent: int,
    currency: str,
    recorded: int,
) -> None:
    product = make_product(service.app.database, price=10_000, currency=currency.upper())
    placed = admin.post("/v1/orders", lines((product.id, 1))).json()
    assert send_stripe(client, intent(placed["id"], sent, currency)).status_code == 204
    assert state(admin, placed["id"])[1] == recorded


def assert_refused(answer: httpx.Response) -> None:
    assert (answer.status_code, problem(answer)) == (401, "invalid-signature")
    assert answer.headers["www-authenticate"] == "Signature"


@pytest.mark.parametrize("age", [301, -310])
def test_an_old_signature_is_refused(client: httpx.Client, order: str, age: int) -> None:
    at = time.time() - age
    assert_refused(send_stripe(client, intent(order, PRICE), at=at))
    assert_refused(send_standard(client, "payment.succeeded", {}, at=at))


def test_a_recent_signature_is_accepted(client: httpx.Client) -> None:
    at = time.time() - 290
    assert send_stripe(client, intent(None, PRICE), at=at).status_code == 204
    assert send_standard(client, "other", {}, at=at).status_code == 204


def test_a_signature_with_another_secret_is_refused(client: httpx.Client, order: str) -> None:
    assert_refused(send_stripe(client, intent(order, PRICE), secret=OTHER_SECRET))
    other = "whsec_" + "A" * 32
    assert_refused(send_standard(client, "payment.succeeded", {}, secret=other))


def test_a_changed_body_is_refused(client: httpx.Client, admin: Shopper, order: str) -> None:
    body = json.dumps(intent(order, PRICE))
    changed = body.replace(str(PRICE), str(2 * PRICE))
    headers = stripe_headers(body)
    assert_refused(client.post(URL, content=changed, headers=headers))
    # White space is signed too.
    assert_refused(client.post(URL, content=body + " ", headers=headers))
    assert client.post(URL, content=body, headers=headers).status_code == 204
    standard = standard_headers(body)
    for name in ("webhook-id", "webhook-timestamp"):
        shifted = {**standard, name: f"{standard[name]}"[:-1] + "0"}
        if shifted != standard:
            sent = client.post("/v1/payment-events/acme", content=body, headers=shifted)
            assert_refused(sent)
    assert state(admin, order) == ("pending", PRICE, 0)


SIGNED = "v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "t",
        SIGNED,
        f"t=,{SIGNED}",
        f"t=soon,{SIGNED}",
        f"t={'9' * 400},{SIGNED}",
        f"t=NOW,{SIGNED}",
        "t=NOW",
        "t=NOW,v1=",
        "t=NOW,v0=GOOD",
    ],
)
def test_a_malformed_signature_of_stripe_is_refused(
    client: httpx.Client, header: str | None
) -> None:
    body = json.dumps(intent(None, PRICE))
    headers = stripe_headers(body)
    time_of, _, good = headers.pop("Stripe-Signature").partition(",v1=")
    if header is not None:
        headers["Stripe-Signature"] = header.replace("t=NOW", time_of).replace("GOOD", good)
    assert_refused(client.post(URL, content=body, headers=headers))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "x", "v1,", "v1a,AAAA"])
def test_a_malformed_standard_signature_is_refused(
    client: httpx.Client, name: str, value: str | None
) -> None:
    body = json.dumps({"type": "other", "data": {}})
    headers = standard_headers(body)
    del headers[name]
    if value is not None:
        headers[name] = value
    assert_refused(client.post("/v1/payment-events/acme", content=body, headers=headers))


def test_several_signatures_may_be_sent(client: httpx.Client) -> None:
    body = json.dumps({"type": "other", "data": {}})
    old, new = stripe_headers(body, secret="whsec_something_else_entirely"), stripe_headers(body)
    joined = old["Stripe-Signature"] + "," + new["Stripe-Signature"].partition(",")[2]
    headers = {**new, "Stripe-Signature": joined}
    assert client.post(URL, content=body, headers=headers).status_code == 204
    standard = standard_headers(body)
    standard["webhook-signature"] = f"v1a,AAAA v1,AAAA {standard['webhook-signature']}"
    sent = client.post("/v1/payment-events/acme", content=body, headers=standard)
    assert sent.status_code == 204


@pytest.mark.parametrize("provider", ["paypal", "Stripe", "stripe2", "9"])
def test_a_provider_without_a_secret_does_not_exist(client: httpx.Client, provider: str) -> None:
    body = json.dumps(intent(None, PRICE))
    url = f"/v1/payment-events/{provider}"
    answer = client.post(url, content=body, headers=stripe_headers(body))
    assert (answer.status_code, problem(answer)) == (404, "not-found")


@pytest.mark.parametrize(
    ("event", "pointers"),
    [
        ("nothing", [""]),
        ("[]", [""]),
        ('{"type": "invoice.paid", "type": "payment_intent.succeeded", "data": {}}', [""]),
        ('{"type": "\\u0000", "data": {}}', [""]),
        ('{"type": 5, "data": {}}', ["/type"]),
        ('{"type": "payment_intent.succeeded"}', ["/data"]),
        ('{"type": "payment_intent.succeeded", "data": {}}', ["/data/object"]),
        (
            json.dumps(intent("5", PRICE)).replace(
                '"amount_received": 1500, "currency": "eur",', ""
            ),
            ["/data/object/amount_received", "/data/object/currency"],
        ),
    ],
)
def test_a_signed_event_of_another_form_is_named(
    client: httpx.Client, event: str, pointers: list[str]
) -> None:
    answer = client.post(URL, content=event, headers=stripe_headers(event))
    assert (answer.status_code, problem(answer)) == (422, "invalid-body")
    assert [each["pointer"] for each in answer.json()["errors"]] == pointers


def test_payment_events_are_for_administrators(service: Service, client: httpx.Client) -> None:
    answer = Shopper(service, client).get("/v1/payment-events")
    assert (answer.status_code, problem(answer)) == (403, "not-permitted")


def test_payment_events_have_pages(client: httpx.Client, admin: Shopper, order: str) -> None:
    for _ in range(3):
        assert send_stripe(client, intent(order, 1)).status_code == 204
    found: list[str] = []
    cursor = ""
    for _ in range(3):
        page = admin.get(f"/v1/payment-events?limit=1&outcome=applied{cursor}").json()
        found += [item["reference"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert len(set(found)) == 3


@pytest.fixture
def rotating(tmp_path: Path) -> Iterator[Service]:
    file = tmp_path / "payment-secrets"
    file.write_text(f"stripe={STRIPE_SECRET},stripe=whsec_the_next_secret_of_stripe\n")
    secrets = {"PAYMENT_SECRETS": "", "PAYMENT_SECRETS_FILE": str(file)}
    with make_database_url("sqlite", tmp_path) as url, running(tmp_path, url, **secrets) as made:
        yield made


def test_a_secret_can_be_replaced_while_both_are_valid(rotating: Service) -> None:
    client = rotating.client()
    for secret in (STRIPE_SECRET, "whsec_the_next_secret_of_stripe"):
        assert send_stripe(client, intent(None, PRICE), secret=secret).status_code == 204
    body = json.dumps(intent(None, PRICE))
    answer = client.post("/v1/payment-events/acme", content=body, headers=standard_headers(body))
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "secrets",
    [
        "whsec_of_nobody_in_particular",
        "stripe=short",
        f"Stripe={STRIPE_SECRET}",
        "acme=not in Base64 but long enough",
        "acme=whsec_not-in-base64-but-long-enough",
        f"stripe={STRIPE_SECRET},=",
    ],
)
def test_unusable_secrets_stop_the_start(secrets: str) -> None:
    with pytest.raises(SettingsError, match=r"^PAYMENT_SECRETS must") as refused:
        Settings.from_environment({"PAYMENT_SECRETS": secrets})
    assert secrets not in str(refused.value)
