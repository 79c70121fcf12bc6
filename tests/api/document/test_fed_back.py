"""Values from responses are accepted wherever the contract asks for them in requests."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx
import pytest

from api.contract.compile.operations import Operation, compile_operations
from api.contract.compile.schemas import SchemaNode, Validators, flatten, resolve
from tests.api.accounts import bearer, fresh_address, token_for
from tests.api.sample_calls import SampleCall, operations
from tests.api.things import Things, things_for
from tests.factories import make_account
from tests.our_document import our_document
from tests.service import Service

pytestmark = pytest.mark.mission("M6")

BUNDLE = our_document().bundle
VALIDATORS = Validators(BUNDLE)
COMPILED = {each.id: each for each in compile_operations(BUNDLE, VALIDATORS)}
READS = [each for each in operations() if each.method == "GET" and each.scopes is not None]
TIMES = {"created_from": "created_at", "created_to": "created_at"}
"""Parameters that take a member of another name."""
NARROWER = {("create_api_key", "scopes")}
"""A session may have scopes that a key may not."""
KINDS = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
"""Members of one name with values of different types have nothing else in common."""


def members(value: object) -> Iterator[tuple[str, object]]:
    """Yield every member of an answer, at any depth."""
    if isinstance(value, dict):
        yield from value.items()
    for each in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from members(each)


def body_of(operation: Operation) -> SchemaNode:
    """The members that a body may have, each with its schema."""
    node = BUNDLE["paths"][operation.path][operation.method.lower()].get("requestBody")
    if node is None:
        return {}
    content = resolve(BUNDLE, node)["content"].get("application/json")
    if content is None:
        return {}
    properties: SchemaNode = flatten(BUNDLE, content["schema"]).get("properties", {})
    return properties


def written(value: object) -> str:
    """A value as it stands in a URL."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def asked(schema: SchemaNode, value: object) -> object:
    """What a request has of a value, whose objects may have more members in an answer."""
    schema = flatten(BUNDLE, schema)
    if isinstance(value, list):
        return [asked(schema["items"], each) for each in value]
    if isinstance(value, dict) and "properties" in schema:
        declared = schema["properties"].items()
        return {name: asked(inner, value[name]) for name, inner in declared if name in value}
    return value


@dataclass
class Reader:
    """An administrator, and all that they were answered: values by the tag and the member."""

    service: Service
    client: httpx.Client
    given: dict[tuple[str, str], list[object]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.user = make_account(self.service, role="admin")
        self.headers = bearer(token_for(self.service, self.user)) | fresh_address()

    def make(self, operation: SampleCall) -> Things:
        """Do what an operation's example says, and return what it was about."""
        things = things_for(self.service, operation, self.user)
        answer = operation.call(
            self.client, self.headers, places=things.places, members=things.members
        )
        assert answer.status_code == operation.success, answer.text
        self.given[operation.tag, "ETag"] += filter(None, [answer.headers.get("etag")])
        for name, value in members(answer.json()):
            known = self.given[operation.tag, name]
            if value not in (None, [], *known):
                known.append(value)
        return things

    def get(self, url: str, **more: str) -> httpx.Response:
        return self.client.get(url, headers={**self.headers, **more})


@pytest.fixture(scope="module")
def reader(service: Service, client: httpx.Client) -> Reader:
    return Reader(service, client)


@pytest.fixture(scope="module")
def made(reader: Reader) -> dict[str, Things]:
    reader.make(next(each for each in operations() if each.id == "create_order"))
    return {operation.id: reader.make(operation) for operation in READS}


def is_read_again(reader: Reader, url: str, spelled: str) -> bool:
    """Whether all that came with an answer leads to the same one."""
    answer = reader.get(url)
    named = reader.get(spelled, **{"X-Request-ID": answer.headers["x-request-id"]})
    # An export says when it was made.
    same: bool = {**named.json(), "exported_at": None} == {**answer.json(), "exported_at": None}
    if "etag" not in answer.headers:
        return same
    matching = reader.get(url, **{"If-Match": answer.headers["etag"]})
    unchanged = reader.get(url, **{"If-None-Match": answer.headers["etag"]})
    statuses = named.status_code, matching.status_code, unchanged.status_code
    return same and statuses == (200, 200, 304)


@pytest.mark.parametrize("operation", READS, ids=lambda each: each.id)
def test_values_in_responses_are_accepted_as_parameters(
    reader: Reader, made: dict[str, Things], operation: SampleCall
) -> None:
    places = made[operation.id].places
    url = operation.url(places)
    spelled = operation.url({name: str(place).upper() for name, place in places.items()})
    # Background jobs may store something between two requests, as the last use of a token and their
    # own states, but not every time.
    assert any(is_read_again(reader, url, spelled) for _ in range(30))
    for name in COMPILED[operation.id].query.by_name:
        for value in reader.given[operation.tag, TIMES.get(name, name)]:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found = reader.get(f"{url}?{urlencode({name: text})}")
            assert found.status_code == 200, (name, text, found.text)


@pytest.mark.usefixtures("made")
def test_values_in_responses_are_accepted_in_bodies(reader: Reader) -> None:
    tried = set()
    for operation in COMPILED.values():
        for name, schema in body_of(operation).items():
            if (operation.id, name) not in NARROWER:
                kind = KINDS[flatten(BUNDLE, schema)["type"]]
                given = reader.given[operation.tag, name]
                for value in (each for each in given if isinstance(each, kind)):
                    sent = asked(schema, value)
                    assert VALIDATORS.of(schema).is_valid(sent), (operation.id, name, sent)
                    tried.add(name)
    assert tried >= {"lines", "shipping_address", "metadata", "price", "role", "name"}
