"""Every link that the contract declares leads on from a real answer (MISSION M5, M27, M34).

The links are followed one by one, as an administrator, from an answer of each operation that has
some: what a link takes from the answer has to be there, and has to be something that its target
knows. Then whole walks are taken, from `GET /` to each operation. Random walks along links are
schemathesis's (tests/contract/fuzz/test_schemathesis.py).
"""

import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import NamedTuple
from uuid import UUID

import httpx
import pytest

from api.contract.compile.schemas import SchemaNode, resolve
from tests.api.accounts import bearer, fresh_address, key_for, token_for
from tests.api.authenticators import enrolled
from tests.api.resources import BUNDLE
from tests.api.sample_calls import SampleCall, operations
from tests.api.shopping import Shopper
from tests.api.things import Things, things_for
from tests.authenticator import Authenticator
from tests.factories import fresh_email, make_account
from tests.models.reading import read_payment, read_unit
from tests.service import PASSWORD, Service
from tests.signing import intent, send_stripe

pytestmark = [
    pytest.mark.mission("M5"),
    pytest.mark.mission("M27"),
    # Answers are the same on each database, which other tests show.
    pytest.mark.parametrize("service", ["sqlite"], indirect=True),
]

OPERATIONS = {operation.id: operation for operation in operations()}
PATHS = {
    declared["operationId"]: path
    for path, item in BUNDLE["paths"].items()
    for declared in item.values()
    if isinstance(declared, dict)
}
ENTRY, SIGN_IN = OPERATIONS["get_root"], OPERATIONS["create_token"]
LONGEST = 8
"""More links than the longest walk has that is needed."""
SHORT = {"limit": "1"}
STATE = 409
"""What a target may answer whose time has not come, such as `ship` for a new order."""


class Link(NamedTuple):
    """A link of an answer: `parameters` and members of `body` are taken from it."""

    source: SampleCall
    status: int
    name: str
    target: SampleCall
    parameters: dict[str, str]
    body: dict[str, str]


def _links() -> Iterator[Link]:
    for item in BUNDLE["paths"].values():
        for declared in item.values():
            if isinstance(declared, dict) and "operationId" in declared:
                for status, node in declared["responses"].items():
                    response = resolve(BUNDLE, node)
                    yield from _links_of(declared["operationId"], int(status), response)


def _links_of(source: str, status: int, response: SchemaNode) -> Iterator[Link]:
    for name, node in response.get("links", {}).items():
        link = resolve(BUNDLE, node)
        target = OPERATIONS[link["operationId"]]
        yield Link(
            OPERATIONS[source],
            status,
            name,
            target,
            link.get("parameters", {}),
            link.get("x-request-body", {}),
        )


LINKS = list(_links())


class Answer(NamedTuple):
    """What an operation answered, and what its path named."""

    response: httpx.Response
    places: dict[str, object]


def ask(
    client: httpx.Client,
    operation: SampleCall,
    headers: dict[str, str],
    things: Things,
    query: dict[str, str],
) -> Answer:
    """Send an operation's example, about these things and with this besides in its query."""
    members = {"password": PASSWORD, **things.members}
    if operation.id == "create_user":
        members["email"] = fresh_email()
    body = operation.body and {
        name: members.get(name, value) for name, value in operation.body.items()
    }
    key = {"Idempotency-Key": uuid.uuid4().hex} if operation.takes_key else {}
    response = client.request(
        operation.method,
        operation.url(things.places),
        params={**operation.query, **query},
        json=body,
        files=operation.files,
        content=operation.signed_event,
        headers={**operation.signature, **headers, **key, **fresh_address()},
    )
    return Answer(response, things.places)


def value_of(expression: str, answer: Answer) -> str:
    """Evaluate a constant or a runtime expression of OpenAPI 3.0 over an answer."""
    if not expression.startswith("$"):
        return expression
    if expression.startswith("$request.path."):
        return str(answer.places[expression.removeprefix("$request.path.")])
    if expression.startswith("$response.header."):
        return str(answer.response.headers[expression.removeprefix("$response.header.")])
    assert expression.startswith("$response.body#/"), expression
    value = answer.response.json()
    for part in expression.removeprefix("$response.body#/").split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    assert value is not None, expression
    return str(value)


