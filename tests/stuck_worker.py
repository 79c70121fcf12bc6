"""Concord's command line with a first task that hangs: `python tests/stuck_worker.py work`.

The process id of the hanging worker is written to the file `stuck`. A task may take one second, and
a worker may be silent for three.
"""

import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from api.server.application import Application
from api.server.commands import Program, cli
from api.server.processes import broker, workers
from api.server.settings import Settings
from app import create_app, load, open_mail

# The file is also imported in each worker.
broker._LIMIT_SECONDS = 1.0  # noqa: SLF001 - otherwise, the test would take a minute.
workers._SILENT_SECONDS = 3.0  # noqa: SLF001 - as above.


def create_stuck(settings: Settings, *, does_upkeep: bool = True) -> Application:
    """Create an application whose first run of the job `orders` hangs."""
    app = create_app(settings, does_upkeep=does_upkeep)
    orders = next(job for job in app.background.jobs if job.name == "orders")

    def work() -> object:
        with suppress(FileExistsError), Path("stuck").open("x", encoding="ascii") as file:
            file.write(str(os.getpid()))
            file.flush()
            time.sleep(3600)
        return orders.work()

    jobs = [replace(orders, work=work)]
    return replace(app, background=replace(app.background, jobs=jobs))


if __name__ == "__main__":
    cli(obj=Program(create_stuck, load, open_mail))
