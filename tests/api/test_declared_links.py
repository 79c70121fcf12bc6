"""Every link that the contract declares leads on from a real answer (MISSION M5, M27).

The links are followed one by one, as an administrator, from an answer of each operation that has
some: what a link takes from the answer has to be there, and has to be something that its target
knows. Random walks along links are schemathesis's (tests/contract/test_schemathesis.py).
"""

import uuid
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from api.contract.schemas import SchemaNode, resolve
from models.user import User
from tests.api.accounts import bearer, fresh_address, fresh_email, key_for, make_account, token_for
from tests.api.calling import Operation, operations
from tests.api.resources import BUNDLE
from tests.api.shopping import Shopper
from tests.api.things import Things, things_for
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M5"), pytest.mark.mission("M27")]

OPERATIONS = {operation.id: operation for operation in operations()}
STATE = 409
"""What a target may answer whose time has not come, such as `ship` for a new order."""


class Link(NamedTuple):
    """A link of a successful answer: `parameters` and members of `body` are taken from it."""

    source: Operation
    name: str
    target: Operation
    parameters: dict[str, str]
    body: dict[str, str]


def _links() -> Iterator[Link]:
    for item in BUNDLE["paths"].values():
        for declared in item.values():
            if isinstance(declared, dict) and "operationId" in declared:
                for node in declared["responses"].values():
                    yield from _links_of(declared["operationId"], resolve(BUNDLE, node))


def _links_of(source: str, response: SchemaNode) -> Iterator[Link]:
    for name, node in response.get("links", {}).items():
        link = resolve(BUNDLE, node)
        target = OPERATIONS[link["operationId"]]
        yield Link(
            OPERATIONS[source],
            name,
            target,
            link.get("parameters", {}),
            link.get("requestBody", {}),
        )


LINKS = list(_links())


def ask(
    client: httpx.Client,
    operation: Operation,
    headers: dict[str, str],
    things: Things,
    query: dict[str, str],
) -> httpx.Response:
    """Send an operation's example, about these things and with this besides in its query."""
    members = {**things.members, "password": PASSWORD}
    if operation.id == "create_user":
        members["email"] = fresh_email()
    body = operation.body and {
        name: members.get(name, value) for name, value in operation.body.items()
    }
    key = {"Idempotency-Key": uuid.uuid4().hex} if operation.takes_key else {}
    return client.request(
        operation.method,
        operation.url(things.places),
        params={**operation.query, **query},
        json=body,
        headers={**headers, **key, **fresh_address()},
    )


def value_of(expression: str, answer: httpx.Response, places: dict[str, object]) -> str:
    """Evaluate a runtime expression of OpenAPI 3.0 over an answer and the path of its request."""
    if expression.startswith("$request.path."):
        return str(places[expression.removeprefix("$request.path.")])
    if expression.startswith("$response.header."):
        return str(answer.headers[expression.removeprefix("$response.header.")])
    assert expression.startswith("$response.body#/"), expression
    value = answer.json()
    for part in expression.removeprefix("$response.body#/").split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    assert value is not None, expression
    return str(value)


def prepare(service: Service, client: httpx.Client, link: Link, user: User) -> Things:
    """Make what the source needs, and for lists a second item, so that there is a next page."""
    things = things_for(service, link.source, user)
    if link.source.id == "create_token":
        things.members["email"] = user.email
    if not link.source.id.startswith("list_"):
        return things
    admin = Shopper(service, client, admin=True)
    if "order_id" in things.places:
        admin.patch(f"/v1/orders/{things.places['order_id']}", {"note": "A second event."})
    if "entry_id" in things.places:
        url = f"/v1/products/{things.places['product_id']}/stock-adjustments"
        admin.post(url, {"quantity": 1, "reason": "A second entry."})
    for operation in ("get_order", "get_order", "get_stock_entry", "get_stock_entry"):
        things_for(service, OPERATIONS[operation], user)
    return things


@pytest.mark.parametrize("link", LINKS, ids=lambda link: f"{link.source.id}-{link.name}")
def test_a_declared_link_leads_on(service: Service, client: httpx.Client, link: Link) -> None:
    user = make_account(service)
    account = make_account(service, role="admin")
    boss = bearer(token_for(service, account))
    # Lists of one's own have a second item.
    key_for(service, account, "orders:read")
    things = prepare(service, client, link, user)
    # A list has a next page when its pages are short.
    short = {"limit": "1"} if "limit" in link.source.parameters else {}
    answer = ask(client, link.source, boss, things, short)
    assert answer.status_code == link.source.success, answer.text
    sent = {name: value_of(text, answer, things.places) for name, text in link.parameters.items()}
    headers = {n.removeprefix("header."): v for n, v in sent.items() if n.startswith("header.")}
    values = {n.rpartition(".")[2]: v for n, v in sent.items() if not n.startswith("header.")}
    in_path = {name: v for name, v in values.items() if f"{{{name}}}" in link.target.path}
    in_query = {name: v for name, v in values.items() if name not in in_path}
    in_body = {name: value_of(text, answer, things.places) for name, text in link.body.items()}
    target = Things(dict(in_path), things_for(service, link.target, user).members | in_body)
    led = ask(client, link.target, boss | headers, target, short | in_query if in_query else {})
    assert led.status_code in (link.target.success, STATE), led.text
