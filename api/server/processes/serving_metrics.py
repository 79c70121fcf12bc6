"""The metrics endpoint of a process, or of the processes that it supervises.

Workers write their metrics to files in a common folder, so that the main process can report their
sums, and the counts of workers that have ended remain.
"""

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from api.server.logs import Logger
from api.server.metrics import Metrics, MetricsServer
from api.server.setting_files import SettingsError
from api.server.settings import Settings

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with which prometheus_client writes metrics to files."""
_READS, _PAUSE = 10, 0.02
"""Attempts to read the files of workers, and seconds between them."""


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


@contextmanager
def shared_metrics(port: int, host: str) -> Iterator[Callable[[int], None]]:
    """Serve the metrics of workers that are started in the block; port 0 selects a free port.

    Gives a function to be called with the id of a worker that has ended.

    Raises:
        OSError: the port is in use.
    """
    with TemporaryDirectory(prefix="concord-metrics-") as folder:
        registry = CollectorRegistry()
        _WorkersCollector(registry, folder)  # type: ignore[no-untyped-call]  # It has no types.
        registry.register(_ProcessesCollector(folder))
        server = MetricsServer.open(registry, port, host)
        os.environ[_FOLDER] = folder
        try:
            yield partial(mark_process_dead, path=folder)
        finally:
            del os.environ[_FOLDER]
            server.close()


class _WorkersCollector(MultiProcessCollector):
    """Reads the files of all workers, again if a worker was creating or extending one."""

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        for _ in range(_READS - 1):
            with suppress(struct.error, RuntimeError, ValueError):
                return super().collect()  # type: ignore[no-any-return, no-untyped-call]  # It has no types.
            time.sleep(_PAUSE)
        return super().collect()  # type: ignore[no-any-return, no-untyped-call]  # as above.


@dataclass(frozen=True)
class _ProcessesCollector(Collector):
    """Sums `process_*` over the main process and its workers; the start is the main process's."""

    folder: str

    def collect(self) -> Iterable[Metric]:
        """Return the metrics. The processor time includes that of workers that have ended."""
        ended = os.times()
        others = {"process_cpu_seconds": ended.children_user + ended.children_system}
        # A worker's other files outlive it, but not the one with the gauges of living workers.
        for file in Path(self.folder).glob("gauge_livesum_*.db"):
            worker = ProcessCollector(pid=partial(str, file.stem.split("_")[-1]), registry=None)
            for metric in worker.collect():
                others[metric.name] = others.get(metric.name, 0.0) + metric.samples[0].value
        others["process_start_time_seconds"] = 0.0
        for metric in ProcessCollector(registry=None).collect():
            [own] = metric.samples
            metric.samples = [own._replace(value=own.value + others.get(metric.name, 0.0))]
            yield metric
