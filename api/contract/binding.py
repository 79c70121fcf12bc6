"""The only module that knows connexion.

Connexion reads the specification, resolves each `operationId` to a handler, and registers the
operation with Flask, which dispatches requests. Three of its parts are replaced through its own
extension points, because they compute on every request what the contract fixes once:

- the middleware stack (`middlewares=[...]`): Concord's engine is its only member;
- `FlaskApi.make_operation`: a compiled `Call` replaces decorators that are built per request;
- `FlaskASGIApp`, which changes threads through a2wsgi: Flask is called in the current thread.

`tests/contract/serve/test_binding.py` fails if a connexion release changes any of these.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from api.contract.leaving_out import leaving_out

# Concord needs none of these: test clients, a development server, HTTP clients for remote tokens
# and references, and another validator of schemas.
with leaving_out(
    "httpx",
    "jsonschema",
    "jsonschema.exceptions",
    "jsonschema.validators",
    "requests",
    "starlette.testclient",
    "werkzeug.serving",
    "werkzeug.test",
):
    import flask
    from connexion.apps.abstract import AbstractApp
    from connexion.apps.flask import FlaskApi, FlaskApp
    from connexion.middleware.abstract import SpecMiddleware
    from connexion.middleware.main import API
    from connexion.operations import AbstractOperation
    from connexion.resolver import Resolution, Resolver
    from connexion.spec import OpenAPISpecification, Specification
    from flask.ctx import RequestContext
    from flask.sessions import NullSession, SessionInterface

from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override
from werkzeug.routing import Rule

from api.contract.contract import Contract
from api.contract.engine_errors import ContractViolation
from api.contract.serve.calls import Handler
from api.contract.serve.request import Answer, Request

_BLUEPRINT = "contract"
_SIGNALS = (
    flask.request_started,
    flask.request_finished,
    flask.request_tearing_down,
    flask.got_request_exception,
    flask.appcontext_pushed,
    flask.appcontext_popped,
    flask.appcontext_tearing_down,
)
"""The signals that Flask sends around a request."""

CallFactory: TypeAlias = Callable[[str, Handler], Callable[[Request], Answer]]
"""Creates an operation's compiled call from its id and handler."""


class _NoSessions(SessionInterface):
    """Flask's cookie sessions, disabled: each request authenticates with its own token."""

    def open_session(self, app: flask.Flask, request: flask.Request) -> NullSession:
        del app, request
        return NullSession()


class _Answered(flask.Response):
    """A Flask response that adds no headers to the declared ones."""

    automatically_set_content_length = False
    default_mimetype: str | None = None

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body, answer.status, answer.headers)
        self.stretch = answer.stretch


class _MatchedContext(RequestContext):
    """A request context for a route that the engine has already matched."""

    def __init__(self, app: "_ContractFlask", request: Request, rule: Rule) -> None:
        environ = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": request.raw_path.decode("latin-1"),
            "QUERY_STRING": request.query_string.decode("latin-1"),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": request.client_address,
            "wsgi.url_scheme": "http",
        }
        super().__init__(app, environ)
        self.request.url_rule = rule
        self.request.view_args = {"request": request}


def _build_nothing(*_: object) -> tuple[str, str]:
    raise RuntimeError("routes of a contract build no URLs")


class _Rule(Rule):
    """A rule that cannot build URLs. `url_for` needs a URL adapter, and the application has none.

    Werkzeug would generate code to build URLs, which would take a tenth of the time that creating
    the application takes.
    """

    @override
    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        del append_unknown
        return _build_nothing


class _ContractFlask(flask.Flask):
    """A Flask application that does not route again."""

    session_interface: SessionInterface = _NoSessions()
    url_rule_class: type[Rule] = _Rule

    def __init__(self, import_name: str) -> None:
        super().__init__(import_name, static_folder=None)
        self.config.update(
            PROPAGATE_EXCEPTIONS=True, TRAP_BAD_REQUEST_ERRORS=True, TRAP_HTTP_EXCEPTIONS=True
        )
        self.rules: dict[str, Rule] = {}
        self._registered = (
            self.url_value_preprocessors,
            self.before_request_funcs,
            self.after_request_funcs,
            self.error_handler_spec,
            self.teardown_request_funcs,
            self.teardown_appcontext_funcs,
            *(signal.receivers for signal in _SIGNALS),
        )

    @property
    def is_extended(self) -> bool:
        """Whether anything is registered that Flask calls around a request."""
        return any(self._registered)

    def create_url_adapter(self, request: flask.Request | None) -> None:
        """Return no adapter, because the engine has already matched the path."""

    def make_response(self, rv: Any) -> flask.Response:  # noqa: ANN401 - as in Flask.
        return super().make_response(_Answered(rv) if isinstance(rv, Answer) else rv)


