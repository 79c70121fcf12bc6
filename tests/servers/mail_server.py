"""A real SMTP server on the loopback address, which can be made to behave as servers do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.live import HOST, free_port

USER, PASSWORD = "concord@mail\u00fc", "pass/w\u00f6rd: a"


@dataclass
class Inbox:
    """What a server accepted.

    `refusals` are its next answers to a recipient, and those that are its next to a sender or to a
    message stand in `senders` and `contents`.
    """

    port: int
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    secured: list[bool] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    peers: set[object] = field(default_factory=set)
    """The addresses of the connections that brought messages."""
    most: int | None = None
    """The number of messages after which the server does not answer."""
    held: int = 0
    """The number of messages that it has received and not answered since."""

    async def handle_MAIL(  # noqa: N802 - as aiosmtpd calls it.
        self,
        _server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """Take a sender, or say no."""
        self.clients.append(str(session.host_name))
        if self.senders:
            return self.senders.pop(0)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - as aiosmtpd calls it.
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        """Take a recipient, or say no."""
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - as above.
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Take a message, or say no."""
        if self.contents:
            return self.contents.pop(0)
        if len(self.messages) == self.most:
            self.held += 1
            while len(self.messages) == self.most:  # noqa: ASYNC110 - a test's thread sets the number.
                await asyncio.sleep(0.02)
            return "451 Not now"
        self.peers.add(session.peer)
        content = envelope.content
        assert isinstance(content, bytes)
        self.raw.append(content)
        self.messages.append(message_from_bytes(content, policy=default))
        self.recipients += envelope.rcpt_tos
        self.secured.append(session.ssl is not None)
        return "250 OK"


def _authenticate(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, auth_data: object
) -> AuthResult:
    assert isinstance(auth_data, LoginPassword)
    right = (auth_data.login, auth_data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=right)


@contextmanager
def mail_server(
    port: int | None = None,
    *,
    host: str = HOST,
    tls: ssl.SSLContext | None = None,
    from_the_start: bool = False,
    wants_password: bool = False,
    knows_all_letters: bool = True,
) -> Iterator[Inbox]:
    """Serve SMTP until the block ends; with `tls` by STARTTLS, or from the start."""
    inbox = Inbox(port or free_port())
    controller = Controller(
        inbox,
        hostname=host,
        port=inbox.port,
        ssl_context=tls if from_the_start else None,
        tls_context=None if from_the_start else tls,
        require_starttls=tls is not None and not from_the_start,
        auth_required=wants_password,
        auth_require_tls=not from_the_start,
        authenticator=_authenticate if wants_password else None,
        enable_SMTPUTF8=knows_all_letters,
    )
    controller.start()
    try:
        yield inbox
    finally:
        controller.stop()
