"""Webhooks over HTTP: endpoints, signed deliveries, failures and what must not be reached."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from collections.abc import Iterator
from threading import Thread
from uuid import UUID

import pytest
from sqlalchemy.orm import Session
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from models.webhooks.attempts import OutgoingRequest, record_outcomes
from models.webhooks.delivery import AttemptOutcome
from tests.our_document import our_document
from tests.servers.webhook_receiver import Receiver, receiving, wait_for
from tests.service import Service, SignedInPerson

pytestmark = pytest.mark.mission("M31")

PATH = "/v1/webhook-endpoints"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def create(admin: SignedInPerson, url: str, **members: object) -> tuple[str, str]:
    answer = admin.client.post(PATH, json={"url": url, **members})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"].endswith(f"{PATH}/{answer.json()['id']}")
    return answer.json()["id"], answer.json()["secret"]


def deliveries(admin: SignedInPerson, webhook_id: str, **query: str) -> list[dict[str, object]]:
    answer = admin.client.get(f"{PATH}/{webhook_id}/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()["items"]
    return found


def make_product(admin: SignedInPerson, sku: str) -> int:
    price = {"amount": 100, "currency": "USD"}
    answer = admin.client.post("/v1/products", json={"sku": sku, "name": "Hook", "price": price})
    assert answer.status_code == 201, answer.text
    made: int = answer.json()["id"]
    return made


def test_events_arrive_signed_and_as_in_the_feed(service: Service, receiver: Receiver) -> None:
    admin = service.admin()
    webhook_id, secret = create(admin, f"{receiver.url}/signed", types=["product.create"])
    product = make_product(admin, "HOOK-SIGNED")

    [sent] = wait_for(lambda: receiver.of("/signed"))
    verified = Webhook(secret).verify(sent.body, sent.headers)
    assert verified["subject"] == f"products/{product}"
    assert sent.headers["Content-Type"] == "application/json"
    feed = admin.client.get("/v1/events", params={"type": "product.create"}).json()["items"]
    assert verified in feed
    assert sent.headers["Webhook-Id"] == verified["id"]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(sent.body + b" ", sent.headers)

    done = wait_for(lambda: deliveries(admin, webhook_id, status="delivered"))
    assert [(each["event_id"], each["attempts"]) for each in done] == [(verified["id"], 1)]
    assert (done[0]["response_status"], done[0]["due_at"]) == (204, None)


def test_only_asked_for_types_arrive(service: Service, receiver: Receiver) -> None:
    admin = service.admin()
    create(admin, f"{receiver.url}/archived", types=["product.archive"])
    create(admin, f"{receiver.url}/all")
    product = make_product(admin, "HOOK-TYPES")
    assert admin.client.delete(f"/v1/products/{product}").status_code == 204

    def types(path: str) -> list[str]:
        found = [json.loads(each.body) for each in receiver.of(path)]
        mine = [each for each in found if each["subject"] == f"products/{product}"]
        return sorted(each["type"] for each in mine)

    wait_for(lambda: len(types("/all")) == 2 and types("/archived"))
    assert types("/all") == ["product.archive", "product.create"]
    assert types("/archived") == ["product.archive"]


def test_a_ping_tells_the_outcome(service: Service, receiver: Receiver) -> None:
    admin = service.admin()
    receiver.status, receiver.text = 500, "no\nluck é".encode()
    webhook_id, secret = create(admin, f"{receiver.url}/ping", types=["order.pay"])
    answer = admin.client.post(f"{PATH}/{webhook_id}/ping")
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    place = f"{PATH}/{webhook_id}/deliveries/{answer.json()['id']}"

    tried = wait_for(
        lambda: (got := admin.client.get(place).json())["attempts"] and got["response_text"] and got
    )
    assert (tried["status"], tried["response_status"]) == ("pending", 500)
    assert tried["response_text"] == "no luck é"
    assert tried["due_at"] > tried["attempted_at"]
    assert admin.client.get(f"{PATH}/{webhook_id}").json()["failing_since"] is not None

    receiver.status = 204
    assert admin.client.post(f"{place}/redeliver").status_code == 202
    wait_for(lambda: admin.client.get(place).json()["status"] == "delivered")
    first, *_, last = receiver.of("/ping")
    assert first.headers["Webhook-Id"] == last.headers["Webhook-Id"]
    assert Webhook(secret).verify(last.body, last.headers)["type"] == "webhook.ping"
    assert admin.client.get(f"{PATH}/{webhook_id}").json()["failing_since"] is None


def test_both_secrets_sign_after_a_rotation(service: Service, receiver: Receiver) -> None:
    admin = service.admin()
    webhook_id, old = create(admin, f"{receiver.url}/rotated", types=["order.pay"])
    tag = admin.client.get(f"{PATH}/{webhook_id}").headers["ETag"]
    answer = admin.client.post(f"{PATH}/{webhook_id}/rotate", headers={"If-Match": tag})
    assert answer.status_code == 200, answer.text
    new = answer.json()["secret"]
    assert admin.client.post(f"{PATH}/{webhook_id}/ping").status_code == 202
    [sent] = wait_for(lambda: receiver.of("/rotated"))
    for secret in (old, new):
        assert Webhook(secret).verify(sent.body, sent.headers)
    assert len(base64.b64decode(new.removeprefix("whsec_"))) == 32
    stale = admin.client.post(f"{PATH}/{webhook_id}/rotate", headers={"If-Match": tag})
    assert stale.status_code == 412


def test_repeated_rotations_do_not_cut_off_a_receiver(service: Service, receiver: Receiver) -> None:
    admin = service.admin()
    webhook_id, oldest = create(admin, f"{receiver.url}/repeated", types=["order.pay"])
    lost, replaced, new = (
        admin.client.post(f"{PATH}/{webhook_id}/rotate").json()["secret"] for _ in range(3)
    )
    assert admin.client.post(f"{PATH}/{webhook_id}/ping").status_code == 202
    [sent] = wait_for(lambda: receiver.of("/repeated"))
    for secret in (oldest, replaced, new):
        assert Webhook(secret).verify(sent.body, sent.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(lost).verify(sent.body, sent.headers)
    schema = our_document().public["components"]["parameters"]["WebhookSignature"]["schema"]
    assert re.fullmatch(schema["pattern"], sent.headers["Webhook-Signature"])
    assert len(sent.headers["Webhook-Signature"]) == schema["maxLength"]


def test_events_wait_while_an_endpoint_is_inactive(service: Service, receiver: Receiver) -> None:
    admin = service.admin()
    webhook_id, _ = create(admin, f"{receiver.url}/paused", types=["product.create"])
    place = f"{PATH}/{webhook_id}"
    assert admin.client.patch(place, json={"active": False}).json()["active"] is False
    make_product(admin, "HOOK-PAUSED")
    wait_for(lambda: deliveries(admin, webhook_id, status="pending"))
    assert not receiver.of("/paused")
    assert admin.client.patch(place, json={"active": True}).status_code == 200
    wait_for(lambda: receiver.of("/paused"))


def test_redirects_are_not_followed(service: Service, receiver: Receiver) -> None:
    admin = service.admin()
    receiver.status, receiver.headers = 302, {"Location": f"{receiver.url}/elsewhere"}
    webhook_id, _ = create(admin, f"{receiver.url}/moved", types=["order.pay"])
    assert admin.client.post(f"{PATH}/{webhook_id}/ping").status_code == 202
    wait_for(lambda: deliveries(admin, webhook_id)[0]["response_status"] == 302)
    assert not receiver.of("/elsewhere")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7200", 7200),
        ("Tue, 31 Dec 2126 10:00:00 GMT", 10_800),
        ("soon", 1),
        (f"Mon, 30 Nov {9**30} 10:00:00 GMT", 1),
    ],
    ids=["seconds", "date", "word", "number"],
)
def test_a_busy_receiver_is_left_alone(
    service: Service, receiver: Receiver, value: str, seconds: int
) -> None:
    admin = service.admin()
    receiver.status, receiver.headers = 429, {"Retry-After": value}
    webhook_id, _ = create(admin, f"{receiver.url}/busy", types=["order.pay"])
    assert admin.client.post(f"{PATH}/{webhook_id}/ping").status_code == 202
    [tried] = wait_for(lambda: [x for x in deliveries(admin, webhook_id) if x["response_status"]])
    due, attempted = (
        dt.datetime.fromisoformat(str(tried[name])) for name in ("due_at", "attempted_at")
    )
    assert seconds <= (due - attempted).total_seconds() < seconds + 60


def test_a_slow_receiver_delays_no_other(service: Service, receiver: Receiver) -> None:
    admin = service.admin()
    receiver.seconds = 5
    first, _ = create(admin, f"{receiver.url}/slow", types=["order.pay"])
    assert admin.client.post(f"{PATH}/{first}/ping").status_code == 202
    wait_for(lambda: receiver.of("/slow"))
    receiver.seconds = 0
    second, _ = create(admin, f"{receiver.url}/fast", types=["order.pay"])
    assert admin.client.post(f"{PATH}/{second}/ping").status_code == 202
    wait_for(lambda: deliveries(admin, second, status="delivered"))
    assert deliveries(admin, first)[0]["status"] == "pending"
    wait_for(lambda: deliveries(admin, first, status="delivered"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/nobody", "http://a..b/"])
def test_an_unreachable_receiver_is_reported(service: Service, url: str) -> None:
    admin = service.admin()
    webhook_id, _ = create(admin, url, types=["order.pay"])
    assert admin.client.post(f"{PATH}/{webhook_id}/ping").status_code == 202
    text = wait_for(lambda: deliveries(admin, webhook_id)[0]["response_text"])
    assert str(text).startswith("no connection: ")


def test_many_deliveries_are_repeated_at_once(service: Service, receiver: Receiver) -> None:
    admin = service.admin()
    webhook_id, _ = create(admin, f"{receiver.url}/again", types=["product.create"])
    for number in range(3):
        make_product(admin, f"HOOK-AGAIN-{number}")
    wait_for(lambda: len(deliveries(admin, webhook_id, status="delivered")) == 3)
    place = f"{PATH}/{webhook_id}/redeliver"
    answer = admin.client.post(place, json={"since": "2020-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["count"]) == (202, 3)
    wait_for(lambda: len(receiver.of("/again")) == 6)
    ids = [each.headers["Webhook-Id"] for each in receiver.of("/again")]
    assert sorted(ids[:3]) == sorted(ids[3:])
    later = admin.client.post(place, json={"since": "2120-01-01T00:00:00+01:00"})
    assert later.json()["count"] == 0


def test_a_delivery_repeated_as_it_succeeds_is_sent_once_more(service: Service) -> None:
    admin = service.admin()
    webhook_id, _ = create(admin, "http://127.0.0.1:9/", types=["order.pay"])
    assert admin.client.patch(f"{PATH}/{webhook_id}", json={"active": False}).status_code == 200
    made = admin.client.post(f"{PATH}/{webhook_id}/ping").json()
    place = f"{PATH}/{webhook_id}/deliveries/{made['id']}"
    request = OutgoingRequest(UUID(made["id"]), 0, UUID(made["event_id"]), b"")
    repeat = Thread(target=admin.client.post, args=[f"{place}/redeliver"])

    def succeed(session: Session) -> None:
        record_outcomes(session, UUID(webhook_id), {request: AttemptOutcome(204, "")})
        session.flush()
        repeat.start()
        repeat.join(0.3)

    service.app.database.transact(succeed)
    repeat.join(10)
    after = admin.client.get(place).json()
    assert (after["status"], after["response_status"]) == ("pending", 204)
    assert after["due_at"] is not None


def test_a_deleted_endpoint_receives_nothing(service: Service, receiver: Receiver) -> None:
    admin = service.admin()
    webhook_id, _ = create(admin, f"{receiver.url}/deleted", types=["product.create"])
    make_product(admin, "HOOK-DELETED")
    wait_for(lambda: receiver.of("/deleted"))
    assert admin.client.delete(f"{PATH}/{webhook_id}").status_code == 204
    assert admin.client.get(f"{PATH}/{webhook_id}").status_code == 404
    assert admin.client.get(f"{PATH}/{webhook_id}/deliveries").status_code == 404


def test_the_number_of_endpoints_is_bounded(fresh_service: Service) -> None:
    admin = fresh_service.admin()
    body = {"url": "http://127.0.0.1:9/"}
    answers = [admin.client.post(PATH, json=body) for _ in range(51)]
    assert [each.status_code for each in answers] == [201] * 50 + [409]
    assert answers[-1].json()["code"] == "too-many-webhooks"


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://shop.example/", "https://", "https://user@shop.example/", "https://a b/"),
        *("https://shop.example/#part", "//shop.example/", "https://shop.example:99999/"),
        *("https://[::1", "https://bücher.example/", "javascript:alert(1)"),
    ],
)
def test_malformed_urls_are_refused(service: Service, url: str) -> None:
    answer = service.admin().client.post(PATH, json={"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-body")
    assert {each["pointer"] for each in answer.json()["errors"]} == {"/url"}
