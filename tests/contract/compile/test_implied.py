"""What a declaration implies is added to the contract, and what a file says stays as it is."""

from copy import deepcopy
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator

from api.contract.compile.implied import add_implied
from api.contract.compile.problem_kinds import CONDITIONS, PROBLEMS
from api.contract.compile.schemas import SchemaNode
from api.contract.engine_errors import ContractError
from tests.our_document import our_document

FOLDER = Path(__file__).parents[3] / "openapi"
HEADERS = (
    *("X-Request-ID", "X-Content-Type-Options", "NoStore", "NoTransform", "RateLimit"),
    *("OptionalRateLimit", "RateLimit-Policy", "OptionalRateLimitPolicy", "Link"),
    *("Idempotent-Replayed", "Retry-After"),
)
USUAL = {"X-Request-ID", "X-Content-Type-Options", "Cache-Control"}
LIMITED = {"RateLimit", "RateLimit-Policy"}
OPEN = {"name": "caller", "limit": 1, "window": 1, "per": "address", "when-unavailable": "open"}
CLOSED = {**OPEN, "when-unavailable": "closed"}
EXAMPLE = {"type": "https://a.example/problems/x", "instance": "1"}
CONTENT: SchemaNode = {"application/json": {"schema": {}}}


def kind(status: int, **more: object) -> SchemaNode:
    """Return what the file of a kind of error has."""
    return {
        "status": status,
        "title": "Title",
        "meaning": f"Meaning {status}.",
        "when_sent": "Returned when it is tested.",
        "what_to_do": "Nothing.",
        "example": {"summary": "An example", "value": {"detail": "Detail."}},
        **more,
    }


def implied(condition: str, status: int) -> SchemaNode:
    return kind(status, **{"implied-by": condition})


def parameter(name: str, location: str = "header") -> SchemaNode:
    return {"name": name, "in": location, "schema": {}}


def completed(
    operation: SchemaNode,
    kinds: SchemaNode,
    *,
    headers: tuple[str, ...] = HEADERS,
    responses: SchemaNode | None = None,
    example: SchemaNode = EXAMPLE,
    method: str = "post",
) -> SchemaNode:
    """Return a contract of one operation with what is implied added."""
    bundle: SchemaNode = {
        "paths": {
            "/things": {method: {"security": [], "x-engine-pool": "inline", **deepcopy(operation)}}
        },
        "components": {
            "headers": {name: {"schema": {}} for name in headers},
            "parameters": {
                "RequestId": parameter("X-Request-ID"),
                "IfMatch": parameter("If-Match"),
                "IfNoneMatch": parameter("If-None-Match"),
            },
            "responses": responses or {},
            "schemas": {
                "Problem": {
                    "properties": {"code": {"$ref": "#/components/schemas/Code"}},
                    "example": example,
                },
                "Code": {"type": "string"},
            },
        },
        PROBLEMS: kinds,
    }
    files: dict[tuple[str, ...], str] = {("paths", "/things"): "paths/things.yaml"}
    files |= {(PROBLEMS, slug): f"problems/{slug}.yaml" for slug in kinds}
    add_implied(bundle, files)
    return bundle


def operation_of(bundle: SchemaNode) -> SchemaNode:
    (operation,) = (each for each in bundle["paths"]["/things"].values() if "responses" in each)
    found: SchemaNode = operation
    return found


def done() -> SchemaNode:
    return {"200": {"description": "Done."}}


DECLARED: dict[str, SchemaNode] = {
    "operation": {},
    "security": {"security": [{"key": []}]},
    "path-parameter": {"parameters": [parameter("thing_id", "path")]},
    "request-body": {"requestBody": {"content": CONTENT}},
    "response-body": {"responses": {"200": {"description": "Done.", "content": CONTENT}}},
    "rate-limit": {"x-rate-limit": [OPEN]},
    "if-match": {"parameters": [parameter("If-Match")]},
    "idempotency-key": {"parameters": [parameter("Idempotency-Key")]},
    "thread-pool": {"x-engine-pool": "reads"},
}
"""What an operation declares for each condition to hold."""


@pytest.mark.parametrize("condition", sorted(DECLARED))
def test_a_declaration_implies_its_kinds_and_no_others(condition: str) -> None:
    names = sorted(CONDITIONS)
    kinds = {name: implied(name, 400 + number) for number, name in enumerate(names)}
    declared = {"responses": done(), **DECLARED[condition]}
    found = operation_of(completed(declared, kinds))["responses"]
    wanted = {condition, "operation"}
    assert set(found) == {"200", *(str(400 + names.index(name)) for name in wanted)}


