"""Standard error that never blocks: a reader that stops must not stop the service.

Everything is written by a thread. If it cannot write, because the reader stopped, the disk is full
or the descriptor is closed, lines are dropped and counted.
"""

import io
import logging
import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from typing_extensions import Buffer, override

_log = logging.getLogger(__name__)

_DESCRIPTOR = 2
_MOST_BYTES = 1024 * 1024
"""Bytes that may wait to be written."""
_CLOSE_SECONDS = 1.0
"""Time for waiting bytes to be written when the process ends."""


class PatientWriter(io.RawIOBase):
    """A file descriptor that a thread writes to, so that no other thread waits for its reader."""

    def __init__(self, descriptor: int, most_bytes: int = _MOST_BYTES) -> None:
        self._descriptor = descriptor
        self._most_bytes = most_bytes
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._size = 0
        self._dropped = 0
        self._ended = False
        self._thread = threading.Thread(target=self._carry, name="standard-error", daemon=True)
        self._thread.start()

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: Buffer, /) -> int:
        """Pass data to the thread, or drop it if too much is waiting."""
        line = bytes(data)
        with self._changed:
            if self._size + len(line) > self._most_bytes:
                self._dropped += 1
            else:
                self._waiting.append(line)
                self._size += len(line)
                self._changed.notify()
        return len(line)

    @override
    def close(self) -> None:
        """Write what is waiting, for a second at most."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)
        super().close()

    def _carry(self) -> None:
        while lines := self._next():
            written = self._send(b"".join(lines))
            with self._changed:
                dropped, self._dropped = self._dropped, 0
                if not written:
                    self._dropped = dropped + len(lines)
            if written and dropped:
                _log.warning("%d log lines were dropped", dropped)

    def _next(self) -> list[bytes]:
        """Wait for lines, and return them; none once the stream is closed."""
        with self._changed:
            self._size = sum(map(len, self._waiting))
            self._changed.wait_for(lambda: self._waiting or self._ended)
            lines, self._waiting = self._waiting, []
            return lines

    def _send(self, data: bytes) -> bool:
        """Write all data, and return whether that was possible."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                # Another process that shares the descriptor made it non-blocking.
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


@contextmanager
def patient_standard_error() -> Iterator[None]:
    """Let `sys.stderr` never block while the block runs."""
    before = sys.stderr
    if before is None:
        # A closed descriptor would be given to the next file or connection that is opened.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _DESCRIPTOR)
    writer = PatientWriter(_DESCRIPTOR)
    sys.stderr = io.TextIOWrapper(writer, "utf-8", "backslashreplace", write_through=True)
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before
