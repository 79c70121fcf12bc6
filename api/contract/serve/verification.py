"""Response checks: status, headers and body against the contract, before they are sent.

Outside production, a response that breaks the contract becomes a 500, so that a test fails when
code and contract differ. In production a sample is checked; violations are counted and logged, but
the response is sent.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from api.contract import strict_json
from api.contract.compile.operations import Operation, declared_operations
from api.contract.compile.problem_responses import PROBLEM_MEDIA_TYPE
from api.contract.compile.request_bodies import JSON_MEDIA_TYPE
from api.contract.compile.schemas import SchemaNode, Validator, Validators, resolve
from api.contract.engine_errors import ContractViolation, Mistake
from api.contract.serve.request import Answer

_ALWAYS = frozenset({"content-type", "content-length", "vary", "allow"})
_CORS = "access-control-"

Check: TypeAlias = Callable[[Answer], str | None]


class _Body(NamedTuple):
    """A declared body; `codes` are the kinds of problem that it may be."""

    validator: Validator
    codes: frozenset[str] | None


class _Response(NamedTuple):
    """A declared response: its bodies by media type, and its headers, some required."""

    bodies: Mapping[str, _Body]
    headers: Mapping[str, tuple[bool, Validator]]


class Verifier:
    """Checks responses against the contract. A schema is compiled when it is first needed."""

    def __init__(self, bundle: SchemaNode, validators: Validators) -> None:
        self._bundle = bundle
        self._validators = validators
        self._declared = {
            (str(declared["operationId"]), int(status)): resolve(bundle, node)
            for _path, _method, declared in declared_operations(bundle)
            for status, node in declared["responses"].items()
        }
        self._compiled: dict[tuple[str, int], _Response] = {}

    def compile_all(self) -> None:
        """Compile the schemas of all responses.

        Raises:
            Mistake: the schema of a response cannot be compiled.
        """
        for path, method, declared in declared_operations(self._bundle):
            try:
                for status in declared["responses"]:
                    self._response(str(declared["operationId"]), int(status))
            except ContractViolation as violation:
                raise Mistake(("paths", path, method), str(violation)) from violation

    def _response(self, operation: str, status: int) -> _Response | None:
        key = (operation, status)
        if key not in self._compiled and key in self._declared:
            declared = self._declared[key]
            self._compiled[key] = _Response(
                {
                    media_type: _Body(self._validators.of(content["schema"]), _codes(content))
                    for media_type, content in declared.get("content", {}).items()
                },
                {
                    name.lower(): self._header(resolve(self._bundle, header))
                    for name, header in declared.get("headers", {}).items()
                },
            )
        return self._compiled.get(key)

    def _header(self, declared: SchemaNode) -> tuple[bool, Validator]:
        schema = resolve(self._bundle, declared["schema"])
        return bool(declared.get("required", False)), self._validators.of(schema)

    def mismatch(self, operation: Operation | None, answer: Answer) -> str | None:
        """Return how the response breaks the contract, or None."""
        media_type = (answer.header("content-type") or "").partition(";")[0]
        if operation is None:
            problem = _Body(self._validators.component("Problem"), None)
            return _body_mismatch(problem, media_type, answer) if answer.body else None
        declared = self._response(operation.id, answer.status)
        if declared is None:
            return f"status {answer.status} is not declared"
        if answer.body or media_type:
            body = declared.bodies.get(media_type)
            if body is None:
                return f"media type {media_type!r} is not declared for {answer.status}"
            mismatch = _body_mismatch(body, media_type, answer)
            if mismatch:
                return mismatch
        return self._header_mismatch(declared.headers, answer)

    def _header_mismatch(
        self, declared: Mapping[str, tuple[bool, Validator]], answer: Answer
    ) -> str | None:
        sent = {name.lower(): value for name, value in answer.headers}
        for name, value in sent.items():
            if name in _ALWAYS or name.startswith(_CORS):
                continue
            if name not in declared:
                return f"header {name} is not declared for {answer.status}"
            validator = declared[name][1]
            if not validator.is_valid(value) and not _is_valid_number(validator, value):
                return f"header {name} does not fit its schema"
        absent = [name for name, (required, _) in declared.items() if required and name not in sent]
        return f"header {absent[0]} is missing from {answer.status}" if absent else None


def _body_mismatch(body: _Body, media_type: str, answer: Answer) -> str | None:
    if media_type not in (JSON_MEDIA_TYPE, PROBLEM_MEDIA_TYPE):
        return None
    try:
        value = strict_json.parse(answer.body, most_values=None)
    except strict_json.NotStrictJSON as error:
        return f"the body is not strict JSON: {error}"
    if violation := body.validator.violation(value):
        return f"the body at {violation.pointer!r} {violation.message}"
    if body.codes and isinstance(value, dict) and value.get("code") not in body.codes:
        return f"the kind of problem is not one of {', '.join(sorted(body.codes))}"
    return None


def _codes(content: SchemaNode) -> frozenset[str] | None:
    """Return the kinds of problem that a media type declares by its examples."""
    is_problem = content["schema"] == {"$ref": "#/components/schemas/Problem"}
    return frozenset(content["examples"]) if is_problem and "examples" in content else None


def _is_valid_number(validator: Validator, text: str) -> bool:
    return text.isdigit() and validator.is_valid(int(text))
