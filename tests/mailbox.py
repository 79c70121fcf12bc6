"""The messages that a service wrote to its folder, as the recipient reads them."""

import re
import time
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from pathlib import Path
from typing import NamedTuple

from tests.service import Service

SECONDS = 10.0
_LINK = re.compile(r"^(\S+)/confirm#([a-z-]+)=([\w-]{43})$", re.MULTILINE)


class MailedLink(NamedTuple):
    """A link in a message."""

    url: str
    purpose: str
    secret: str


def folder_of(service: Service) -> Path:
    """Where a service of the tests puts its messages."""
    return Path((service.app.settings.mail_url or "").removeprefix("file:"))


def messages(folder: Path, to: str, kind: str) -> list[EmailMessage]:
    """The messages of one kind to an address so far, in the order in which they were written."""
    found = [read(file) for file in sorted(folder.glob(f"*-{kind}.eml"))]
    return [message for message in found if message["To"] == to]


def read(file: Path) -> EmailMessage:
    """A message from its file."""
    return message_from_bytes(file.read_bytes(), policy=default)


def wait_for(folder: Path, to: str, kind: str, *, count: int = 1) -> EmailMessage:
    """The newest message of one kind to an address, once there are `count` of them."""
    deadline = time.monotonic() + SECONDS
    while len(found := messages(folder, to, kind)) < count:
        assert time.monotonic() < deadline, f"{len(found)} messages {kind} of {count}"
        time.sleep(0.02)
    return found[-1]


def text_of(message: Message, form: str = "plain") -> str:
    """What a message says, in text or in HTML."""
    part = message_from_bytes(message.as_bytes(policy=default), policy=default).get_body((form,))
    assert part is not None
    return str(part.get_content())


def link_in(message: Message) -> MailedLink:
    """The link of a message; in HTML it is the same."""
    found = _LINK.search(text_of(message))
    assert found, text_of(message)
    assert f'href="{found[0]}"' in text_of(message, "html")
    return MailedLink(found[0], found[2], found[3])


def secret_for(service: Service, to: str, kind: str, *, count: int = 1) -> str:
    """The secret of the newest message of one kind to an address."""
    return link_in(wait_for(folder_of(service), to, kind, count=count)).secret
