"""Transports for messages: an SMTP server, or files in a folder."""

import os
import re
import smtplib
import ssl
import tempfile
from dataclasses import dataclass, field
from email.message import Message
from email.policy import SMTPUTF8, compat32, default
from email.utils import parseaddr
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from api.mail.bounded_smtp import BoundedSmtp, BoundedTlsSmtp, Utf8
from models.folders import make_private_folder

_STEP_SECONDS = 10.0
"""Seconds that a server may stay silent."""
_CLOSING = 421
"""SMTP reply of a server that closes the connection, whatever the command was."""
_PERMANENT = 500
_TOO_LARGE = 552
_PLAIN = compat32.clone(linesep="\r\n")
_ENHANCED = re.compile(rb"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
"""An enhanced status code (RFC 3463), with which many servers begin the text of a reply."""
_POLICY = b"5.7."
"""Enhanced codes of a refusal for reasons of security or policy. Such refusals usually end when
somebody corrects a blocklist or a DNS record, so they say nothing about the recipient."""


class UndeliverableError(Exception):
    """The recipient's server will never accept the message.

    `str` is the reply code, such as `550 5.1.1`.
    """


class NotNowError(Exception):
    """The server rejected this message for now; others can be sent immediately.

    `str` is the reply code, such as `554 5.7.1`.
    """


class Transport(Protocol):
    """Delivers messages."""

    def send(self, message: Message, /) -> None:
        """Send a message.

        Raises:
            UndeliverableError: the message must not be retried.
            NotNowError: the message is to be retried, and others can be sent in the meantime.
        """

    def check(self) -> None:
        """Test every step before a message.

        Raises:
            OSError, smtplib.SMTPException: messages could not be delivered now.
        """

    def close(self) -> None:
        """Release what was kept for further messages."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Writes each message to a file, in a folder that only the current user can read.

    Files are named by `Message-ID`, which starts with the time at which the message was created.
    """

    path: Path

    def send(self, message: Message, /) -> None:
        """Write a message to its file, atomically."""
        make_private_folder(self.path)
        descriptor, draft = tempfile.mkstemp(dir=self.path, prefix=".")
        with os.fdopen(descriptor, "wb") as file:
            file.write(message.as_bytes(policy=default.clone(utf8=True)))
        name = str(message["Message-ID"]).partition("@")[0].removeprefix("<")
        Path(draft).replace(self.path / f"{name}.eml")

    def check(self) -> None:
        """Write a file, and remove it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=self.path).close()

    def close(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class SmtpServer:
    """Sends messages through an SMTP server (RFC 5321, RFC 6409), over TLS if it supports it.

    The connection is kept for further messages until it is closed. Not thread-safe.
    """

    host: str
    port: int
    is_tls: bool
    user: str | None
    password: str | None = field(repr=False)
    client_name: str
    """The name of this service for EHLO: a domain or an address literal (RFC 5321, 4.1.1.1)."""
    _smtp: BoundedSmtp | None = field(default=None, init=False, repr=False)
    _context: ssl.SSLContext | None = field(default=None, init=False, repr=False)

    def send(self, message: Message, /) -> None:
        """Send a message.

        Raises:
            UndeliverableError: the server rejects the message for good.
            NotNowError: the server rejects the message for now.
            OSError, smtplib.SMTPException: the message was probably not delivered.
        """
        smtp = self._connected()
        try:
            _hand_over(smtp, message)
        except (UndeliverableError, NotNowError):
            raise
        except Exception:
            self.close()
            raise

    def check(self) -> None:
        """Connect, and sign in."""
        self._connected()
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None

    def _connected(self) -> BoundedSmtp:
        """Return a connection that is ready for a message, with a new time limit."""
        if self._smtp is not None and not self._smtp.is_ready():
            self.close()
        if self._smtp is None:
            self._smtp = self._connect()
        return self._smtp

    def _connect(self) -> BoundedSmtp:
        # Loading the trusted certificates takes 80 ms.
        self._context = context = self._context or ssl.create_default_context()
        at = (self.host, self.port, self.client_name)
        smtp = (
            BoundedTlsSmtp(*at, timeout=_STEP_SECONDS, context=context)
            if self.is_tls
            else BoundedSmtp(*at, timeout=_STEP_SECONDS)
        )
        try:
            smtp.ehlo_or_helo_if_needed()
            if not self.is_tls and smtp.has_extn("starttls"):
                smtp.starttls(context=context)
                smtp.ehlo()
            if self.user is not None:
                self._sign_in(smtp)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _sign_in(self, smtp: smtplib.SMTP) -> None:
        if not isinstance(smtp.sock, ssl.SSLSocket) and not _is_loopback(self.host):
            raise smtplib.SMTPNotSupportedError("a password is not sent without TLS")
        smtp.login(Utf8(self.user or ""), Utf8(self.password or ""))


def make_transport(mail_url: str, client_name: str) -> Transport:
    """Return the transport for a setting; SMTP servers know this service as `client_name`."""
    url = urlsplit(mail_url)
    if url.scheme == "file":
        return Folder(Path(mail_url.partition(":")[2]))
    return _server(url, client_name)


def _server(url: SplitResult, client_name: str) -> SmtpServer:
    is_tls = url.scheme == "smtps"
    return SmtpServer(
        host=url.hostname or "",
        port=url.port or (465 if is_tls else 587),
        is_tls=is_tls,
        user=None if url.username is None else unquote(url.username),
        password=None if url.password is None else unquote(url.password),
        client_name=client_name,
    )


def _hand_over(smtp: smtplib.SMTP, message: Message) -> None:
    """Send a message, and distinguish errors of the message from errors of the server."""
    sender, recipient = parseaddr(message["From"])[1], message["To"]
    # Only a server that supports SMTPUTF8 (RFC 6531) accepts letters beyond ASCII in an address.
    is_ascii = recipient.isascii()
    content = message.as_bytes(policy=_PLAIN if is_ascii else SMTPUTF8)
    options = () if is_ascii else ("SMTPUTF8", "BODY=8BITMIME")
    try:
        smtp.sendmail(sender, recipient, content, options)
    except smtplib.SMTPNotSupportedError:
        # The server does not support the address's characters (RFC 6531).
        raise UndeliverableError("SMTPUTF8 is not supported") from None
    except smtplib.SMTPRecipientsRefused as refused:
        # A message has one recipient.
        ((code, text),) = refused.recipients.values()
        if code == _CLOSING:
            raise
        if code >= _PERMANENT and not text.startswith(_POLICY):
            raise UndeliverableError(_codes(code, text)) from None
        raise NotNowError(_codes(code, text)) from refused
    except smtplib.SMTPSenderRefused as refused:
        # All messages have the same sender, so a refusal of this one can only be due to its size.
        if refused.smtp_code == _TOO_LARGE:
            raise NotNowError(_codes(refused.smtp_code, refused.smtp_error)) from refused
        raise
    except smtplib.SMTPDataError as refused:
        if refused.smtp_code == _CLOSING:
            raise
        raise NotNowError(_codes(refused.smtp_code, refused.smtp_error)) from refused


def _codes(code: int, text: bytes | str) -> str:
    """Return the code of a reply with its enhanced code, but without text that names a person."""
    enhanced = _ENHANCED.match(text if isinstance(text, bytes) else text.encode())
    return f"{code} {enhanced[0].decode()}" if enhanced else str(code)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
