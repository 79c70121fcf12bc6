"""Reports to systemd, for a unit of `Type=notify` (https://systemd.io, sd_notify(3))."""

import os
import socket
from contextlib import suppress

READY = "READY=1"
STOPPING = "STOPPING=1"


def report(state: str) -> None:
    """Send a state to the socket that systemd names in NOTIFY_SOCKET, if it started this process.

    An unreachable socket is ignored, because a report is no reason to stop serving.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        # An abstract socket, whose name begins with a zero byte.
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reports, suppress(OSError):
        reports.sendto(state.encode(), address)
