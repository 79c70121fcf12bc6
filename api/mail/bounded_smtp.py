"""SMTP connections with a limit on the time that a message takes."""

import smtplib
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_DIALOGUE_SECONDS = 20.0
"""Seconds for the dialogue about a message, so that a trickling server cannot delay it."""
_OK = 250


class Utf8(str):
    """Text that is sent in UTF-8 where `smtplib` requires ASCII."""

    __slots__ = ()

    def encode(self, _encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Encode in UTF-8, whatever the encoding."""
        return super().encode("utf-8", errors)


class BoundedSmtp(smtplib.SMTP):
    """An SMTP connection that is cut off if the dialogue about one message takes too long.

    A message has the whole time or, if it follows another closely, at least three quarters of it.
    """

    _timer: threading.Timer | None = None
    _timed_since: float = 0.0

    def is_ready(self) -> bool:
        """Return whether the server accepts another message, whose time limit starts now."""
        # A timer is a thread, so messages that follow each other quickly share one.
        if time.monotonic() - self._timed_since > _DIALOGUE_SECONDS / 4:
            self._start_timer()
        try:
            # RSET, because servers count NOOP as junk.
            return self.rset()[0] == _OK
        except (OSError, smtplib.SMTPException):
            return False

    def getreply(self) -> tuple[int, bytes]:
        """Read a reply; the first one, the greeting, starts the time limit."""
        if self._timer is None:
            self._start_timer()
        return super().getreply()

    def auth(
        self,
        mechanism: str,
        authobject: Callable[..., str | None],
        *,
        initial_response_ok: bool = True,
    ) -> tuple[int, bytes]:
        """Sign in with a name and password in UTF-8 (RFC 4616)."""

        def respond(challenge: bytes | None = None) -> str | None:
            response = authobject(challenge)
            return None if response is None else Utf8(response)

        return super().auth(mechanism, respond, initial_response_ok=initial_response_ok)  # type: ignore[arg-type]  # None is a response, too.

    def close(self) -> None:
        """Close the connection and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        super().close()

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timed_since = time.monotonic()
        self._timer = threading.Timer(_DIALOGUE_SECONDS, self._cut_off)
        self._timer.daemon = True
        self._timer.start()

    def _cut_off(self) -> None:
        if self.sock is not None:
            with suppress(OSError):
                # Unlike closing, this wakes a thread that is waiting for the server.
                self.sock.shutdown(socket.SHUT_RDWR)


class BoundedTlsSmtp(BoundedSmtp, smtplib.SMTP_SSL):
    """The same connection with TLS from the start."""
