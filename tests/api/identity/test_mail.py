"""Messages reach their recipients by SMTP or in a folder, despite failures (MISSION M24)."""

import io
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from email import message as mime
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import func, select, update

from api.mail import bounded_smtp, transports
from api.mail.composing import Composer
from api.mail.sending import Sender
from api.mail.transports import SmtpServer, make_transport
from api.server.logs import Logger, make_logger
from api.server.setting_types import mail_host
from api.server.settings import Settings
from models.identity.user import User
from models.messages.message import Letter, LinkTerms, Message
from models.messages.outbox import BATCH
from models.storage.base import utcnow
from models.storage.database import Database
from models.storage.identifiers import new_id
from tests.databases import KINDS, make_database_url
from tests.factories import make_order, make_user
from tests.live import HOST, LiveServer, free_port, running_server
from tests.mailbox import link_in, read, text_of, wait_for
from tests.models.reading import read_order
from tests.servers.mail_server import PASSWORD, USER, mail_server
from tests.service import running
from tests.tools import find_tool

pytestmark = pytest.mark.mission("M24")

ADDRESS = "zoe@concord.example"
FROM = "post@concord.example"
NAME = "shop.example"
KEY = b"counts the mailboxes of the tests"


class KilledError(Exception):
    """The process has just been killed, so that it need not be asked to end."""


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with make_database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield database
        database.dispose()


def letter(*, to: str = ADDRESS, name: str = "Zo\u00eb Adams", kind: str = "welcome") -> Letter:
    link = LinkTerms("verify_email", timedelta(hours=24))
    return Letter(new_id(), kind, 1, to, name, link, "s" * 43)  # type: ignore[arg-type] # The kind is one.


def compose(**members: str) -> mime.Message:
    return Composer("https://shop.example", FROM).compose(letter(**members))


def server_at(port: int, *, user: str | None = None, tls: bool = False) -> SmtpServer:
    return SmtpServer(HOST, port, tls, user, PASSWORD if user else None, NAME)


