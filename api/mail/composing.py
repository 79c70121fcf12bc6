"""A letter as a message that mail programs show: in text and in HTML, from templates."""

import re
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from urllib.parse import urlsplit

from email_validator import validate_email
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from models.base import utcnow
from models.message import Letter

# What a mail program would make a link of, in a place where only a name should be.
_LINKLIKE = re.compile(r"[/:@<>]|\w\.\w")
_PATHS = {
    "verify_email": "verify-email",
    "change_email": "change-email",
    "set_password": "set-password",
}


class Composer:
    """Writes the messages of one service. It may be shared by threads."""

    def __init__(self, public_url: str, sender: str) -> None:
        """Links lead to `public_url`; `sender` is the address that messages are from."""
        self._public_url = public_url
        self._sender = sender
        self._host = sender.rpartition("@")[2]
        self._environment = Environment(
            loader=PackageLoader("api", "templates/mail"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def compose(self, letter: Letter) -> EmailMessage:
        """Write a message; it has the same `Message-ID` whenever it is written again."""
        values: dict[str, object] = {
            "host": urlsplit(self._public_url).netloc,
            "name": None if _LINKLIKE.search(letter.name) else letter.name,
            "public_url": self._public_url,
            "purpose": letter.link and letter.link.purpose,
            "url": self._url(letter),
            "validity": _validity(letter),
        }
        plain = self._environment.get_template(f"{letter.kind}.txt").make_module(values)
        subject: str = getattr(plain, "subject")  # noqa: B009 - mypy knows no variables of templates.
        page = self._environment.get_template(f"{letter.kind}.html")
        message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
        message["From"] = f"Concord <{self._sender}>"
        message["To"] = _as_sent(letter.to)
        message["Subject"] = subject
        message["Date"] = format_datetime(utcnow())
        message["Message-ID"] = f"<{letter.id}-{letter.kind}@{self._host}>"
        message["Auto-Submitted"] = "auto-generated"
        text, html = str(plain).strip() + "\n", page.render({**values, "subject": subject})
        # Nothing is wrapped, so that a link stays one line also for whoever reads the file.
        message.set_content(text, cte=_encoding(text))
        message.add_alternative(html, subtype="html", cte=_encoding(html))
        return message

    def _url(self, letter: Letter) -> str | None:
        if letter.link is None:
            return None
        # What is behind the # stays in the browser: no server, proxy or log sees the secret.
        return f"{self._public_url}/confirm#{_PATHS[letter.link.purpose]}={letter.secret}"


def _validity(letter: Letter) -> str | None:
    """Say how long the link is good."""
    if letter.link is None:
        return None
    days, hours = letter.link.lifetime.days, letter.link.lifetime.seconds // 3600
    count, unit = (days, "day") if days > 1 else (24 * days + hours, "hour")
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _as_sent(address: str) -> str:
    """Write an address so that any server takes it, if its letters before the @ allow that."""
    if address.isascii():
        return address
    checked = validate_email(address, check_deliverability=False, test_environment=True)
    return checked.ascii_email or address


def _encoding(text: str) -> str:
    return "7bit" if text.isascii() else "8bit"
