"""What every program of the bench prints: lines, and which machine they are of."""

import os
import platform
import sys
from pathlib import Path


def say(text: str) -> None:
    """Print: the output of these programs is their report."""
    print(text, flush=True)  # noqa: T201 - See above.


def machine() -> str:
    """The machine in a few words."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{cores} cores of {model}, Linux {platform.release()}, Python {python}"
