"""Hostile files, sent to a real process: 4xx, nothing stored, flat memory (M15, TRUST 20, 22)."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.faults.live_shop import open_shop
from tests.hostile_pictures import hostile
from tests.live import LiveServer, running_server
from tests.pictures import make_noise, make_picture

pytestmark = [pytest.mark.mission("M15"), pytest.mark.timeout(180)]

MEGABYTE = 1024 * 1024
FORM = "multipart/form-data; boundary=x"
DISPOSITION = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n'
END = b"--x--\r\n"


class Target(NamedTuple):
    """A service of its own, where somebody may set the image of a product."""

    server: LiveServer
    client: httpx.Client
    url: str
    folder: Path


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("files")
    key, url = folder / "signing-key.pem", f"sqlite:///{folder / 'shop.db'}"
    environment = {"APP_ENV": "test", "SIGNING_KEY_FILE": str(key), "DATABASE_URL": url}
    temporary = folder / "temporary"
    temporary.mkdir()
    with (
        running_server(folder, TMPDIR=str(temporary), THREADS="2", **environment) as server,
        open_shop(url, key, server.url) as shop,
    ):
        user, headers = shop.person(admin=True)
        place = f"/v1/products/{shop.product(1, user)}/images/1"
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            # What is imported and allocated once is in memory before anything is measured.
            for _ in range(4):
                warm = client.put(
                    place, content=make_picture(), headers={"Content-Type": "image/png"}
                )
                assert warm.status_code == 200, warm.text
            assert client.delete(place).status_code == 204
            yield Target(server, client, place, folder)


def stored(target: Target) -> dict[str, int]:
    """The files in the store, and in the folder for temporary files."""
    places = (target.folder / "files", target.folder / "temporary")
    files = [each for place in places for each in place.rglob("*") if each.is_file()]
    return {str(each): each.stat().st_size for each in files}


def memory(server: LiveServer) -> int:
    """The bytes that the process has had at most."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def part(head: bytes, data: bytes) -> bytes:
    return b"--x\r\n" + head + b"\r\n" + data + b"\r\n"


def forms() -> Mapping[str, tuple[str, bytes]]:
    """Forms that are wrong, whatever is in them, each with its media type."""
    picture = part(DISPOSITION, make_picture())
    quoted = DISPOSITION.replace(b'"a.png"', b'"a\\".png\\"; name=\\"other.png"')
    extended = DISPOSITION.replace(b'="a.png"', b"*=UTF-8''%2e%2e%2fa%00.png")
    svg = b"<svg/>"
    wrong = {
        "16 MiB and a byte": part(DISPOSITION, bytes(16 * MEGABYTE + 1)),
        "10 MB and a byte": part(DISPOSITION, bytes(10_000_001)) + END,
        "10,000 parts": b"".join(part(DISPOSITION, b"x") for _ in range(10_000)) + END,
        "10,000 headers": part(b"A: b\r\n" * 10_000 + DISPOSITION, b"x") + END,
        "a header of a megabyte": part(b"A: " + b"b" * MEGABYTE + b"\r\n", b"x") + END,
        "two pictures": picture * 2 + END,
        "a second part": picture
        + part(b'Content-Disposition: form-data; name="b"\r\n', b"x")
        + END,
        "a form in a form": part(DISPOSITION + f"Content-Type: {FORM}\r\n".encode(), picture) + END,
        "no end": picture,
        "no part": END,
        "no name": part(b"Content-Disposition: form-data\r\n", make_picture()) + END,
        "a quoted name, and SVG": part(quoted, svg) + END,
        "a name of RFC 8187, and SVG": part(extended, svg) + END,
        "another boundary": picture.replace(b"--x", b"--y") + b"--y--\r\n",
    }
    whole = picture + END
    return {
        **{name: (FORM, body) for name, body in wrong.items()},
        "no boundary": ("multipart/form-data", whole),
        "a long boundary": (f"multipart/form-data; boundary={'x' * 300}", whole),
        "two boundaries": ("multipart/form-data; boundary=y; boundary=z", whole),
        "a form in a picture": ("image/png", whole),
        "SVG": ("image/svg+xml", svg),
        "HTML": ("text/html", svg),
        "no type": ("", make_picture()),
    }


def corpus() -> dict[str, tuple[str, bytes]]:
    whole = {name: ("image/png", content) for name, content in hostile().items()}
    named = {
        f"{name} in a form": (FORM, part(DISPOSITION, content) + END)
        for name, content in hostile().items()
    }
    return {**whole, **named, **forms()}


CORPUS = corpus()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_hostile_files_are_refused_and_leave_nothing(target: Target) -> None:
    assert len(CORPUS) >= 120
    before, files = memory(target.server), stored(target)
    for name, (media_type, body) in CORPUS.items():
        headers = {"Content-Type": media_type} if media_type else {}
        answer = target.client.put(target.url, content=body, headers=headers)
        assert answer.status_code in (413, 415, 422), f"{name}: {answer.text}"
        assert answer.headers["Content-Type"] == "application/problem+json", name
    assert stored(target) == files
    assert memory(target.server) - before < 50 * MEGABYTE
    product = target.client.get(target.url.partition("/images")[0])
    assert product.json()["images"] == []
    assert "Traceback" not in target.server.log_text()


def test_slow_uploads_hold_no_thread(target: Target) -> None:
    """More of them wait than there are threads, and others are served."""
    head = (
        f"PUT {target.url} HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
        f"Authorization: {target.client.headers['Authorization']}\r\nContent-Length: 100000\r\n\r\n"
    )
    content = make_picture()
    with ExitStack() as stack:
        for _ in range(30):
            peer = socket.create_connection((target.server.host, target.server.port), timeout=20)
            stack.enter_context(peer)
            peer.sendall(head.encode() + os.urandom(80_000))
        assert target.client.get("/v1/products").status_code == 200
        png = {"Content-Type": "image/png"}
        assert target.client.put(target.url, content=content, headers=png).status_code == 200


def test_slow_downloads_hold_no_thread(target: Target) -> None:
    """Clients that ask for a large file and read nothing leave the others served."""
    noisy = make_noise((2000, 2000))
    png = {"Content-Type": "image/png"}
    product = target.client.put(target.url, content=noisy, headers=png).json()
    url = product["images"][0]["original"]["url"]
    whole = target.client.get(url).content
    assert len(whole) > MEGABYTE
    with ExitStack() as stack:
        for _ in range(200):
            peer = socket.socket()
            stack.enter_context(peer)
            # A small window, so that most of the file waits in the service.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.settimeout(20)
            peer.connect((target.server.host, target.server.port))
            peer.sendall(f"GET {url} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert peer.recv(15) == b"HTTP/1.1 200 OK"
        assert target.client.get("/v1/products").status_code == 200
        assert target.client.get(url).content == whole
