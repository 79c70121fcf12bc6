"""Composing: turns a letter into a multipart email, in plain text and HTML, from templates."""

import re
import unicodedata
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime
from urllib.parse import urlsplit

import idna
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from models.messages.message import Letter
from models.storage.base import utcnow

# A name that mail programs might turn into a link.
_LINKLIKE = re.compile(r"[/:@<>\u2044\u2215]|[^\s.]\.[^\s.]")
# Browsers read all of these as dots (UTS 46), and ignore joiners.
_DOTS = str.maketrans("\u3002\uff0e\uff61\u2024", "....", "\u200c\u200d")
_PATHS = {
    "verify_email": "verify-email",
    "change_email": "change-email",
    "set_password": "set-password",
}


class Composer:
    """Composes the service's messages. Thread-safe."""

    def __init__(self, public_url: str, sender: str) -> None:
        """Compose messages that link to `public_url` and are sent from the address `sender`."""
        self._public_url = public_url
        self._sender = sender
        self._host = sender.rpartition("@")[2]
        self._environment = Environment(
            loader=PackageLoader("api.pages", "templates/mail"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
        )

    def compose(self, letter: Letter) -> Message:
        """Compose a message. The `Message-ID` is the same on every attempt."""
        values: dict[str, object] = {
            "host": urlsplit(self._public_url).netloc,
            "name": None if _is_linklike(letter.name) else letter.name,
            "public_url": self._public_url,
            "purpose": letter.link and letter.link.purpose,
            "url": self._url(letter),
            "validity": _validity(letter),
        }
        plain = self._environment.get_template(f"{letter.kind}.txt").make_module(values)
        subject: str = getattr(plain, "subject")  # noqa: B009 - mypy knows no variables of templates.
        page = self._environment.get_template(f"{letter.kind}.html")
        text, html = str(plain).strip() + "\n", page.render({**values, "subject": subject})
        # The older classes take a fifth of the time of `EmailMessage`. They do not wrap lines, so a
        # link stays on one line even in a message file. Letters beyond ASCII are in Base64. A
        # random boundary would be looked for in the message, but no message contains its id.
        parts = MIMEText(text), MIMEText(html, "html")
        message = MIMEMultipart("alternative", boundary=letter.id.hex, _subparts=parts)
        message["From"] = f"Concord <{self._sender}>"
        message["To"] = _as_sent(letter.to)
        message["Subject"] = subject
        message["Date"] = format_datetime(utcnow())
        message["Message-ID"] = f"<{letter.id}-{letter.kind}@{self._host}>"
        message["Auto-Submitted"] = "auto-generated"
        return message

    def _url(self, letter: Letter) -> str | None:
        if letter.link is None:
            return None
        # The fragment stays in the browser, so no server, proxy or log sees the secret.
        return f"{self._public_url}/confirm#{_PATHS[letter.link.purpose]}={letter.secret}"


def _is_linklike(name: str) -> bool:
    return bool(_LINKLIKE.search(unicodedata.normalize("NFKC", name).translate(_DOTS)))


def _validity(letter: Letter) -> str | None:
    """Return how long the link is valid, in words."""
    if letter.link is None:
        return None
    days, hours = letter.link.lifetime.days, letter.link.lifetime.seconds // 3600
    count, unit = (days, "day") if days > 1 else (24 * days + hours, "hour")
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _as_sent(address: str) -> str:
    """Return an address in ASCII, if its local part allows that, so that any server accepts it."""
    if address.isascii():
        return address
    local, _, domain = address.rpartition("@")
    return f"{local}@{idna.encode(domain, uts46=True).decode()}" if local.isascii() else address
