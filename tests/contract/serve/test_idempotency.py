"""A request with an `Idempotency-Key` runs once and gets a response each time it is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from api.contract.compile.operations import Operation, compile_operations
from api.contract.compile.schemas import SchemaNode, Validators
from api.contract.engine_errors import ContractViolation
from api.contract.ports import Recheck
from api.contract.serve.calls import Call
from api.contract.serve.pagination import Cursors
from api.contract.serve.request import Answer, Request
from api.contract.strict_json import JSON
from api.credentials.bearer import Caller
from api.server.kept_answers import Idempotency
from models.errors import IdempotencyInFlight, IdempotencyKeyReused, NotFound
from models.identity.user import User
from models.storage.database import Database
from tests.databases import KINDS, make_database_url

TEXT: SchemaNode = {"schema": {"type": "string"}}
CREATED: SchemaNode = {
    "headers": {
        "Location": {"required": True, **TEXT},
        "ETag": {"required": True, **TEXT},
        "Idempotent-Replayed": {"schema": {"type": "string", "enum": ["true"]}},
        "Cache-Control": {"required": True, "schema": {"type": "string", "default": "no-store"}},
    },
    "links": {"self": {"operationId": "get_user"}},
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"id": {"type": "integer"}, "name": {}}}
        }
    },
}
ALICE, BOB = "alice", "bob"
SCOPES = frozenset({"users:write", "users:read"})
Work = Callable[[Session], User]


def operation(name: str = "make_user", **changes: Any) -> Operation:  # noqa: ANN401 - parts of a document.
    """An operation that takes a key."""
    declared: SchemaNode = {
        "operationId": name,
        "tags": ["users"],
        "security": [{"bearer": ["users:write"]}],
        "parameters": [
            {"name": "team", "in": "path", "required": True, "x-ownership": "shared", **TEXT},
            {"name": "Idempotency-Key", "in": "header", **TEXT},
        ],
        "responses": {"201": CREATED},
        **changes,
    }
    got: SchemaNode = {**declared, "operationId": "get_user", "parameters": []}
    bundle: SchemaNode = {
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "paths": {f"/teams/{{team}}/{name}": {"post": declared}, "/user": {"get": got}},
    }
    return compile_operations(bundle, Validators(bundle))[0]


def recheck_nothing(session: Session, caller: Caller, *, hold: bool) -> Callable[[], Caller]:
    del session, hold
    return lambda: caller


class Desk:
    """Takes requests as one process does; two desks of one database are two processes."""

    def __init__(self, database: Database) -> None:
        self._idempotency = Idempotency(database)
        self._database = database
        self._callers = {
            name: Caller(self.account(name).id, "user", SCOPES, 1, uuid4(), None)
            for name in (ALICE, BOB)
        }

    def account(self, name: str) -> User:
        """The account of that name."""

        def find(session: Session) -> User:
            email = f"{name}@concord.example"
            return User.by_email(session, email) or register(session, name)

        return self._database.transact(find, write=True)

    def ask(
        self,
        work: Work,
        body: JSON,
        *,
        key: str | None = "key",
        caller: str = ALICE,
        team: str = "red",
        declared: Operation | None = None,
        scopes: frozenset[str] = SCOPES,
        recheck: Recheck = recheck_nothing,
    ) -> Answer:
        """Send a request whose handler is `work`."""
        declared = declared or operation()
        call = Call(
            declared,
            work,
            services={},
            database=self._database,
            cursors=Cursors(b"k" * 32),
            render=lambda name, _: name,
            recheck=recheck,
            idempotency=self._idempotency,
        )
        request = Request("POST", b"", b"", {}, "id", 0.0, "", "http://concord.example")
        request.caller = replace(self._callers[caller], scopes=scopes)
        request.operation, request.body = declared, body
        request.path_values, request.header_values = {"team": team}, {"idempotency_key": key}
        return call(request)

    def count(self) -> int:
        """How many accounts were made by requests."""
        query = select(func.count()).select_from(User).where(User.name == "Made")
        return self._database.transact(lambda session: session.scalar(query) or 0, write=False)


def register(session: Session, name: str) -> User:
    email = f"{name}@concord.example"
    return User.register(session, name=name, email=email, password_hash=None)


def make(session: Session) -> User:
    """Do what can be seen to have been done twice."""
    made = session.scalar(select(func.count()).select_from(User))
    user = register(session, f"made{made}")
    user.change(session, name="Made")
    return user


def refuse(session: Session) -> User:
    make(session)
    raise NotFound


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(kind: str, tmp_path: Path) -> Iterator[Database]:
    with make_database_url(kind, tmp_path) as url:
        database = Database(url)
        yield database
        database.dispose()


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def test_a_key_is_looked_up_while_the_caller_is_checked(
    desk: Desk, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    try_lock = database.try_lock

    def lock(session: Session, number: int) -> Callable[[], bool]:
        steps.append("key")
        return try_lock(session, number)

    def recheck(session: Session, caller: Caller, *, hold: bool) -> Callable[[], Caller]:
        assert session.is_active
        assert hold

        def wait() -> Caller:
            steps.append("caller")
            return caller

        return wait

    monkeypatch.setattr(database, "try_lock", lock)
    desk.ask(make, {}, recheck=recheck)
    assert steps == ["key", "caller"]


def test_a_repeated_request_gets_the_same_response_once_executed(desk: Desk) -> None:
    first = desk.ask(make, {"a": 1, "b": {"c": 2, "d": [3]}})
    again = desk.ask(make, {"b": {"d": [3], "c": 2}, "a": 1})

    assert desk.count() == 1
    assert (again.status, again.body) == (first.status, first.body) == (201, first.body)
    assert again.headers == [*first.headers, ("Idempotent-Replayed", "true")]
    assert {name for name, _ in first.headers} == {
        *("Cache-Control", "Content-Type", "ETag", "Location"),
    }


@pytest.mark.parametrize(
    "other",
    [
        {"body": {"a": 2}},
        {"body": {"a": "1"}},
        {"body": {"a": 1, "b": None}},
        {"body": None},
        {"team": "blue"},
        {"declared": operation("make_other")},
        {"scopes": frozenset({"users:write"})},
        {"scopes": SCOPES | {"admin:access"}},
    ],
)
def test_a_different_request_with_the_key_is_refused(desk: Desk, other: dict[str, Any]) -> None:
    desk.ask(make, {"a": 1})
    with pytest.raises(IdempotencyKeyReused):
        desk.ask(make, **{"body": {"a": 1}, **other})
    assert desk.count() == 1
    assert desk.ask(make, {"a": 1}).header("idempotent-replayed") == "true"


def test_a_key_belongs_to_its_caller(desk: Desk) -> None:
    desk.ask(make, {"a": 1})
    desk.ask(make, {"a": 2}, caller=BOB)
    desk.ask(make, {"a": 3}, key="KEY")
    assert desk.count() == 3


def test_requests_without_a_key_are_all_executed(desk: Desk) -> None:
    for _ in range(2):
        assert desk.ask(make, {"a": 1}, key=None).header("idempotent-replayed") is None
    assert desk.count() == 2


def test_a_refusal_is_not_stored(desk: Desk) -> None:
    with pytest.raises(NotFound):
        desk.ask(refuse, {"a": 1})
    assert desk.count() == 0
    assert desk.ask(make, {"a": 2}).header("idempotent-replayed") is None
    assert desk.count() == 1


def test_a_conflicting_request_is_executed_once(desk: Desk) -> None:
    tries: list[User] = []

    def make_at_last(session: Session) -> User:
        tries.append(make(session))
        if len(tries) < 3:
            raise StaleDataError
        return tries[-1]

    desk.ask(make_at_last, {"a": 1})
    assert desk.ask(refuse, {"a": 1}).header("idempotent-replayed") == "true"
    assert (len(tries), desk.count()) == (3, 1)


class Slow:
    """A handler that waits, once it has done its work, until it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, session: Session) -> User:
        user = make(session)
        self.begun.set()
        assert self.go.wait(10)
        return user


