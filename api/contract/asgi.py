"""Engine assembly: a contract and an application's ports become an ASGI application."""

import gc

from starlette.types import ASGIApp

from api.contract.binding import ContractASGIApp, bind
from api.contract.compile.operations import Operation
from api.contract.contract import Contract
from api.contract.engine_errors import ContractViolation, Mistake
from api.contract.ports import Ports, Unlimited
from api.contract.serve.bridge import INLINE
from api.contract.serve.calls import Call, Handler
from api.contract.serve.cors import Cors
from api.contract.serve.forwarding import Forwarding
from api.contract.serve.middleware import Engine, Parts
from api.contract.serve.pagination import Cursors
from api.contract.serve.routing import Router


def make_asgi(contract: Contract, ports: Ports) -> ASGIApp:
    """Return the ASGI application that serves a contract.

    Raises:
        ContractError: an operation needs something that the application does not provide.
    """
    # The package `api` raised the threshold for the time of the imports.
    gc.set_threshold(20_000, 20, 20)
    operations = contract.operations
    router = Router(operations.values())
    cursors = Cursors(ports.cursor_key)
    settings = ports.settings

    def make_call(operation_id: str, handler: Handler) -> Call:
        operation = operations[operation_id]
        _require_ports(operation, ports)
        try:
            return Call(
                operation,
                handler,
                services=ports.services,
                from_request=ports.from_request,
                database=ports.database,
                cursors=cursors,
                render=ports.render,
                recheck=ports.recheck,
                idempotency=ports.idempotency,
            )
        except ContractViolation as violation:
            raise Mistake(operation.place, str(violation)) from violation

    async def start_up() -> None:
        if ports.start_up is not None:
            await ports.start_up()

    async def shut_down() -> None:
        if ports.shut_down is None:
            ports.bridge.close()
        else:
            await ports.shut_down()

    def make_engine(app: ContractASGIApp) -> Engine:
        parts = Parts(
            router=router,
            forwarding=Forwarding(
                settings.trusted_proxies,
                settings.public_url,
                header=settings.forwarded_header,
                trust_host=settings.trust_forwarded_host,
            ),
            authenticators=ports.authenticators,
            rate_limiter=ports.rate_limiter or Unlimited(),
            cursors=cursors,
            cors=Cors(settings.cors_origins, router.resources),
            bridge=ports.bridge,
            can_glance=ports.database.can_glance,
            waits=ports.waits,
            readers=ports.readers,
            problems=ports.problems,
            verifier=contract.verifier,
            logger=ports.logger,
            metrics=ports.metrics,
            settings=settings,
            start_span=ports.start_span,
            start_up=start_up,
            shut_down=shut_down,
            request_id=contract.validators.component("RequestId"),
        )
        return Engine(app.dispatch, parts)

    try:
        return bind(contract, make_call, make_engine)
    except Mistake as mistake:
        raise contract.document.error(mistake) from mistake


def _require_ports(operation: Operation, ports: Ports) -> None:
    if operation.security and operation.security.scheme not in ports.authenticators:
        reason = f"no authenticator for {operation.security.scheme}; add it to Ports.authenticators"
        raise Mistake((*operation.place, "security"), reason)
    for name in operation.form.readers if operation.form else ():
        if name not in ports.readers:
            reason = f"there is no reader {name}; add it to Ports.readers"
            raise Mistake((*operation.place, "requestBody"), reason)
    if operation.pool not in (INLINE, *ports.bridge.pools):
        known = ", ".join((INLINE, *ports.bridge.pools))
        reason = f"there is no pool {operation.pool}; use one of {known}"
        raise Mistake((*operation.place, "x-engine-pool"), reason)
    if operation.wait is not None and operation.wait not in ports.waits:
        reason = f"there is no wait {operation.wait}; add it to Ports.waits"
        raise Mistake((*operation.place, "x-engine-wait"), reason)
    if operation.rate_limits and ports.rate_limiter is None:
        raise Mistake((*operation.place, "x-rate-limit"), "no rate limiter; set Ports.rate_limiter")
