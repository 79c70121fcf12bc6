"""The metrics endpoint of a process, or of the processes that it supervises."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

from api.server.logs import Logger
from api.server.metrics import Metrics, shared_metrics
from api.server.setting_files import SettingsError
from api.server.settings import Settings


@contextmanager
def serve_metrics(
    settings: Settings, logger: Logger, own: Metrics | None = None
) -> Iterator[Callable[[int], None]]:
    """Serve metrics, a process's `own` ones or those of its workers, if METRICS_PORT asks for it.

    Gives a function to be called with the id of a worker that has ended.

    Raises:
        SettingsError: METRICS_PORT was set, and this port of METRICS_HOST is not free.
    """
    port, host = settings.metrics_port, settings.metrics_host
    with ExitStack() as stack:
        has_ended: Callable[[int], None] = _note_nothing
        try:
            if port and own is not None:
                stack.enter_context(closing(own.start_server(port, host)))
            elif port:
                has_ended = stack.enter_context(shared_metrics(port, host))
        except OSError as error:
            if "metrics_port" in settings.model_fields_set:
                reason = f"METRICS_PORT {port} is in use, or METRICS_HOST is not an address"
                raise SettingsError((reason,)) from error
            # The default must not keep a second process from starting on a developer's machine.
            logger.warning("no free port for /metrics", port=port)
        yield has_ended


def _note_nothing(_pid: int) -> None:
    """Take the id of an ended worker whose metrics nobody asks for."""