def test_every_condition_except_the_servers_can_be_met() -> None:
    assert {*DECLARED, "server"} == CONDITIONS


def test_a_request_id_is_accepted() -> None:
    operation = operation_of(completed({"responses": done()}, {}))
    assert operation["parameters"] == [{"$ref": "#/components/parameters/RequestId"}]


@pytest.mark.parametrize(
    ("status", "operation", "wanted"),
    [
        ("200", {}, USUAL),
        ("204", {}, USUAL - {"Cache-Control"}),
        ("200", {"parameters": [parameter("cursor", "query")]}, USUAL | {"Link"}),
        ("200", {"parameters": [parameter("Idempotency-Key")]}, USUAL | {"Idempotent-Replayed"}),
        ("200", {"x-rate-limit": [OPEN]}, USUAL | LIMITED),
    ],
)
def test_a_response_has_the_usual_headers(
    status: str, operation: SchemaNode, wanted: set[str]
) -> None:
    bundle = completed({**operation, "responses": {status: {"description": "Done."}}}, {})
    assert set(operation_of(bundle)["responses"][status]["headers"]) == wanted


@pytest.mark.parametrize(
    ("limits", "component"),
    [([CLOSED], "RateLimit"), ([OPEN], "OptionalRateLimit"), ([CLOSED, OPEN], "OptionalRateLimit")],
)
def test_an_open_limit_may_be_uncounted(limits: list[SchemaNode], component: str) -> None:
    bundle = completed({"x-rate-limit": limits, "responses": done()}, {})
    headers = operation_of(bundle)["responses"]["200"]["headers"]
    assert headers["RateLimit"] == {"$ref": f"#/components/headers/{component}"}


def test_a_header_without_a_component_is_not_added() -> None:
    operation = {"x-rate-limit": [OPEN], "responses": done()}
    bundle = completed(operation, {"lost": implied("operation", 400)}, headers=("X-Request-ID",))
    assert set(operation_of(bundle)["responses"]["200"]["headers"]) == {"X-Request-ID"}
    assert set(bundle["components"]["responses"]["Lost"]["headers"]) == {"X-Request-ID"}


def test_declarations_of_an_operation_are_kept() -> None:
    kept = {"$ref": "#/components/headers/Retry-After"}
    written = {
        "200": {"description": "Done.", "headers": {"Cache-Control": kept}},
        "404": {"description": "Gone."},
    }
    kinds = {"not-found": implied("operation", 404), "gone": kind(410)}
    operation = {"responses": written, "x-problems": ["gone"]}
    found = operation_of(completed(operation, kinds))["responses"]
    assert found["200"]["headers"]["Cache-Control"] == kept
    assert found["404"]["description"] == "Gone."
    assert found["410"] == {"$ref": "#/components/responses/Gone"}


PRECONDITIONS = [{"$ref": f"#/components/parameters/{name}"} for name in ("IfMatch", "IfNoneMatch")]


def test_a_resource_with_an_etag_accepts_preconditions() -> None:
    operation = {"responses": {"200": {"description": "Done.", "headers": {"ETag": {}}}}}
    unchanged = {"NotModified": {"description": "Unchanged."}}
    kinds = {"mismatch": implied("if-match", 412)}
    found = operation_of(completed(operation, kinds, responses=unchanged, method="get"))
    assert found["parameters"][:2] == PRECONDITIONS
    assert found["responses"]["304"] == {"$ref": "#/components/responses/NotModified"}
    assert found["responses"]["412"] == {"$ref": "#/components/responses/Mismatch"}
    assert set(unchanged["NotModified"]["headers"]) == USUAL | LIMITED
    assert "304" not in operation_of(completed(operation, kinds, method="get"))["responses"]


def test_a_response_with_an_etag_passes_proxies_unchanged() -> None:
    tagged = {"description": "Done.", "headers": {"ETag": {}}}
    plain = {"description": "Done."}
    responses = {"200": tagged, "202": plain}
    found = operation_of(completed({"responses": responses}, {}))["responses"]
    caching = {status: found[status]["headers"]["Cache-Control"]["$ref"] for status in responses}
    components = "#/components/headers/"
    assert caching == {"200": f"{components}NoTransform", "202": f"{components}NoStore"}


