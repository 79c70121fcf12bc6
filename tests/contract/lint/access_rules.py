"""Rules for permissions and rate limits of operations."""

import re
from collections.abc import Iterator

from api.contract.compile.schemas import SchemaNode, Validator
from tests.contract.walk import DeclaredOperation, Finding, operations

PUBLIC_OPERATIONS = {
    "get_file",
    "complete_sign_in",
    "confirm_email",
    "confirm_password_reset",
    "create_token",
    "create_user",
    "divide",
    "get_confirm",
    "get_docs",
    "get_docs_asset",
    "get_guide",
    "get_health",
    "get_jwks",
    "get_openapi_31",
    "get_openapi_json",
    "get_openapi_yaml",
    "get_problem",
    "get_readiness",
    "get_root",
    "list_currencies",
    "list_problems",
    # Whoever sends it signs it.
    "receive_payment_event",
    "refresh_token",
    "request_password_reset",
}
# These need no token and answer more to whoever has one. A token that is sent has to hold all the
# same, so that nobody takes what they see for all that there is.
OPTIONALLY_SIGNED_IN = {"get_product", "list_products"}
# What is answered from memory costs no more than counting it would, and a readiness probe that is
# refused would take a healthy service out of use.
UNLIMITED_OPERATIONS = PUBLIC_OPERATIONS - {
    *("complete_sign_in", "create_token", "create_user", "divide", "get_file", "refresh_token"),
    *("confirm_email", "confirm_password_reset", "receive_payment_event"),
    "request_password_reset",
}
PASSWORD_PROOFS = {"password-proof", "password-proof-account"}
RATE_LIMITS: SchemaNode = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "limit", "window", "per", "when-unavailable"],
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"},
            "limit": {"type": "integer", "minimum": 1},
            "window": {"type": "integer", "minimum": 1, "maximum": 86400},
            "per": {"type": "string", "pattern": "^(address|caller|caller-and-address|#/[a-z_]+)$"},
            "when-given": {"type": "string", "pattern": "^#/[a-z_]+$"},
            "shared": {"type": "boolean", "enum": [True]},
            "gives-back": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "integer", "minimum": 200, "maximum": 599},
            },
            "known-apart": {"type": "boolean", "enum": [True]},
            "trickle": {"type": "integer", "minimum": 1, "maximum": 3600},
            "when-unavailable": {"type": "string", "enum": ["open", "closed"]},
        },
    },
}

REQUIRED_SESSIONS: SchemaNode = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "max-age": {"type": "integer", "minimum": 60},
            "when-given": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "pattern": "^#/[a-z_]+$"},
            },
        },
    },
}

REQUIRED_SCOPES: SchemaNode = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["when-given", "scopes"],
        "properties": {
            "when-given": REQUIRED_SESSIONS["items"]["properties"]["when-given"],
            "scopes": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "pattern": "^[a-z]+:[a-z]+$"},
            },
        },
    },
}


def security_is_stated_and_closed(bundle: SchemaNode) -> Iterator[Finding]:
    """A scheme without scopes lets any token in, and `{}` whoever has none, where that is known."""
    for operation in operations(bundle):
        requirements = operation.node.get("security")
        if requirements is None:
            yield Finding(operation.place, "does not state its security")
            continue
        if operation.node["operationId"] in OPTIONALLY_SIGNED_IN and requirements[1:] == [{}]:
            requirements = requirements[:1]
        if len(requirements) > 1 or any(set(each) != {"bearer"} for each in requirements):
            yield Finding(operation.place, "wants something other than one bearer token")
        for requirement in requirements:
            scopes = requirement.get("bearer", ())
            if not scopes or not all(re.fullmatch("[a-z]+:[a-z]+", scope) for scope in scopes):
                yield Finding(operation.place, "names no scope, or one that is none")