class Guest:
    """An administrator who follows links, and who also has what messages and apps tell people."""

    def __init__(self, service: Service, client: httpx.Client) -> None:
        self._service = service
        self._client = client
        self._account = make_account(service, role="admin")
        # Lists of one's own have a second item.
        key_for(service, self._account, "orders:read")
        self._user = make_account(service)
        self._app: Authenticator | None = None

    def ask(self, operation: SampleCall, things: Things, query: dict[str, str]) -> Answer:
        """Send a request, in a new session."""
        return self._ask(operation, {}, things, query)

    def things(self, operation: SampleCall, status: int) -> Things:
        """Make what an operation needs to answer a status."""
        things = things_for(self._service, operation, self._user, self._account)
        if operation.id == "list_payment_events":
            for _ in range(2):
                order = things_for(self._service, OPERATIONS["get_order"], self._user)
                event = intent(str(order.places["order_id"]), 1, "usd")
                assert send_stripe(self._client, event).status_code == HTTPStatus.NO_CONTENT
        if operation is SIGN_IN:
            user = make_account(self._service)
            things.members["email"] = user.email
            if status == HTTPStatus.UNAUTHORIZED:
                things.members["password"] = "no green bicycle sings"
            elif status == HTTPStatus.FORBIDDEN:
                self._app = enrolled(self._service, user)
        return things

    def follow(self, link: Link, answer: Answer, status: int) -> Answer:
        """Send the request that a link describes, to be answered a status.

        Members of its body that the link does not give are made.
        """
        sent = {name: value_of(text, answer) for name, text in link.parameters.items()}
        headers = {n.removeprefix("header."): v for n, v in sent.items() if n.startswith("header.")}
        values = {n.rpartition(".")[2]: v for n, v in sent.items() if not n.startswith("header.")}
        path = PATHS[link.target.id]
        in_path: dict[str, object] = {n: v for n, v in values.items() if f"{{{n}}}" in path}
        in_query = {n: v for n, v in values.items() if n not in in_path}
        members = self.things(link.target, status).members
        members |= {name: value_of(text, answer) for name, text in link.body.items()}
        if link.target.id == "bounce_order":
            members |= read_payment(self._service.app.database, UUID(str(in_path["order_id"])))
        if link.target.id == "reduce_order":
            unit = read_unit(self._service.app.database, UUID(str(in_path["order_id"])))
            members["lines"] = [unit]
        if self._app and "challenge" in link.body:
            members["code"] = self._app.code()
        # A cursor belongs to the limit that it came with.
        short = SHORT if "cursor" in in_query else {}
        target = replace(link.target, path=path)
        return self._ask(target, headers, Things(in_path, members), short | in_query)

    def _ask(
        self, operation: SampleCall, headers: dict[str, str], things: Things, query: dict[str, str]
    ) -> Answer:
        session = bearer(token_for(self._service, self._account))
        return ask(self._client, operation, session | headers, things, query)


def prepare(service: Service, client: httpx.Client, guest: Guest, link: Link) -> Things:
    """Make what the source needs, and for lists a second item, so that there is a next page."""
    things = guest.things(link.source, link.status)
    if not link.source.id.startswith("list_"):
        return things
    admin = Shopper(service, client, admin=True)
    if "order_id" in things.places:
        admin.patch(f"/v1/orders/{things.places['order_id']}", {"note": "A second event."})
    if "product_id" in things.places:
        url = f"/v1/products/{things.places['product_id']}/stock-adjustments"
        admin.post(url, {"quantity": 1, "reason": "A second entry."})
    if "webhook_id" in things.places:
        for _ in range(2):
            guest.ask(OPERATIONS["ping_webhook_endpoint"], things, {})
    if link.source.tag == "webhooks":
        for _ in range(2):
            guest.ask(OPERATIONS["create_webhook_endpoint"], Things({}, {}), {})
    for operation in ("get_order", "get_order", "get_stock_entry", "get_stock_entry"):
        guest.things(OPERATIONS[operation], HTTPStatus.OK)
    return things


@pytest.mark.parametrize("link", LINKS, ids=lambda link: f"{link.source.id}-{link.name}")
def test_a_declared_link_can_be_followed(
    service: Service, client: httpx.Client, link: Link
) -> None:
    guest = Guest(service, client)
    things = prepare(service, client, guest, link)
    # A list has a next page when its pages are short.
    answer = guest.ask(link.source, things, SHORT if "limit" in link.source.parameters else {})
    assert answer.response.status_code == link.status, answer.response.text
    led = guest.follow(link, answer, link.target.success).response
    assert led.status_code in (link.target.success, STATE), led.text


def walks(target: SampleCall) -> Iterator[list[Link]]:
    """Yield the walks from the entry to an operation, the short ones first."""
    waiting: deque[list[Link]] = deque([[]])
    while waiting:
        walk = waiting.popleft()
        here = walk[-1].target if walk else ENTRY
        if here is target:
            yield walk
            continue
        passed = {ENTRY.id, *(link.target.id for link in walk)}
        onward = [link for link in LINKS if link.source is here and link.target.id not in passed]
        waiting.extend([*walk, link] for link in onward if len(walk) < LONGEST)


def reached(guest: Guest, walk: list[Link]) -> Iterator[str]:
    """Take a walk, and yield the operations along it that do what they are for."""
    answer = guest.ask(ENTRY, Things({}, {}), {})
    statuses = [link.status for link in walk[1:]] + [walk[-1].target.success]
    for link, status in zip(walk, statuses, strict=True):
        assert answer.response.status_code == link.status
        try:
            answer = guest.follow(link, answer, status)
        except IndexError:
            # The longer walks include one on which the list has an item.
            return
        if answer.response.status_code == STATE:
            # The longer walks include one for which the state of the order is right.
            return
        assert answer.response.status_code == status, answer.response.text
        yield link.target.id


@pytest.mark.mission("M34")
def test_walks_along_links_reach_every_operation(service: Service, client: httpx.Client) -> None:
    missing = OPERATIONS.keys() - {ENTRY.id}
    for target in OPERATIONS.values():
        for walk in walks(target):
            if target.id not in missing:
                break
            missing -= set(reached(Guest(service, client), walk))
    assert missing == set()