def sender_of(
    database: Database,
    mail_url: str,
    log: io.StringIO | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Sender:
    composer, transport = Composer("https://shop.example", FROM), make_transport(mail_url, NAME)
    return Sender(database, composer, transport, a_logger(log), KEY, is_stopping)


def a_logger(log: io.StringIO | None = None) -> Logger:
    settings = Settings(
        app_env="production", database_url="sqlite:///x", signing_key_file=Path("x")
    )
    return make_logger(settings, log or io.StringIO())


def welcome(database: Database, user: User) -> None:
    database.transact(lambda s: Message.enqueue(s, "welcome", user.id), write=True)


def make_due(database: Database) -> None:
    """Let the leases and the pauses of all messages be over."""
    database.transact(lambda s: s.execute(update(Message).values(due_at=utcnow())), write=True)


def waiting(database: Database) -> int:
    query = select(func.count()).select_from(Message)
    return database.transact(lambda s: s.scalar(query), write=False) or 0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def silent_server(greeting: bytes = b"", *, drip: bytes = b"") -> Iterator[int]:
    """Listen, say a greeting if any, then nothing, or the same again and again."""
    ended = threading.Event()
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            listener.settimeout(0.1)
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(greeting)
                    while not ended.wait(0.05):
                        try:
                            connection.sendall(drip)
                        except OSError:
                            break

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_delivered_as_text_and_html(kind: str, tmp_path: Path) -> None:
    with (
        make_database_url(kind, tmp_path) as url,
        mail_server() as inbox,
        running(tmp_path, url, MAIL_URL=f"smtp://{HOST}:{inbox.port}", MAIL_FROM=FROM) as service,
    ):
        register(service.client(), name="Zo\u00eb Adams", email=ADDRESS)
        wait_until(lambda: bool(inbox.messages))
        wait_until(lambda: waiting(service.app.database) == 0)
    (message,) = inbox.messages
    assert inbox.recipients == [ADDRESS]
    assert (message["From"], message["To"]) == (f"Concord <{FROM}>", ADDRESS)
    assert message["Subject"] == "Welcome to Concord"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("-welcome@concord.example>")
    assert message["Date"].datetime is not None
    assert "Hello Zo\u00eb Adams," in text_of(message)
    assert "Hello Zo\u00eb Adams," in text_of(message, "html")
    assert link_in(message).url.startswith("http://concord.example/confirm#set-password=")
    # A server that takes seven bits only takes it too.
    assert inbox.raw[0].isascii()


def register(client: httpx.Client, **members: str) -> None:
    body = {"name": "Zoe Adams", "email": ADDRESS, **members}
    answer = client.post("/v1/users", json=body)
    assert answer.status_code == 201, answer.text


def test_a_message_is_delivered_once_the_server_is_up_again(database: Database) -> None:
    user, port = make_user(database), free_port()
    sender = sender_of(database, f"smtp://{HOST}:{port}")
    welcome(database, user)
    for attempt in (1, 2):
        with pytest.raises(OSError, match="refused"):
            sender.send_batch()
        assert waiting(database) == 1, attempt
        assert not sender.send_batch(), "it is tried again too soon"
        make_due(database)
    with mail_server(port) as inbox:
        assert sender.send_batch()
        assert not sender.send_batch()
    assert inbox.recipients == [user.email]
    assert waiting(database) == 0


def test_a_short_outage_does_not_delay_a_queue_for_long(database: Database) -> None:
    for _ in range(9):
        welcome(database, make_user(database))
    sender = sender_of(database, f"smtp://{HOST}:{free_port()}")
    for _ in range(9):
        with pytest.raises(OSError, match="refused"):
            sender.send_batch()
    latest = database.transact(lambda s: s.scalar(select(func.max(Message.due_at))), write=False)
    assert latest is not None
    assert latest < utcnow() + timedelta(seconds=20)


def test_a_retried_message_is_identical(database: Database) -> None:
    welcome(database, make_user(database))
    composed = []

    class Noting(Composer):
        def compose(self, letter: Letter) -> mime.Message:
            composed.append(super().compose(letter))
            return composed[-1]

    with mail_server() as inbox:
        inbox.refusals = ["451 Not now"]
        composer = Noting("https://shop.example", FROM)
        sender = Sender(database, composer, server_at(inbox.port), a_logger(), KEY)
        assert sender.send_batch()
        assert inbox.messages == []
        make_due(database)
        assert sender.send_batch()
    first, second = composed
    assert first["Message-ID"] == second["Message-ID"] == inbox.messages[0]["Message-ID"]
    assert link_in(first) != link_in(second)


@pytest.mark.parametrize(
    ("greeting", "drip"),
    [
        (b"", b""),
        (b"220 slow\r\n", b""),
        (b"220-", b"220-slower\r\n"),
        (b"220 x\r\n", b"250-a\r\n"),
        (b"220 x\r\n250 x\r\n250 x\r\n250 x\r\n354 x\r\n", b""),
    ],
    ids=["says nothing", "greets only", "greets for ever", "answers for ever", "stops in DATA"],
)
def test_a_hanging_server_is_abandoned(
    database: Database, monkeypatch: pytest.MonkeyPatch, greeting: bytes, drip: bytes
) -> None:
    monkeypatch.setattr(transports, "_STEP_SECONDS", 0.3)
    monkeypatch.setattr(bounded_smtp, "_DIALOGUE_SECONDS", 0.6)
    welcome(database, make_user(database))
    with silent_server(greeting, drip=drip) as port:
        before = time.monotonic()
        with pytest.raises((OSError, smtplib.SMTPException)):
            sender_of(database, f"smtp://{HOST}:{port}").send_batch()
        assert time.monotonic() - before < 2
    assert waiting(database) == 1


def test_a_hanging_server_delays_only_mail(tmp_path: Path) -> None:
    with (
        silent_server() as port,
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, MAIL_URL=f"smtp://{HOST}:{port}") as service,
    ):
        database = service.app.database
        register(service.client())
        wait_until(lambda: attempts(database) == 1)
        order = make_order(database, reservation=timedelta(seconds=-1))
        wait_until(lambda: read_order(database, order).status == "expired")
        assert attempts(database) == 1


def attempts(database: Database) -> int:
    """How often somebody took the message."""
    query = select(func.max(Message.attempts))
    return database.transact(lambda s: s.scalar(query), write=False) or 0


