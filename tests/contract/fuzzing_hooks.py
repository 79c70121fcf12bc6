"""What schemathesis is told of Concord beside schemathesis.toml, which names this module."""

# ruff: noqa: ARG001 - schemathesis passes all that it has, by name.

import itertools
import os
from http import HTTPStatus
from typing import Any, TypeAlias

import requests
import schemathesis
from hypothesis import strategies
from schemathesis import (
    APIOperation,
    Case,
    CheckContext,
    DeserializationContext,
    HookContext,
    Response,
)

AnyCase: TypeAlias = Case[APIOperation[Any, Any, Any, Any]]

PROBLEM = "application/problem+json"
_numbers = itertools.count(1)

# What a well-formed request may be refused for, as `code` of the problem's `errors`: nothing that
# the schema could have said. schemathesis.toml lists the operations and their statuses.
BUSINESS_RULES = {"rule", "cursor"}
BUSINESS_PROBLEMS = {"impossible-division", "version-mismatch", "weak-password"}

_tags = strategies.lists(
    strategies.from_regex(r'(W/)?"[!#-~]{0,8}"', fullmatch=True), min_size=1, max_size=4
).map(", ".join)
_versions = strategies.sampled_from(["*", '"1"', '"2"', '"3"', '"2", "1"', 'W/"1"'])
# Strings with quotes are made of known formats only, whatever their pattern says.
schemathesis.openapi.format("entity-tags", _tags | _versions)


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Give entity tags their format, which the contract says in a pattern."""
    raw_schema["components"]["schemas"]["EntityTags"]["format"] = "entity-tags"


@schemathesis.hook
def before_call(context: HookContext, case: AnyCase, kwargs: dict[str, Any]) -> None:
    """Let each request come from an address of its own, so that no limit per address counts it.

    The header is added where requests adds credentials, when the case is done: as a header of the
    case it would be part of what is tested.
    """
    number = next(_numbers)
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"

    def forwarded(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Forwarded-For"] = address
        return request

    kwargs["auth"] = forwarded


@schemathesis.hook
def after_call(context: HookContext, case: AnyCase, response: Response) -> None:
    """Go on with another account when one has used up a limit."""
    desk = os.environ.get("SIGN_IN_DESK")
    if desk and case.auth_identity and response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        requests.delete(f"{desk}/{case.auth_identity}", timeout=10).raise_for_status()


# The first name that schemathesis knows for YAML stands for them all.
@schemathesis.deserializer("text/html", "text/css", "text/javascript", "text/yaml")
def text(context: DeserializationContext, response: Response) -> str:
    """Read what the contract declares as a string, which YAML is here as well."""
    return response.text


@schemathesis.deserializer("image/png")
def octets(context: DeserializationContext, response: Response) -> bytes:
    """Read what the contract declares as binary."""
    return response.content


@schemathesis.check
def every_error_is_a_problem(context: CheckContext, response: Response, case: AnyCase) -> None:
    """Ask for RFC 9457 also where no operation is, as for methods that nobody declared."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    assert response.headers["content-type"] == [PROBLEM], "the error is no problem"
    problem = response.json()
    assert problem["status"] == response.status_code, "the problem has another status"
    assert [problem["instance"]] == response.headers["x-request-id"], "the instance is another"


@schemathesis.check
def well_formed_requests_are_refused_by_rules(
    context: CheckContext, response: Response, case: AnyCase
) -> None:
    """Look closer where schemathesis.toml lets a well-formed request be refused."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code not in (400, 412, 422):
        return
    problem = response.json()
    slug = problem["type"].rpartition("/")[2]
    codes = {fault["code"] for fault in problem.get("errors", ())}
    no_password = problem.get("missing_fields") == ["current_password"]
    assert slug in BUSINESS_PROBLEMS or (codes and codes <= BUSINESS_RULES) or no_password, (
        "a well-formed request was refused for its form"
    )
