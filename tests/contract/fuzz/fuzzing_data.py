"""What schemathesis's data lack to get past the door: new keys, orders that can be shipped.

What is made up from a schema is well-formed, and refused all the same: a cursor that nobody gave
out, a SKU that is taken by the request before, an order that was delivered. Seven in eight such
requests with a body, and all without one, are put right just before they are sent, so that what is
behind the door is tested too.
"""

# ruff: noqa: ARG001 - schemathesis passes all that it has, by name.

import json
import os
import re
import uuid
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

import requests
import schemathesis
from hypothesis import strategies
from schemathesis import APIOperation, Case, HookContext, Response
from schemathesis.core import NotSet
from schemathesis.generation.meta import TestPhase

from tests.contract.fuzz.shelf import NOBODY, OTHERS, SHELF
from tests.signing import intent

AnyCase: TypeAlias = Case[APIOperation[Any, Any, Any, Any]]

DESK = os.environ.get("SIGN_IN_DESK")
"""Where what is missing is fetched; nowhere if schemathesis runs by hand."""

KEY = "Idempotency-Key"
EVENT = json.dumps(intent(None, 1))
"""An event of a payment provider, to be signed."""

DELETED = 7
"""The product of the contract's examples, which the example of `delete_product` deletes."""
_ONE_IN = 8
_CURRENCIES = {"EUR", "JPY", "KWD", "USD"}
"""Some with two, no and three digits behind the point."""

_PROVED = {"challenge", "code", "current_password", "refresh_token", "token"}
"""Members that show who somebody is."""

_tags = strategies.lists(
    strategies.from_regex(r'(W/)?"[!#-~]{0,8}"', fullmatch=True), min_size=1, max_size=4
).map(", ".join)
_versions = strategies.sampled_from(["*", '"1"', '"2"', '"3"', '"2", "1"', 'W/"1"'])
# Strings with quotes are made of known formats only, whatever their pattern says.
schemathesis.openapi.format("entity-tags", _tags | _versions)

_HOLDING_MONEY = {"paid", "partially_shipped", "shipped", "delivered"}
"""States in which an order of the desk has money that can be returned."""

_desk_session = requests.Session()
"""Keeps the connection to the desk."""