def test_a_permanent_rejection_is_logged_without_the_recipient(database: Database) -> None:
    user, log = make_user(database), io.StringIO()
    welcome(database, user)
    with mail_server() as inbox:
        inbox.refusals = [f"550 5.1.1 <{user.email}> No such user"]
        assert sender_of(database, f"smtp://{HOST}:{inbox.port}", log).send_batch()
    assert waiting(database) == 0
    assert '"event":"message given up"' in log.getvalue()
    assert '"kind":"welcome"' in log.getvalue()
    assert '"code":"550 5.1.1"' in log.getvalue()
    assert user.email not in log.getvalue()


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("refusals", "450 Mailbox busy"),
        ("contents", "451 Not now"),
        ("contents", "554 Looks bad"),
        ("refusals", "554 5.7.1 Listed at bl.example"),
        ("senders", "552 Too large"),
    ],
)
def test_a_rejected_message_does_not_delay_others(
    database: Database, step: str, answer: str
) -> None:
    first, second = make_user(database), make_user(database)
    welcome(database, first)
    welcome(database, second)
    with mail_server() as inbox:
        sender = sender_of(database, f"smtp://{HOST}:{inbox.port}")
        getattr(inbox, step).append(answer)
        assert [sender.send_batch() for _ in range(2)] == [True, False]
        assert inbox.recipients == [second.email]
        make_due(database)
        assert sender.send_batch()
    assert inbox.recipients == [second.email, first.email]


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("refusals", "421 Closing"),
        ("contents", "421 Closing"),
        ("senders", "421 Closing"),
        ("senders", "550 Who are you"),
    ],
)
def test_a_server_that_rejects_everything_causes_a_pause(
    database: Database, step: str, answer: str
) -> None:
    welcome(database, make_user(database))
    with mail_server() as inbox:
        getattr(inbox, step).append(answer)
        with pytest.raises(smtplib.SMTPException):
            sender_of(database, f"smtp://{HOST}:{inbox.port}").send_batch()
    assert waiting(database) == 1


def test_a_postponed_message_is_logged_with_its_code(database: Database) -> None:
    log = io.StringIO()
    welcome(database, make_user(database))
    with mail_server() as inbox:
        inbox.refusals = ["554 5.7.1 Listed at bl.example"]
        sender = sender_of(database, f"smtp://{HOST}:{inbox.port}", log)
        assert sender.send_batch()
        assert '"event":"message postponed"' in log.getvalue()
        assert '"code":"554 5.7.1"' in log.getvalue()
        assert not sender.send_batch()
        delivering = [sender.is_delivering]
        make_due(database)
        assert sender.send_batch()
    assert [*delivering, sender.is_delivering] == [False, True]


def test_the_service_introduces_itself_by_its_public_host(tmp_path: Path) -> None:
    with (
        make_database_url("sqlite", tmp_path) as url,
        mail_server() as inbox,
        running(tmp_path, url, MAIL_URL=f"smtp://{HOST}:{inbox.port}") as service,
    ):
        register(service.client())
        wait_until(lambda: bool(inbox.messages))
    assert inbox.clients == ["concord.example"]
    assert mail_host("https://[::1]:8080") == "[IPv6:::1]"


def test_a_message_needing_smtputf8_is_given_up_if_unsupported(database: Database) -> None:
    log = io.StringIO()
    welcome(database, make_user(database, email="zo\u00eb@concord.example"))
    with mail_server(knows_all_letters=False) as inbox:
        assert sender_of(database, f"smtp://{HOST}:{inbox.port}", log).send_batch()
    assert (waiting(database), inbox.messages) == (0, [])
    assert "message given up" in log.getvalue()


def test_a_message_that_is_too_old_is_given_up(database: Database) -> None:
    log = io.StringIO()
    welcome(database, make_user(database))
    age = update(Message).values(created_at=utcnow() - timedelta(days=4))
    database.transact(lambda s: s.execute(age), write=True)
    with pytest.raises(ConnectionRefusedError):
        sender_of(database, f"smtp://{HOST}:{free_port()}", log).send_batch()
    assert waiting(database) == 0
    assert "too old" in log.getvalue()


def test_one_connection_serves_many_messages_and_is_replaced(database: Database) -> None:
    for _ in range(BATCH + 2):
        welcome(database, make_user(database))
    with mail_server() as inbox:
        sender = sender_of(database, f"smtp://{HOST}:{inbox.port}")
        assert sender.send_batch()
        assert (len(inbox.messages), len(inbox.peers)) == (BATCH, 1)
        # The server closes the connection that is kept for the next batch.
        inbox.contents = ["421 Closing"]
        with pytest.raises(smtplib.SMTPDataError):
            sender.send_batch()
        make_due(database)
        assert sender.send_batch()
    assert len({message["Message-ID"] for message in inbox.messages}) == BATCH + 2
    assert len(inbox.peers) == 2


def test_a_connection_that_died_is_replaced() -> None:
    with mail_server() as inbox:
        transport = server_at(inbox.port)
        transport.send(compose())
    with mail_server(inbox.port) as inbox, closing(transport):
        transport.send(compose())
    assert len(inbox.messages) == 1


