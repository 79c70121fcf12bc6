"""Everything that touches connexion: nothing else in Concord knows it.

Connexion stays what it is good at: it reads the specification, resolves each `operationId` to a
handler and registers the operation with Flask, which dispatches. Three of its pieces are replaced
through its own extension points, because they rebuild per request what the contract fixes once:

- the middleware stack (`middlewares=[...]`): Concord's engine is its only member;
- `FlaskApi.make_operation`: a compiled `Call` instead of decorators made anew each time;
- `FlaskASGIApp`, which crosses threads through a2wsgi: here Flask is called where the caller is.

`tests/contract/test_binding.py` names what breaks when connexion changes any of them.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import flask

with warnings.catch_warnings():
    # Connexion imports starlette's test client, which warns of a client that nobody uses here.
    warnings.filterwarnings("ignore", message="Using `httpx` with `starlette.testclient`")
    from connexion.apps.abstract import AbstractApp
    from connexion.apps.flask import FlaskApi, FlaskApp
    from connexion.middleware.abstract import SpecMiddleware
    from connexion.middleware.main import API
    from connexion.operations import AbstractOperation
    from connexion.resolver import Resolution, Resolver
    from connexion.spec import OpenAPISpecification, Specification

from flask.ctx import RequestContext
from flask.globals import request_ctx
from flask.sessions import NullSession, SessionInterface
from starlette.types import ASGIApp, Receive, Scope, Send
from werkzeug.datastructures import EnvironHeaders, Headers
from werkzeug.sansio.request import Request as SansIORequest

from api.contract.calls import Handler
from api.contract.errors import ContractViolation
from api.contract.operations import Operation
from api.contract.request import Answer, Request
from api.contract.schemas import SchemaNode

_BLUEPRINT = "contract"
_SERVER = ("localhost", 80)
_NO_HEADERS = EnvironHeaders({})

CallFactory: TypeAlias = Callable[[str, Handler], Callable[[Request], Answer]]
"""Makes an operation's compiled call from its id and its handler."""


class _NoSessions(SessionInterface):
    """Flask's cookie sessions, switched off: identity comes with each request's token."""

    def open_session(self, app: flask.Flask, request: flask.Request) -> NullSession:
        del app, request
        return NullSession()


class _Request(flask.Request):
    """What Flask needs to know of a request: handlers get everything else by name."""

    blueprints: list[str] = [_BLUEPRINT]  # noqa: RUF012 - Flask's type.

    def __init__(self, request: Request) -> None:
        environ = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": request.raw_path.decode("latin-1"),
            "QUERY_STRING": request.query_string.decode("latin-1"),
            "SERVER_NAME": _SERVER[0],
            "SERVER_PORT": str(_SERVER[1]),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": request.client_address,
            "wsgi.url_scheme": "http",
        }
        # Flask's own constructor would read back from the environment what was written to it.
        SansIORequest.__init__(
            self,
            method=request.method,
            scheme="http",
            server=_SERVER,
            root_path="",
            path=request.raw_path.decode("utf-8", "replace"),
            query_string=request.query_string,
            headers=_NO_HEADERS,
            remote_addr=request.client_address,
        )
        self.environ = environ
        self.shallow = False


class _Answered(flask.Response):
    """Flask's response, which adds no header to those that the contract declares."""

    automatically_set_content_length = False

    def __init__(self, answer: Answer) -> None:
        # What Flask's own constructor sets. That looks at the headers one by one; here they are
        # pairs of text, and the engine looks at all values that are sent.
        self.headers = Headers()
        self.headers._list = list(answer.headers)  # noqa: SLF001 - the only way past the checks.
        self.status = answer.status
        self.response = [answer.body]
        self.direct_passthrough = False
        self._on_close = []


class _MatchedContext(RequestContext):
    """A request context whose route the engine has found already."""

    def __init__(self, app: "_ContractFlask", request: Request) -> None:
        if request.operation is None:
            raise ContractViolation("Flask is reached by requests that are matched only")
        matched = _Request(request)
        matched.json_module = app.json
        matched.url_rule = app.rules[request.operation.id]
        matched.view_args = {"request": request}
        super().__init__(app, matched.environ, matched)