class _ContractApi(FlaskApi):  # type: ignore[misc]  # connexion ships no types.
    """Connexion's Flask API, with a compiled call for each operation."""

    def __init__(
        self, specification: Specification, *, make_call: CallFactory, **options: object
    ) -> None:
        self._make_call = make_call
        super().__init__(specification, **options)

    def make_operation(self, operation: AbstractOperation) -> Callable[[Request], Answer]:
        return self._make_call(operation.operation_id, operation.function)


class ContractASGIApp(SpecMiddleware):  # type: ignore[misc]  # connexion ships no types.
    """The innermost application: Flask, called in the current thread."""

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
        """Run the Flask view of a matched request in the current thread.

        Handlers take all that they need as arguments, so Flask's context is set up only if
        something is registered that could use it.
        """
        if request.operation is None:
            raise ContractViolation("Only matched requests may reach Flask")
        rule = self.app.rules[request.operation.id]
        if not self.app.is_extended:
            return cast("Answer", self.app.view_functions[rule.endpoint](request=request))
        with _MatchedContext(self.app, request, rule):
            response = self.app.full_dispatch_request()
        return Answer(
            response.status_code,
            list(iter(response.headers)),
            b"".join(response.iter_encoded()),
            response.stretch if isinstance(response, _Answered) else None,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise: connexion requires an ASGI application, but the engine calls `dispatch`."""
        del scope, receive, send
        raise ContractViolation("Flask is reached through the engine only")


class _CheckedSpecification(OpenAPISpecification):  # type: ignore[misc]  # connexion ships no types.
    """The operations of a document that `load_document` has already checked.

    Connexion would check a whole document against the same schema again, copy it twice and replace
    its references, which takes a third of the start-up time. It registers operations by their ids.
    """

    def __init__(self, contract: Contract) -> None:
        bundle = contract.document.bundle
        paths: dict[str, dict[str, object]] = {}
        for operation in contract.operations.values():
            item = paths.setdefault(operation.path, {})
            item[operation.method.lower()] = {"operationId": operation.id}
        super().__init__({"servers": bundle.get("servers", []), "paths": paths})

    @classmethod
    def _validate_spec(cls, spec: object) -> None:
        del cls, spec


class _ContractApp(FlaskApp):  # type: ignore[misc]  # connexion ships no types.
    """Connexion's application around `ContractASGIApp`, with its middleware built at start-up.

    Stock connexion builds the stack on the first request. With a broken contract, the server would
    seem to start and then respond to every request with 500.
    """

    def __init__(
        self, inner: ContractASGIApp, engine: Callable[[ContractASGIApp], ASGIApp]
    ) -> None:
        self._middleware_app = inner
        AbstractApp.__init__(self, __name__, middlewares=[engine])
        self.app = inner.app

    def bind(self, specification: Specification, resolver: Resolver) -> None:
        """Register a specification as connexion's `add_api` does, without building another one."""
        options = self.middleware.options.replace(resolver=resolver)
        self.middleware.apis.append(API(specification, base_path=None, **options.__dict__))

    def build(self) -> None:
        self.middleware.app, self.middleware.middleware_stack = (
            self.middleware._build_middleware_stack()  # noqa: SLF001 - connexion builds it at the first request.
        )


def bind(
    contract: Contract,
    make_call: CallFactory,
    make_engine: Callable[[ContractASGIApp], ASGIApp],
) -> ASGIApp:
    """Bind a contract to its handlers and return the ASGI application."""
    inner = ContractASGIApp(contract.package, make_call)
    app = _ContractApp(inner, make_engine)
    app.bind(_CheckedSpecification(contract), _FoundHandlers(contract.handlers))
    app.build()
    application: ASGIApp = app
    return application


class _FoundHandlers(Resolver):  # type: ignore[misc]  # connexion ships no types.
    """A resolver that looks up handlers that were found earlier."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        super().__init__()
        self._handlers = handlers

    def resolve(self, operation: AbstractOperation) -> Resolution:
        name: str = operation.operation_id
        return Resolution(self._handlers[name], name)
