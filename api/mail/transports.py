"""How messages leave: by SMTP, or into a folder where people find them."""

import os
import smtplib
import socket
import ssl
import tempfile
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

_STEP_SECONDS = 10.0
"""For how long a server may be silent."""
_DIALOGUE_SECONDS = 20.0
"""How long it may take in all once it is connected, also one that says a letter a second."""
_CLOSING = 421
"""The answer of a server that ends the connection, whatever it was asked."""
_PERMANENT = 500
_TOO_LARGE = 552


class UndeliverableError(Exception):
    """The address does not take the message, and never will."""


class NotNowError(Exception):
    """The server did not take this message, but may take it later, and others at once."""


class Transport(Protocol):
    """Takes messages away."""

    def send(self, message: EmailMessage, /) -> None:
        """Send a message, or raise.

        Raises:
            UndeliverableError: it is not to be tried again.
            NotNowError: it is, and those after it need not wait for that.
        """


@dataclass(frozen=True, slots=True)
class Folder:
    """Writes each message into a file of a folder that only this user can read.

    Files are named by `Message-ID`, which begins with the time at which the message was written.
    """

    path: Path

    def send(self, message: EmailMessage, /) -> None:
        """Write a message. Whoever looks sees all of it or nothing."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=self.path, prefix=".")
        with os.fdopen(descriptor, "wb") as file:
            file.write(message.as_bytes(policy=default.clone(utf8=True)))
        name = str(message["Message-ID"]).partition("@")[0].removeprefix("<")
        Path(draft).replace(self.path / f"{name}.eml")


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Sends nothing: messages wait for a setting, for as long as they may wait at all."""

    def send(self, _message: EmailMessage, /) -> None:
        """Refuse, as a server that is away would."""
        raise ConnectionRefusedError


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Hands each message to a server (RFC 5321, RFC 6409), over TLS where the server has it."""

    host: str
    port: int
    is_tls: bool
    user: str | None
    password: str | None = field(repr=False)

    def send(self, message: EmailMessage, /) -> None:
        """Deliver a message.

        Raises:
            UndeliverableError: the server will not take it for this address, now or later.
            NotNowError: the server would not take this message.
            OSError, smtplib.SMTPException: it was not delivered, as far as anybody knows.
        """
        context = ssl.create_default_context()
        with closing(self._connect(context)) as smtp:
            smtp.ehlo_or_helo_if_needed()
            if not self.is_tls and smtp.has_extn("starttls"):
                smtp.starttls(context=context)
                smtp.ehlo()
            if self.user is not None:
                self._sign_in(smtp)
            # What is accepted then is out, whatever the server might say at parting.
            _hand_over(smtp, message)

    def _connect(self, context: ssl.SSLContext) -> smtplib.SMTP:
        if self.is_tls:
            return _BoundedTls(self.host, self.port, timeout=_STEP_SECONDS, context=context)
        return _Bounded(self.host, self.port, timeout=_STEP_SECONDS)

    def _sign_in(self, smtp: smtplib.SMTP) -> None:
        if not isinstance(smtp.sock, ssl.SSLSocket) and not _is_loopback(self.host):
            raise smtplib.SMTPNotSupportedError("a password is not sent without TLS")
        smtp.login(self.user or "", self.password or "")


class _Bounded(smtplib.SMTP):
    """A connection that is cut off when the dialogue takes too long, whoever is speaking."""

    _timer: threading.Timer | None = None

    def getreply(self) -> tuple[int, bytes]:
        """Read an answer; the first of them, the greeting, begins the dialogue."""
        if self._timer is None:
            self._timer = threading.Timer(_DIALOGUE_SECONDS, self._cut_off)
            self._timer.daemon = True
            self._timer.start()
        return super().getreply()

    def close(self) -> None:
        """Close the connection."""
        if self._timer is not None:
            self._timer.cancel()
        super().close()

    def _cut_off(self) -> None:
        if self.sock is not None:
            with suppress(OSError):
                # This wakes whoever waits for the server, which closing would not do.
                self.sock.shutdown(socket.SHUT_RDWR)


class _BoundedTls(_Bounded, smtplib.SMTP_SSL):
    """The same over TLS from the start."""


def make_transport(mail_url: str | None) -> Transport:
    """Make the transport that a setting names; `None` is none."""
    if mail_url is None:
        return Nowhere()
    url = urlsplit(mail_url)
    return Folder(Path(mail_url.partition(":")[2])) if url.scheme == "file" else _server(url)


def _server(url: SplitResult) -> SmtpServer:
    is_tls = url.scheme == "smtps"
    return SmtpServer(
        host=url.hostname or "",
        port=url.port or (465 if is_tls else 587),
        is_tls=is_tls,
        user=None if url.username is None else unquote(url.username),
        password=None if url.password is None else unquote(url.password),
    )


def _hand_over(smtp: smtplib.SMTP, message: EmailMessage) -> None:
    """Send a message, and tell what is wrong with it from what is wrong with the server."""
    try:
        smtp.send_message(message)
    except smtplib.SMTPNotSupportedError:
        # The address has letters that the server does not know (RFC 6531).
        raise UndeliverableError from None
    except smtplib.SMTPRecipientsRefused as refused:
        codes = [code for code, _ in refused.recipients.values()]
        if min(codes) >= _PERMANENT:
            raise UndeliverableError from None
        if _CLOSING in codes:
            raise
        raise NotNowError from refused
    except smtplib.SMTPSenderRefused as refused:
        # All messages have one sender, so that only their size can be what differs.
        if refused.smtp_code == _TOO_LARGE:
            raise NotNowError from refused
        raise
    except smtplib.SMTPDataError as refused:
        if refused.smtp_code == _CLOSING:
            raise
        raise NotNowError from refused


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