def only_known_operations_are_public(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        if not is_secured(operation) and operation.node["operationId"] not in PUBLIC_OPERATIONS:
            yield Finding(operation.place, "needs no token and is not known to be public")


def operations_are_limited(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        if (
            "x-rate-limit" not in operation.node
            and operation.node["operationId"] not in UNLIMITED_OPERATIONS
        ):
            yield Finding(operation.place, "has no x-rate-limit")


def rate_limits_are_well_formed(bundle: SchemaNode) -> Iterator[Finding]:
    validator = Validator(bundle, RATE_LIMITS)
    for operation in operations(bundle):
        limits = operation.node.get("x-rate-limit")
        if limits is None:
            continue
        if not validator.is_valid(limits):
            yield Finding(operation.place, "has an x-rate-limit of another shape")
            continue
        if len({limit["name"] for limit in limits}) < len(limits):
            yield Finding(operation.place, "has two limits of one name")
        for limit in limits:
            member = limit["per"].removeprefix("#/")
            if limit["per"].startswith("caller") and not _knows_its_caller(operation):
                yield Finding(operation.place, "counts callers and does not know them")
            elif not {"known-apart", "trickle"}.isdisjoint(limit) and member == limit["per"]:
                yield Finding(operation.place, "goes beyond a limit that is not by a member")
            elif member != limit["per"] and member not in (operation.body or {}).get(
                "required", ()
            ):
                yield Finding(operation.place, f"counts by {member}, which may be absent")


def returned_tries_are_limited(bundle: SchemaNode) -> Iterator[Finding]:
    """A limit that gives tries back bounds only failures, so another one must bound the rest."""
    for operation in operations(bundle):
        limits = operation.node.get("x-rate-limit", ())
        bounded = {limit.get("per") for limit in limits if "gives-back" not in limit}
        for limit in limits:
            returned = limit.get("gives-back", ())
            if returned and (limit["per"] != "address" or "address" not in bounded):
                yield Finding(operation.place, "does not limit by address what it gives back")
            if not {*map(str, returned)} <= set(operation.node["responses"]):
                yield Finding(operation.place, "gives back for a status that it never sends")


def required_sessions_are_well_formed(bundle: SchemaNode) -> Iterator[Finding]:
    """Sessions are required of a known caller, for members that exist."""
    yield from _misstated(bundle, "x-requires-session", REQUIRED_SESSIONS, "a session")


def required_scopes_are_well_formed(bundle: SchemaNode) -> Iterator[Finding]:
    """Scopes are required of a known caller, for members that exist."""
    yield from _misstated(bundle, "x-requires-scopes", REQUIRED_SCOPES, "scopes")


def _misstated(bundle: SchemaNode, key: str, shape: SchemaNode, what: str) -> Iterator[Finding]:
    """A name that no body has would require nothing, and nobody would notice."""
    validator = Validator(bundle, shape)
    for operation in operations(bundle):
        required = operation.node.get(key)
        if required is None:
            continue
        if not validator.is_valid(required):
            yield Finding(operation.place, f"has an {key} of another shape")
            continue
        if not _knows_its_caller(operation):
            yield Finding(operation.place, f"requires {what} and does not know its caller")
        members = (operation.body or {}).get("properties", {})
        for name in (name for each in required for name in each.get("when-given", ())):
            if name.removeprefix("#/") not in members:
                yield Finding(operation.place, f"requires {what} for {name}, which is no member")


def guessing_is_limited(bundle: SchemaNode) -> Iterator[Finding]:
    """What checks the caller's password counts with all others that do; so do credentials.

    Who confirms an address is no caller, and has a link with which the password could be reset.
    """
    for operation in operations(bundle):
        members = (operation.body or {}).get("properties", {})
        limits = operation.node.get("x-rate-limit", ())
        proofs = {limit["name"] for limit in limits if limit.get("shared")}
        proves = "current_password" in members and is_secured(operation)
        wanted = PASSWORD_PROOFS if proves else set()
        if proofs != wanted:
            yield Finding(operation.place, f"shares {sorted(proofs)} and not {sorted(wanted)}")
    for name, scheme in bundle["components"].get("securitySchemes", {}).items():
        limits = scheme.get("x-rate-limit")
        if not Validator(bundle, RATE_LIMITS).is_valid(limits) or limits[0]["per"] != "address":
            yield Finding(f"components/securitySchemes/{name}", "does not limit guessing")


def is_secured(operation: DeclaredOperation) -> bool:
    """Tell whether an operation looks at a token; what is not stated is the document's default."""
    return bool(operation.node.get("security", operation.bundle.get("security")))


def _knows_its_caller(operation: DeclaredOperation) -> bool:
    return is_secured(operation) and {} not in operation.node.get("security", ())
