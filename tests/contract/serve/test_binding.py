"""Assumptions about connexion and Flask: the name of each test states what a change breaks."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import pytest
from connexion.apps.abstract import AbstractApp
from connexion.apps.flask import FlaskApi
from connexion.middleware.abstract import RoutedAPI, SpecMiddleware
from connexion.middleware.main import API, ConnexionMiddleware
from connexion.operations import AbstractOperation
from connexion.resolver import Resolution, Resolver
from connexion.spec import OpenAPISpecification, Specification
from flask import Flask
from flask.ctx import RequestContext
from werkzeug.routing import Rule

from api.contract import binding
from api.contract.compile.operations import Operation, compile_operations
from api.contract.compile.schemas import Validators
from api.contract.engine_errors import ContractError, ContractViolation
from api.contract.leaving_out import leaving_out
from api.contract.serve import middleware
from api.contract.serve.middleware import Engine
from api.contract.serve.request import Answer, Request
from api.server.application import Application
from api.server.settings import Settings
from app import create_app
from tests.our_document import our_document


def parameters(function: Callable[..., object]) -> list[str]:
    return list(inspect.signature(function).parameters)


def an_operation(name: str) -> Operation:
    bundle = our_document().bundle
    operations = compile_operations(bundle, Validators(bundle))
    return next(operation for operation in operations if operation.id == name)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        app_env="test",
        database_url=f"sqlite:///{tmp_path / 'test.db'}",
        signing_key_file=tmp_path / "key.pem",
    )


def make(settings: Settings) -> Application:
    app = create_app(settings)
    app.close()
    return app


def test_the_middleware_stack_can_be_replaced() -> None:
    # binding._ContractApp hands the engine over as the only middleware.
    assert "middlewares" in parameters(AbstractApp.__init__)
    assert "_middleware_app" in AbstractApp.__annotations__
    assert ConnexionMiddleware.default_middlewares


def test_the_stack_can_be_built_before_the_first_request() -> None:
    # binding._ContractApp.build does what connexion does when the first request comes.
    made = ConnexionMiddleware(Flask("test"), middlewares=[])
    assert made.middleware_stack is None
    outermost, stack = made._build_middleware_stack()  # noqa: SLF001 - as in binding.
    assert outermost is made.app
    assert list(stack) == [made.app]
    assert parameters(ConnexionMiddleware._build_middleware_stack) == ["self"]  # noqa: SLF001 - as in binding.
    assert "middleware_stack" in inspect.getsource(ConnexionMiddleware.__call__)


def test_modules_can_be_left_out_of_imports() -> None:
    with leaving_out("turtledemo", "sys"):
        unused = importlib.import_module("turtledemo").Turtle
        assert sys.modules["sys"] is sys
        # While imported, connexion derives classes from jsonschema's and calls its functions.
        derived: Any = type("Error", (unused, ValueError), {})
        assert isinstance(unused.VALIDATORS["type"]("any", names=()), type)
    assert "turtledemo" not in sys.modules
    assert issubclass(derived, ValueError)
    assert not hasattr(unused, "__wrapped__")
    with pytest.raises(TypeError, match="not iterable"):
        iter(unused)
    for function in (unused().validate, derived().validate, unused.VALIDATORS["type"]):
        with pytest.raises(RuntimeError, match="left out"):
            function()


def test_a_specification_check_can_be_skipped() -> None:
    # binding._CheckedSpecification checks nothing, and binding._ContractApp.bind hands it over.
    assert parameters(Specification._validate_spec) == ["spec"]  # noqa: SLF001 - as in binding.
    assert "self._validate_spec(raw_spec)" in inspect.getsource(Specification.__init__)
    assert issubclass(OpenAPISpecification, Specification)
    assert parameters(API.__init__) == ["self", "specification", "base_path", "kwargs"]
    made = ConnexionMiddleware(Flask("test"), middlewares=[])
    assert made.apis == []
    resolver = Resolver()
    assert made.options.replace(resolver=resolver).resolver is resolver
    assert "self.apis.append(api)" in inspect.getsource(ConnexionMiddleware.add_api)


def test_operations_are_created_by_an_overridable_method() -> None:
    # binding._ContractApi.make_operation returns the view of a compiled call.
    assert parameters(FlaskApi.make_operation) == ["self", "operation"]
    assert parameters(RoutedAPI.add_operation) == ["self", "path", "method"]
    assert "self.make_operation(" in inspect.getsource(FlaskApi.add_operation)
    for name in ("operation_id", "function"):
        assert isinstance(getattr(AbstractOperation, name), property)
    assert callable(SpecMiddleware.add_api)
    assert "blueprint" in inspect.getsource(FlaskApi._set_blueprint)  # noqa: SLF001 - as above.


def test_no_rule_needs_code_that_builds_urls() -> None:
    # binding._Rule generates no such code, and without a URL adapter, nothing could run it.
    assert parameters(Rule._compile_builder) == ["self", "append_unknown"]  # noqa: SLF001 - as in binding.
    app = binding._ContractFlask("test")  # noqa: SLF001 - as in binding.
    app.add_url_rule("/things/<id>", "thing")
    with app.app_context(), pytest.raises(RuntimeError, match="Unable to build URLs"):
        flask.url_for("thing", id=1)


def test_a_resolver_finds_the_function_of_an_operation() -> None:
    # binding._FoundHandlers.resolve says which it is.
    assert parameters(Resolver.resolve) == ["self", "operation"]
    assert parameters(Resolution.__init__) == ["self", "function", "operation_id"]


def test_flask_accepts_the_matched_route() -> None:
    # binding._MatchedContext sets what Flask's own search for the route would set.
    assert parameters(RequestContext.__init__)[:4] == ["self", "app", "environ", "request"]
    assert parameters(Flask.create_url_adapter) == ["self", "request"]
    assert parameters(Flask.full_dispatch_request) == ["self"]
    assert parameters(Flask.make_response) == ["self", "rv"]
    source = inspect.getsource(Flask.dispatch_request)
    assert "req.url_rule" in source
    assert "req.view_args" in source


def test_a_response_has_no_other_headers_than_its_answer() -> None:
    # binding._Answered relies on two attributes of Flask's response.
    answer = Answer(201, [("ETag", '"1"'), ("Link", "<a>"), ("Link", "<b>")], b"body")
    made = binding._Answered(answer)  # noqa: SLF001 - as in binding.
    assert (made.status_code, made.get_data()) == (201, b"body")
    assert list(made.headers) == answer.headers
    made.headers["ETag"] = '"2"'
    assert answer.header("etag") == '"1"'


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\r"])
def test_a_header_that_contains_another_is_not_sent(value: str) -> None:
    # Headers of handlers reach the engine unchecked.
    with pytest.raises(ContractViolation, match="line break"):
        middleware._start(Answer(200, [("ETag", '"1"'), ("Link", value)]))  # noqa: SLF001 - see above.


def a_health_check() -> Request:
    request = Request("GET", b"/health", b"a=%C3%BC", {}, "id", 0.0, "192.0.2.1", "")
    request.operation = an_operation("get_health")
    return request


def test_flask_dispatches_to_its_view(settings: Settings) -> None:
    inner = vars(make(settings).asgi)["_middleware_app"]
    views = inner.app.view_functions
    original = views["contract.get_health"]
    seen: list[object] = []

    def view(request: Request) -> Answer:
        seen.append(flask.request.path if flask.has_request_context() else None)
        found: Answer = original(request=request)
        return found

    views["contract.get_health"] = view
    request = a_health_check()
    directly = inner.dispatch(request)
    with flask.request_started.connected_to(lambda _: None, inner.app):
        in_context = inner.dispatch(request)
    # Flask's context is left out unless something is registered that could use it.
    assert seen == [None, "/health"]
    assert directly == in_context
    assert directly.status == 200


def test_what_is_registered_with_flask_is_called(settings: Settings) -> None:
    inner = vars(make(settings).asgi)["_middleware_app"]
    called: list[str] = []

    def note(name: str) -> Callable[[flask.Response], flask.Response]:
        def change(response: flask.Response) -> flask.Response:
            called.append(name)
            response.headers["Changed-By"] = name
            response.status_code = 203
            response.set_data(b"changed")
            return response

        return change

    def before() -> None:
        called.append(f"{flask.request.method} {flask.request.args['a']}")
        flask.after_this_request(note("this"))

    request = a_health_check()
    inner.app.before_request(before)
    answer = inner.dispatch(request)
    assert (answer.status, answer.header("changed-by"), answer.body) == (203, "this", b"changed")
    inner.app.after_request_funcs["contract"] = [note("each")]
    inner.app.teardown_request_funcs["contract"] = [lambda _: called.append("teardown")]
    assert inner.dispatch(request).header("changed-by") == "each"
    assert called == ["GET ü", "this", "GET ü", "this", "each", "teardown"]
    inner.app.teardown_request_funcs.clear()
    with flask.request_tearing_down.connected_to(
        lambda _, **__: called.append("signal"), inner.app
    ):
        inner.dispatch(request)
    assert called[-1] == "signal"


@pytest.mark.mission("M2")
def test_the_engine_is_the_only_middleware(settings: Settings) -> None:
    middleware = vars(make(settings).asgi)["middleware"]
    assert isinstance(middleware.app, Engine)
    assert middleware.middleware_stack[0] is middleware.app
    assert len(middleware.middleware_stack) == 2


@pytest.mark.parametrize(
    "handler", ["api.divide.divide", "api.users.create_user", "api.health.get_health"]
)
def test_an_operation_without_a_handler_stops_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, handler: str
) -> None:
    monkeypatch.delattr(handler)
    with pytest.raises(ContractError, match=f"/operationId: no handler {handler}"):
        create_app(settings)


def test_a_handler_with_an_unknown_argument_stops_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def divide(a: float, c: float) -> None:
        """Take what the contract does not declare."""

    monkeypatch.setattr("api.divide.divide", divide)
    with pytest.raises(ContractError, match="divide asks for 'c', which nothing provides"):
        create_app(settings)


def test_a_handler_may_omit_unused_arguments(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.divide.divide", lambda a: {"result": a})
    make(settings)