def test_a_sender_that_is_told_to_stop_leaves_the_rest_to_others(database: Database) -> None:
    for _ in range(3):
        welcome(database, make_user(database))
    with mail_server() as inbox:
        stopping = sender_of(
            database, f"smtp://{HOST}:{inbox.port}", is_stopping=lambda: bool(inbox.messages)
        )
        assert stopping.send_batch()
        assert (len(inbox.messages), waiting(database)) == (1, 2)
        assert sender_of(database, f"smtp://{HOST}:{inbox.port}").send_batch()
    assert len(inbox.messages) == len(set(inbox.recipients)) == 3


def test_several_senders_send_each_message_once(database: Database) -> None:
    people = [make_user(database) for _ in range(20)]
    for person in people:
        welcome(database, person)
    with mail_server() as inbox:

        def drain() -> None:
            sender = sender_of(database, f"smtp://{HOST}:{inbox.port}")
            while sender.send_batch():
                pass

        threads = [threading.Thread(target=drain) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(inbox.recipients) == sorted(person.email for person in people)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_of_a_killed_sender_is_sent_by_another(kind: str, tmp_path: Path) -> None:
    with (
        make_database_url(kind, tmp_path) as url,
        silent_server() as silent,
        mail_server() as inbox,
    ):
        database = Database(url)
        shared = {"APP_ENV": "test", "DATABASE_URL": url, "METRICS_PORT": "0"}
        hanging = f"smtp://{HOST}:{silent}"
        with (
            suppress(KilledError),
            running_server(tmp_path, **shared, MAIL_URL=hanging) as server,
            httpx.Client(base_url=server.url) as client,
        ):
            register(client)
            wait_until(lambda: attempts(database) == 1)
            os.kill(server.process.pid, signal.SIGKILL)
            raise KilledError
        assert waiting(database) == 1
        with running_server(tmp_path, **shared, MAIL_URL=f"smtp://{HOST}:{inbox.port}"):
            time.sleep(1.5)
            assert inbox.messages == [], "the dead one's lease is not over yet"
            make_due(database)
            wait_until(lambda: bool(inbox.messages))
            wait_until(lambda: waiting(database) == 0)
        database.dispose()
    assert inbox.recipients == [ADDRESS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_sender_repeats_only_its_batch_with_the_same_ids(
    kind: str, tmp_path: Path
) -> None:
    with make_database_url(kind, tmp_path) as url, mail_server() as inbox:
        database = Database(url)
        for _ in range(BATCH + 1):
            welcome(database, make_user(database))
        inbox.most = BATCH - 1
        settings = {"APP_ENV": "test", "DATABASE_URL": url, "METRICS_PORT": "0"}
        settings["MAIL_URL"] = f"smtp://{HOST}:{inbox.port}"
        with suppress(KilledError), running_server(tmp_path, **settings) as server:
            wait_until(lambda: inbox.held == 1)
            os.kill(server.process.pid, signal.SIGKILL)
            raise KilledError
        assert waiting(database) == BATCH + 1
        inbox.most = None
        make_due(database)
        with running_server(tmp_path, **settings):
            wait_until(lambda: waiting(database) == 0)
        database.dispose()
    sent = Counter(message["Message-ID"] for message in inbox.messages)
    assert sorted(sent.values()) == [1, 1, *[2] * (BATCH - 1)]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for the loopback address, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    request += ["-keyout", "key.pem", "-out", "cert.pem", "-days", "1", "-subj", "/CN=mail"]
    request += ["-addext", f"subjectAltName=IP:{HOST}"]
    subprocess.run(  # noqa: S603 - our own arguments.
        [find_tool("openssl"), *request], cwd=folder, check=True, capture_output=True
    )
    return folder


# aiosmtpd does not know that a connection is secure from the start.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_password_is_sent_over_tls(
    tls: Path, monkeypatch: pytest.MonkeyPatch, *, from_the_start: bool
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    scheme = "smtps" if from_the_start else "smtp"
    with mail_server(tls=context, from_the_start=from_the_start, wants_password=True) as inbox:
        url = f"{scheme}://{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@{HOST}:{inbox.port}"
        transport = make_transport(url, NAME)
        assert PASSWORD not in repr(transport)
        # A certificate that nobody vouches for is not good enough.
        with pytest.raises(ssl.SSLCertVerificationError):
            transport.send(compose())
        monkeypatch.setenv("SSL_CERT_FILE", str(tls / "cert.pem"))
        with closing(make_transport(url, NAME)) as trusting:
            trusting.send(compose())
    assert len(inbox.messages) == 1
    assert from_the_start or inbox.secured == [True]


def test_a_password_is_not_sent_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "_is_loopback", lambda _host: False)
    with (
        mail_server() as inbox,
        pytest.raises(smtplib.SMTPNotSupportedError, match="TLS"),
    ):
        server_at(inbox.port, user=USER).send(compose())
    assert inbox.messages == []


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("Zoe@Concord.Example", "Zoe@Concord.Example"),
        ("zoe@ex\u00e4mple.com", "zoe@xn--exmple-cua.com"),
        ("zo\u00eb@concord.example", "zo\u00eb@concord.example"),
        ("\u7528\u6237@\u4f8b\u5b50.\u5e7f\u544a", "\u7528\u6237@\u4f8b\u5b50.\u5e7f\u544a"),
        (f"{'a' * 64}@{'b' * 60}.{'c' * 60}.example", f"{'a' * 64}@{'b' * 60}.{'c' * 60}.example"),
    ],
)
def test_addresses_in_all_alphabets_are_supported(given: str, sent: str, tmp_path: Path) -> None:
    message = compose(to=given)
    with mail_server() as inbox, closing(server_at(inbox.port)) as server:
        server.send(message)
    assert inbox.recipients == [sent]
    make_transport(f"file:{tmp_path}/mail", NAME).send(message)
    (file,) = (tmp_path / "mail").iterdir()
    assert read(file)["To"] == sent