def test_a_change_with_one_precondition_accepts_the_other() -> None:
    operation = {"parameters": PRECONDITIONS[:1], "responses": done()}
    kinds = {"mismatch": implied("if-match", 412)}
    found = operation_of(completed(operation, kinds))
    assert found["parameters"][:2] == PRECONDITIONS
    assert set(found["responses"]) == {"200", "412"}


def test_problems_of_one_status_share_a_response() -> None:
    retry = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    example = {"summary": "None left", "value": {"detail": "None is left.", "left": 0}}
    kinds = {
        "sold-out": kind(409, members={"left": "the number that is left"}, example=example),
        "in-flight": kind(409, headers=retry, **{"implied-by": "operation"}),
    }
    operation = {"responses": done(), "x-problems": ["sold-out"]}
    bundle = completed(operation, kinds)
    assert "x-problems" not in operation_of(bundle)
    reference = {"$ref": "#/components/responses/SoldOutOrInFlight"}
    assert operation_of(bundle)["responses"]["409"] == reference
    response = bundle["components"]["responses"]["SoldOutOrInFlight"]
    assert response["description"] == (
        "- `sold-out`: Meaning 409. Further members: `left`, the number that is left.\n"
        "- `in-flight`: Meaning 409."
    )
    assert set(response["headers"]) == USUAL | LIMITED | {"Retry-After"}
    content = response["content"]["application/problem+json"]
    assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert list(content["examples"]) == ["sold-out", "in-flight"]
    assert bundle["components"]["examples"]["SoldOut"] == {
        "summary": "None left",
        "value": {
            "type": "https://a.example/problems/sold-out",
            "code": "sold-out",
            "title": "Title",
            "status": 409,
            "detail": "None is left.",
            "left": 0,
            "instance": "1",
        },
    }


def test_code_is_an_enum_of_all_kinds() -> None:
    kinds = {"b": implied("server", 400), "a": implied("operation", 401)}
    schemas = completed({"responses": done()}, kinds)["components"]["schemas"]
    assert schemas["Code"]["enum"] == ["a", "b"]


@pytest.mark.parametrize(
    ("named", "kinds", "message"),
    [
        (["none"], {}, "paths/things.yaml: /post/x-problems: there is no file problems/none.yaml"),
        ("gone", {"gone": kind(410)}, "/post/x-problems: is not a list of different kinds"),
        (["gone", "gone"], {"gone": kind(410)}, "/post/x-problems: is not a list of different"),
        (["gone"], {"gone": implied("operation", 410)}, "gone is implied by operation; leave it"),
        ([], {"gone": kind(410)}, "problems/gone.yaml: is unused: name it in x-problems"),
        ([], {"gone": kind(200)}, "problems/gone.yaml: /status: is not a status from 400 to 599"),
        ([], {"gone": kind(410, title="")}, "problems/gone.yaml: /title: is not a text"),
        ([], {"gone": kind(410, code="x")}, "problems/gone.yaml: /code: is not a key of a kind"),
        ([], {"gone": {}}, "problems/gone.yaml: /example: is missing"),
        (
            [],
            {"gone": implied("luck", 410)},
            "problems/gone.yaml: /implied-by: is not one of idempotency-key, ",
        ),
        ([], {"gone": kind(410, members=["x"])}, "problems/gone.yaml: /members: is not a mapping"),
        (
            [],
            {"gone": kind(410, members={"x": "it"})},
            "gone.yaml: /example/value/x: is not shown",
        ),
        ([], {"gone": kind(410, example={})}, "gone.yaml: /example: is not a mapping of summary"),
        (
            [],
            {"gone": kind(410, example={"summary": "x", "value": {"detail": "x", "y": 1}})},
            "problems/gone.yaml: /example/value/y: is not declared in members",
        ),
    ],
)
def test_a_mistake_is_named_with_file_and_place(
    named: object, kinds: SchemaNode, message: str
) -> None:
    with pytest.raises(ContractError) as caught:
        completed({"responses": done(), "x-problems": named}, kinds)
    assert message in str(caught.value)


def test_problems_need_a_schema_with_an_example() -> None:
    with pytest.raises(ContractError, match=r"^components/schemas/Problem.yaml: is needed"):
        completed({"responses": done()}, {"gone": implied("operation", 410)}, example={})


def test_the_completed_contract_is_valid_openapi() -> None:
    assert list(OpenAPIV30SpecValidator(our_document().bundle).iter_errors()) == []