def test_the_same_process_refuses_a_running_key_at_once(desk: Desk) -> None:
    slow = Slow()
    thread = threading.Thread(target=desk.ask, args=(slow, {"a": 1}))
    thread.start()
    try:
        assert slow.begun.wait(10)
        for work in (make, refuse):
            with pytest.raises(IdempotencyInFlight):
                desk.ask(work, {"a": 1})
    finally:
        slow.go.set()
        thread.join(10)
    assert desk.ask(make, {"a": 1}).header("idempotent-replayed") == "true"
    assert desk.count() == 1


def test_another_process_refuses_or_waits_for_a_running_key(
    database: Database, desk: Desk, kind: str
) -> None:
    slow, other = Slow(), Desk(database)
    thread = threading.Thread(target=desk.ask, args=(slow, {"a": 1}))
    thread.start()
    try:
        assert slow.begun.wait(10)
        if kind == "postgresql":
            with pytest.raises(IdempotencyInFlight):
                other.ask(make, {"a": 1})
        else:
            threading.Timer(0.2, slow.go.set).start()
            assert other.ask(make, {"a": 1}).header("idempotent-replayed") == "true"
    finally:
        slow.go.set()
        thread.join(10)
    assert other.ask(make, {"a": 1}).header("idempotent-replayed") == "true"
    assert desk.count() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"security": []},
        {"security": [{"bearer": ["users:write"]}, {}]},
        {"x-engine-transaction": "read"},
        {"x-engine-transaction": "none"},
    ],
)
def test_a_key_needs_a_caller_and_a_transaction(desk: Desk, changes: SchemaNode) -> None:
    with pytest.raises(ContractViolation, match="make_user takes an idempotency key"):
        desk.ask(make, None, declared=operation(**changes))