@pytest.mark.parametrize(
    "name",
    [
        *("Bcc: all@concord.example", "Win at http://evil.example", "www.evil.example"),
        *("<b>Zoe</b>", "evil\u3002com", "evil\uff0ecom", "evil\uff61com", "evil.\u200dcom"),
        *("ev\u200cil\u200c.\u200ccom", "evilx\u0331.com", "evil\u2024com", "evil\uff0fcom"),
    ],
)
def test_a_name_cannot_inject_links_or_headers(name: str) -> None:
    message = compose(name=name)
    for form in ("plain", "html"):
        assert name not in text_of(message, form)
        assert "evil" not in text_of(message, form)
    assert "Bcc" not in message


def test_a_name_is_escaped_in_html() -> None:
    message = compose(name="Zoe & Max 'n' \"Jo\"")
    assert "Hello Zoe & Max 'n' \"Jo\"," in text_of(message)
    assert "Hello Zoe &amp; Max &#39;n&#39; &#34;Jo&#34;," in text_of(message, "html")


@pytest.mark.parametrize(
    "kind",
    [
        *("welcome", "verify_email", "change_email", "set_password"),
        *("password_changed", "email_changed", "webhook_disabled"),
    ],
)
def test_text_and_html_of_a_message_say_the_same(kind: str) -> None:
    message = compose(kind=kind)
    assert message["Subject"]
    text, html = text_of(message), text_of(message, "html")
    assert text.startswith("Hello Zo\u00eb Adams,\n\n")
    assert html.startswith("<!doctype html>")
    assert "\n\n\n" not in text
    assert "{" not in text
    assert max(map(len, text.splitlines())) < 200


def test_message_files_are_complete_and_private(tmp_path: Path) -> None:
    transport = make_transport(f"file:{tmp_path}/a b/mail", NAME)
    first, second = compose(), compose()
    for message in (first, second, first):
        transport.send(message)
    folder = tmp_path / "a b" / "mail"
    files = sorted(folder.iterdir())
    assert [read(file)["Message-ID"] for file in files] == [
        first["Message-ID"],
        second["Message-ID"],
    ]
    assert {each.stat().st_mode & 0o777 for each in (folder, folder.parent)} == {0o700}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_new_user_follows_the_link_in_var_mail_with_curl(tmp_path: Path) -> None:
    curl = find_tool("curl")
    with (
        running_server(tmp_path, METRICS_PORT="0") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        register(client, email=ADDRESS)
        secret = link_in(wait_for(tmp_path / "var" / "mail", ADDRESS, "welcome")).secret
        assert use(curl, server, secret) == "204"
        assert use(curl, server, secret) == "422"
        assert secret not in server.log_text()


def use(curl: str, server: LiveServer, secret: str) -> str:
    """Set a password by a link, and give the status."""
    body = f'{{"token": "{secret}", "password": "eleven quiet harbours"}}'
    finished = subprocess.run(  # noqa: S603 - our own arguments.
        [
            *(curl, "-s", "-o", os.devnull, "-w", "%{http_code}", "-d", body),
            *("-H", "Content-Type: application/json"),
            f"{server.url}/v1/auth/password-reset/confirm",
        ],
        check=True,
        capture_output=True,
    )
    return finished.stdout.decode()