class _ContractFlask(flask.Flask):
    """Flask without a second search for the route."""

    session_interface: SessionInterface = _NoSessions()

    def __init__(self, import_name: str) -> None:
        super().__init__(import_name, static_folder=None)
        self.config.update(
            PROPAGATE_EXCEPTIONS=True, TRAP_BAD_REQUEST_ERRORS=True, TRAP_HTTP_EXCEPTIONS=True
        )
        self.rules: dict[str, Any] = {}
        # Whether a function is asynchronous does not change from one request to the next.
        self._synchronous = lru_cache(1024)(super().ensure_sync)

    def create_url_adapter(self, request: flask.Request | None) -> None:
        """Return no adapter: the engine has matched the path before Flask sees the request."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return self._synchronous(func)

    def process_response(self, response: flask.Response) -> flask.Response:
        # No session is ever saved, so that without functions to call there is nothing to do.
        if self.after_request_funcs or request_ctx._after_request_functions:  # noqa: SLF001 - Flask's own way.
            return super().process_response(response)
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        if self.teardown_request_funcs or flask.request_tearing_down.receivers:
            super().do_teardown_request(exc)


class _ContractApi(FlaskApi):  # type: ignore[misc]  # connexion ships no types.
    """Connexion's API of Flask, with compiled calls for operations."""

    def __init__(
        self, specification: Specification, *, make_call: CallFactory, **options: object
    ) -> None:
        self._make_call = make_call
        super().__init__(specification, **options)

    def make_operation(self, operation: AbstractOperation) -> Callable[[Request], flask.Response]:
        call = self._make_call(operation.operation_id, operation.function)

        def view(request: Request) -> flask.Response:
            return _Answered(call(request))

        return view


class ContractASGIApp(SpecMiddleware):  # type: ignore[misc]  # connexion ships no types.
    """The innermost application: Flask, called in the thread that asks."""

    def __init__(self, import_name: str, make_call: CallFactory) -> None:
        self.app = _ContractFlask(import_name)
        self._make_call = make_call

    def add_api(self, specification: Specification, **options: object) -> _ContractApi:
        """Register every operation of the specification with Flask."""
        api = _ContractApi(specification, make_call=self._make_call, **options)
        self.app.register_blueprint(api.blueprint, name=_BLUEPRINT)
        self.app.rules = {
            rule.endpoint.partition(".")[2]: rule for rule in self.app.url_map.iter_rules()
        }
        return api

    def dispatch(self, request: Request) -> Answer:
        """Run a matched request through Flask in this thread."""
        with _MatchedContext(self.app, request):
            response = self.app.full_dispatch_request()
        return Answer(
            response.status_code, list(iter(response.headers)), b"".join(response.iter_encoded())
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Satisfy connexion, which wants an ASGI application; the engine calls `dispatch`."""
        del scope, receive, send
        raise ContractViolation("Flask is reached through the engine only")


class _CheckedSpecification(OpenAPISpecification):  # type: ignore[misc]  # connexion ships no types.
    """A specification that `load_document` has checked already.

    Connexion checks it against the same schema, which would be a fifth of the time to start.
    """

    @classmethod
    def _validate_spec(cls, spec: object) -> None:
        del cls, spec


class _ContractApp(FlaskApp):  # type: ignore[misc]  # connexion ships no types.
    """Connexion's application around `ContractASGIApp`, its stack built at once.

    Stock connexion builds the stack at the first request, so that a broken contract serves 500
    for ever from a server that says it has started.
    """

    def __init__(
        self, inner: ContractASGIApp, engine: Callable[[ContractASGIApp], ASGIApp]
    ) -> None:
        self._middleware_app = inner
        AbstractApp.__init__(self, __name__, middlewares=[engine])
        self.app = inner.app

    def bind(self, specification: Specification, resolver: Resolver) -> None:
        """Do what connexion's `add_api` does, which makes a specification of its own kind."""
        options = self.middleware.options.replace(resolver=resolver)
        self.middleware.apis.append(API(specification, base_path=None, **options.__dict__))

    def build(self) -> None:
        self.middleware.app, self.middleware.middleware_stack = (
            self.middleware._build_middleware_stack()  # noqa: SLF001 - connexion builds it at the first request.
        )


def bind(
    bundle: SchemaNode,
    operations: Mapping[str, Operation],
    make_call: CallFactory,
    make_engine: Callable[[ContractASGIApp], ASGIApp],
) -> ASGIApp:
    """Bind a bundled document to the handler modules and return the application.

    Raises:
        ContractViolation: an `operationId` has no handler of its name in its tag's module.
    """
    inner = ContractASGIApp("api", make_call)
    app = _ContractApp(inner, make_engine)
    app.bind(_CheckedSpecification(bundle), _TagResolver(operations))
    app.build()
    application: ASGIApp = app
    return application


class _TagResolver(Resolver):  # type: ignore[misc]  # connexion ships no types.
    """Finds the handler of an operation: the function of its name in the module of its tag."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        super().__init__()
        self._operations = operations

    def resolve(self, operation: AbstractOperation) -> Resolution:
        compiled = self._operations[operation.operation_id]
        try:
            module = importlib.import_module(f"api.{compiled.tag}")
            handler = getattr(module, compiled.id)
        except (ImportError, AttributeError) as error:
            reason = f"no handler api.{compiled.tag}.{compiled.id}: {error}"
            raise ContractViolation(reason) from error
        return Resolution(handler, compiled.id)