_given_out: set[str] = set()
_states: dict[str, list[str]] = {}
"""For each action the states of an order that allow it."""


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Say in words that schemathesis knows what the contract says in others."""
    schemas = raw_schema["components"]["schemas"]
    schemas["EntityTags"]["format"] = "entity-tags"
    # A file that is too large would not be made, but taken for one.
    del schemas["PictureUpload"]["maxLength"]
    for state, actions in schemas["OrderStatus"]["x-transitions"]["actions"].items():
        for action in actions:
            _states.setdefault(action, []).append(state)


@schemathesis.hook
def filter_case(context: HookContext, case: AnyCase) -> bool:
    """Leave out most of the phase `coverage` that tries each of the 160 currencies everywhere."""
    if case.meta is None or case.meta.phase.name != TestPhase.COVERAGE or not is_positive(case):
        return True
    named = {(case.query or {}).get("currency"), *_currencies(case.body)} - {None}
    return named <= _CURRENCIES


def is_positive(case: AnyCase) -> bool:
    """Whether a request is meant to be well-formed."""
    return case.meta is not None and case.meta.generation.mode.is_positive


def put_right(case: AnyCase) -> None:
    """Give a well-formed request what it needs to succeed, most of the time."""
    number = _number(case)
    if is_positive(case) and isinstance(case.body, dict) and "url" in case.body:
        # Nothing is sent to hosts that are made up.
        case.body = {**case.body, "url": NOBODY}
    if is_positive(case) and (number % _ONE_IN or isinstance(case.body, NotSet)):
        if KEY in case.headers:
            case.headers[KEY] = str(uuid.uuid4())
        if f"{case.path} {case.query.get('cursor')}" not in _given_out:
            case.query.pop("cursor", None)
        if not _is_walk(case) or case.headers.get("If-Match") not in _given_out:
            case.headers.pop("If-Match", None)
        case.headers.pop("If-None-Match", None)
        # A form with a picture stays as it is: schemathesis takes changed files for malformed ones.
        if isinstance(case.body, dict) and "image" not in case.body:
            case.body = {**case.body, **_new(case, case.body), **_proof(case, case.body)}
            labels = case.body.get("metadata")
            if isinstance(labels, dict):
                # OpenAPI 3.0 cannot say what names may be.
                case.body["metadata"] = {_name(name): labels[name] for name in labels}
        if "provider" in case.path_parameters:
            case.path_parameters["provider"] = "stripe"
        _choose_account(case, number)
        _choose_product(case, number)
        _choose_order(case, number)
        _choose_token(case)
        _choose_webhook(case)
        if "path" in case.path_parameters and DESK:
            case.path_parameters["path"] = os.environ["FILE_OF_DESK"]


def learn(case: AnyCase, response: Response) -> None:
    """Remember what is given out that can be asked for."""
    _given_out.update(response.headers.get("etag", ()))
    is_json = response.headers.get("content-type") == ["application/json"]
    if is_json and response.content and response.status_code < 300:
        page = response.json()
        _given_out.update(_ids(page))
        if isinstance(page, dict) and "next_cursor" in page:
            # No other list takes it.
            _given_out.add(f"{case.path} {page['next_cursor']}")


def _ids(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (str(value[name]) for name in ("id", "product_id") if name in value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _ids(each)


def _currencies(body: object) -> set[str | None]:
    members = body.values() if isinstance(body, dict) else ()
    return {each.get("currency") for each in members if isinstance(each, Mapping)}


def _number(case: AnyCase) -> int:
    """Give the number that chance has for a request: the same when it is sent again.

    A walk along links ends where something is answered in another way than before.
    """
    operation_id = case.operation.definition.raw["operationId"]
    body = "" if isinstance(case.body, NotSet) else repr(case.body)
    return zlib.crc32(f"{operation_id} {body} {case.headers.get(KEY)}".encode())


def _is_walk(case: AnyCase) -> bool:
    """Whether a request follows a link."""
    return case.meta is not None and case.meta.phase.name == TestPhase.STATEFUL


def _is_known(case: AnyCase, place: str) -> bool:
    """Whether a path names what was given out; to do something, only where a link leads there."""
    may_stay = _is_walk(case) or (case.method == "GET" and place == "order_id")
    return may_stay and str(case.path_parameters.get(place)) in _given_out


def _new(case: AnyCase, body: Collection[str]) -> dict[str, str]:
    """Make values for the members of which there may be only one of a kind."""
    new = {"sku": uuid.uuid4().hex}
    if case.operation.definition.raw["operationId"] == "create_user":
        new["email"] = f"{uuid.uuid4().hex}@example.com"
    return {name: value for name, value in new.items() if name in body}


def _name(text: str) -> str:
    """Make a name that metadata may have of any other."""
    return re.sub("[^A-Za-z0-9_.-]", "_", text)[:40] or "_"


def _proof(case: AnyCase, body: Collection[str]) -> dict[str, str]:
    """Fetch codes and tokens, of which only those hold that were just given out."""
    if not DESK or not _PROVED & set(body):
        return {}
    operation_id = case.operation.definition.raw["operationId"]
    proof = ask_desk(f"{case.auth_identity or 'user'}/proofs/{operation_id}")
    return {name: value for name, value in proof.items() if name in body}


def ask_desk(place: str, method: str = "POST") -> dict[str, Any]:
    """Fetch from the desk what it makes for an account."""
    answer = _desk_session.request(method, f"{DESK}/{place}", timeout=10)
    answer.raise_for_status()
    made: dict[str, Any] = answer.json()
    return made


def _choose_account(case: AnyCase, number: int) -> None:
    """Put somebody who was there first into the path of a deletion: an administrator may do it."""
    may_delete = case.method == "DELETE" and case.auth_identity == "administrator"
    if may_delete and "user_id" in case.path_parameters and not _is_known(case, "user_id"):
        case.path_parameters["user_id"] = number % OTHERS + 1


def _choose_product(case: AnyCase, number: int) -> None:
    """Put a product of the shelf into the path, and the entry of the ledger that put it there.

    What changes or deletes products has to do with others, or the shelf would soon be bare.
    """
    places = case.path_parameters
    if "product_id" in places and (case.method in {"GET", "POST"} or "position" in places):
        if _is_known(case, "product_id"):
            return
        chosen = number % SHELF + 1
        places["product_id"] = chosen + 1 if chosen == DELETED else chosen
        if "entry_id" in places:
            places["entry_id"] = places["product_id"]


def _choose_order(case: AnyCase, number: int) -> None:
    """Put an order into the path that can be read, or whose state allows the action."""
    who = case.auth_identity
    action = case.operation.definition.raw["operationId"].removesuffix("_order")
    may = who == "administrator" or case.method == "GET" or action in {"update", "cancel", "reduce"}
    if "order_id" not in case.path_parameters or not DESK or not who or not may:
        return
    if not _is_known(case, "order_id"):
        states = _states.get(action, ["refunded"])
        if action in {"bounce", "refund"}:
            states = [state for state in states if state in _HOLDING_MONEY]
        if action == "return":
            # A refunded order of the desk was never shipped.
            states = [state for state in states if state != "refunded"]
        state = states[number % len(states)]
        made: Any = ask_desk(f"{who}/orders/{state}")
        case.path_parameters["order_id"] = made.pop("id")
        if action == "bounce":
            case.body |= made


def _choose_token(case: AnyCase) -> None:
    """Put a session into the path that the caller may end."""
    who = case.auth_identity
    if "token_id" not in case.path_parameters or not DESK or not who or _is_walk(case):
        return
    case.path_parameters["token_id"] = ask_desk(f"{who}/sessions")["id"]


def _choose_webhook(case: AnyCase) -> None:
    """Put a webhook endpoint and a delivery into the path; beside new ones, there remain few."""
    who = case.auth_identity
    is_webhook = "webhooks" in case.operation.definition.raw["tags"]
    if not DESK or who != "administrator" or not is_webhook or _is_known(case, "webhook_id"):
        return
    made = ask_desk(f"{who}/webhooks")
    case.path_parameters.update({n: made[n] for n in made.keys() & case.path_parameters.keys()})
