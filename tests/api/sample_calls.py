"""The operations of the contract as clients can call them: made from its paths and examples.

The document is read here by itself, not through the engine, so that what the engine makes of
`security` is held against what the document says.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import httpx

from api.contract.compile.schemas import SchemaNode, resolve
from tests.our_document import our_document
from tests.pictures import make_picture
from tests.signing import intent, stripe_headers

_ABSENT = {"integer": 10**9, "string": "0190163d-8694-739b-aea5-966c26f8ad91"}
EVENT = json.dumps(intent(None, 1))
"""An event of Stripe."""
_METHODS = frozenset({"get", "put", "post", "delete", "patch"})


@dataclass(frozen=True)
class SampleCall:
    """One operation: what it needs, and a request that it should take.

    `scopes` is None where no token is needed; where it `is_open` a token may be left out. `members`
    are those that its body may have, `parameters` the names of all others. `sensitive` are the
    bodies for which a session is required, and how many seconds old that may be, if it matters. An
    operation `is_owned` when its path names a thing that the contract says belongs to one account.
    `made` are the path parameters of other operations that its success gives values for, each with
    the member that is the value; `shown` is the operation that shows one item of the page that it
    answers. An operation that `takes_picture` takes a form. `absent` has for each path parameter a
    value that names nothing.
    """

    id: str
    tag: str
    method: str
    path: str
    scopes: frozenset[str] | None
    is_open: bool
    success: int
    takes_key: bool
    is_owned: bool
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    takes_picture: bool = False
    members: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    sensitive: tuple[tuple[Mapping[str, object] | None, int | None], ...] = ()
    made: Mapping[str, str] = field(default_factory=dict)
    shown: str | None = None
    absent: Mapping[str, object] = field(default_factory=dict)

    def url(self, places: Mapping[str, object]) -> str:
        """The path with what it names, of which `places` may hold more."""
        return self.path.format(**places)

    @property
    def files(self) -> dict[str, bytes] | None:
        """The files of its form, if it takes one."""
        return {"image": make_picture(size=(8, 8))} if self.takes_picture else None

    @property
    def signed_event(self) -> str | None:
        """The body that is signed, if the operation takes one."""
        return EVENT if "Stripe-Signature" in self.parameters else None

    @property
    def signature(self) -> dict[str, str]:
        """The headers that sign the body, if it is signed."""
        return stripe_headers(self.signed_event) if self.signed_event else {}

    def call(
        self,
        client: httpx.Client,
        headers: Mapping[str, str],
        *,
        places: Mapping[str, object],
        members: Mapping[str, object],
    ) -> httpx.Response:
        """Send the example; `members` stand for those of the body that have to be other ones.

        A key for repetitions is new each time.
        """
        body = self.body and {name: members.get(name, value) for name, value in self.body.items()}
        key = {"Idempotency-Key": uuid.uuid4().hex} if self.takes_key else {}
        return client.request(
            self.method,
            self.url(places),
            params=self.query,
            json=body,
            files=self.files,
            content=self.signed_event,
            headers={**self.signature, **key, **headers},
        )


@cache
def operations() -> tuple[SampleCall, ...]:
    """Every operation of the contract."""
    bundle = our_document().bundle
    return tuple(
        _operation(bundle, path, method, item)
        for path, item in bundle["paths"].items()
        for method in item
        if method in _METHODS
    )


def _operation(bundle: SchemaNode, path: str, method: str, item: SchemaNode) -> SampleCall:
    declared = item[method]
    nodes = [*item.get("parameters", []), *declared.get("parameters", [])]
    parameters = [resolve(bundle, node) for node in nodes]
    for parameter in parameters:
        if parameter["in"] == "path" and "x-ownership" not in parameter:
            # What is the same for everybody need not be made.
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    links = _links(bundle, declared["responses"])
    security, body = declared.get("security", bundle["security"]), _body(bundle, declared)
    return SampleCall(
        id=declared["operationId"],
        tag=declared["tags"][0],
        method=method.upper(),
        path=path,
        scopes=frozenset(security[0]["bearer"]) if security else None,
        is_open={} in security,
        is_owned=any(each.get("x-ownership") == "owned" for each in parameters),
        takes_key=any(each["name"] == "Idempotency-Key" for each in parameters),
        success=min(int(status) for status in declared["responses"] if int(status) < 400),
        query={
            parameter["name"]: str(parameter["example"])
            for parameter in parameters
            if parameter["in"] == "query" and parameter["required"]
        },
        body=body.get("example"),
        takes_picture="requestBody" in declared and not body,
        members=frozenset(body.get("properties", ())),
        parameters=frozenset(parameter["name"] for parameter in parameters),
        sensitive=tuple(_sensitive(bundle, declared)),
        made=_made(links),
        shown=next((each["operationId"] for each in links.values() if _is_first(each)), None),
        absent={
            each["name"]: _ABSENT[resolve(bundle, each["schema"])["type"]]
            for each in parameters
            if "x-ownership" in each
        },
    )


def _sensitive(
    bundle: SchemaNode, declared: SchemaNode
) -> Iterator[tuple[Mapping[str, object] | None, int | None]]:
    properties = _body(bundle, declared).get("properties", {})
    for required in declared.get("x-requires-session", ()):
        for name in required.get("when-given", (None,)):
            member = name and name.removeprefix("#/")
            body = member and {member: resolve(bundle, properties[member])["example"]}
            yield body, required.get("max-age")


def _links(bundle: SchemaNode, responses: SchemaNode) -> SchemaNode:
    """The links of an operation's success by their names."""
    success = resolve(bundle, responses[min(responses)])
    return {name: resolve(bundle, link) for name, link in success.get("links", {}).items()}


def _made(links: SchemaNode) -> dict[str, str]:
    """What the link `self` fills in from members of the answer."""
    itself = links.get("self", {}).get("parameters", {})
    prefix = "$response.body#/"
    return {
        name.removeprefix("path."): value.removeprefix(prefix)
        for name, value in itself.items()
        if value.startswith(prefix)
    }


def _is_first(link: SchemaNode) -> bool:
    """Whether a link of a page leads to its first item."""
    return "$response.body#/items/0/id" in link.get("parameters", {}).values()


def _body(bundle: SchemaNode, declared: SchemaNode) -> SchemaNode:
    if "requestBody" not in declared:
        return {}
    content = resolve(bundle, declared["requestBody"])["content"]
    is_json = "application/json" in content
    return resolve(bundle, content["application/json"]["schema"]) if is_json else {}
