"""Load from `wrk`, on a core of its own."""

import json
import re
import subprocess
import time
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.contenders import HOST, Running
from tests.bench.operations import BETWEEN, MeasuredOperation
from tests.bench.seeding import Shop
from tests.bench.servers import process_seconds

SCRIPT = Path(__file__).with_name("load.lua")
_GRACE_SECONDS = 30
_SETTLE_SECONDS = 10.0
_QUIET_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Measurement:
    """One turn of load. Latencies are in milliseconds, `cpu` in microseconds a request."""

    rate: float
    p50: float
    p99: float
    cpu: float
    requests: int
    failed: int
    """Answers of another kind than was to come, and connections that broke."""

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


class Wrk:
    """Sends the requests of an operation from one core."""

    def __init__(self, command: str, core: int, folder: Path) -> None:
        self._command = ["taskset", "--cpu-list", str(core), command]
        self._folder = folder
        self._sent = Counter[tuple[int, str]]()

    def prepare(self, operation: MeasuredOperation, shop: Shop) -> None:
        """Write the requests of an operation to where `measure` takes them from."""
        requests = (each.raw(HOST) for each in operation.prepare(shop))
        self._file(operation).write_text(BETWEEN.join(requests), newline="")

    def measure(
        self, server: Running, operation: MeasuredOperation, connections: int, seconds: int
    ) -> Measurement:
        """Send as many requests as the server answers, for some seconds.

        It continues after the last request that the server received.

        Raises:
            RuntimeError: wrk says nothing that can be read.
        """
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
        script = ["--script", str(SCRIPT), f"http://{HOST}:{server.port}"]
        name = f"bench-{uuid.uuid4().hex}-"
        turn = (server.port, operation.name)
        arguments = [str(self._file(operation)), name, str(self._sent[turn])]
        before = process_seconds(server.pid)
        said = subprocess.run(  # noqa: S603 - A fixed command.
            [*self._command, *options, *script, "--", *arguments],
            capture_output=True,
            check=True,
            text=True,
            timeout=seconds + _GRACE_SECONDS,
        ).stdout
        spent = process_seconds(server.pid) - before
        _settle(server)
        found = re.search(r"^RESULT (.*)$", said, re.MULTILINE)
        if found is None:
            raise RuntimeError(said)
        result = json.loads(found[1])
        requests = result["requests"]
        # Each connection may have sent one more request, which was not answered in time.
        self._sent[turn] += requests + connections
        refused = requests - result["refused"] if operation.is_rejected else result["refused"]
        return Measurement(
            rate=requests / result["microseconds"] * 1e6,
            p50=result["p50"] / 1000,
            p99=result["p99"] / 1000,
            cpu=spent / max(requests, 1) * 1e6,
            requests=requests,
            failed=refused + result["broken"],
        )

    def _file(self, operation: MeasuredOperation) -> Path:
        return self._folder / f"{operation.name}.requests"


def _settle(server: Running) -> None:
    """Wait until a server has done what it had taken in when the load ended.

    It shares its core with whoever has the next turn.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    before = -1.0
    while time.monotonic() < deadline:
        spent = process_seconds(server.pid)
        if spent == before:
            return
        before = spent
        time.sleep(_QUIET_SECONDS)
