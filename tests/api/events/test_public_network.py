"""Hosts named by clients: only public addresses are reached, whatever a name resolves to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog

from api.contract.serve.bridge import Pool
from api.outbound.deliverer import Deliverer
from api.outbound.public_network import NotPublicError, OutboundNetwork
from api.outbound.webhook_urls import WebhookUrls, is_public
from api.server.metrics import Metrics
from models.access.secret_box import SecretBox
from models.errors import InvalidWebhookUrl
from models.storage.database import Database
from models.webhooks.delivery import PING, Delivery
from models.webhooks.webhook_endpoint import WebhookEndpoint
from tests.databases import make_database_url
from tests.servers.webhook_receiver import wait_for

pytestmark = pytest.mark.mission("M31")

PRIVATE = (
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),  # noqa: S104 - an address to refuse.
    *("169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("2002:7f00:1::", "2002:c0a8:101::1", "2001:0:7f00:1::1", "2001:db8::1"),
    # Site-local, local NAT64, IPv4-translated and IPv4-compatible addresses, and others that have
    # special purposes.
    *("fec0::1", "64:ff9b:1::a9fe:a9fe", "::ffff:0:7f00:1", "::127.0.0.1", "4000::1", "5f00::1"),
    *("2001:1::1", "2001:20::1", "3fff::1", "192.0.0.9", "192.88.99.1", "64:ff9b::c000:9"),
)
PUBLIC = ("1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101")


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("http://shop.example/", "https://127.0.0.1/", "https://[::1]/", "https://localhost/"),
        *("https://169.254.169.254/latest", "https://printer.local/", "https://10.0.0.1:8443/"),
        *("https://metadata.internal/", "https://[::ffff:10.0.0.1]/"),
    ],
)
def test_urls_inside_private_networks_are_refused(url: str) -> None:
    with pytest.raises(InvalidWebhookUrl):
        WebhookUrls(public=True).check(url)
    WebhookUrls(public=False).check(url)


def test_public_urls_are_accepted() -> None:
    for url in ("https://shop.example/hook?key=1", "HTTPS://1.1.1.1:8443/"):
        WebhookUrls(public=True).check(url)


@pytest.fixture
def resolvers() -> Iterator[Pool]:
    pool = Pool("names", 1, 1)
    yield pool
    pool.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "127.1", "2130706433"])
def test_private_hosts_are_not_connected_to(resolvers: Pool, host: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with listener, pytest.raises(NotPublicError):
        asyncio.run(OutboundNetwork(resolvers, public=True).connect_tcp(host, port, timeout=5))


def test_the_next_address_is_tried(resolvers: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    # Nothing listens on the first address.
    found = [(socket.AF_INET, 0, 0, "", (each, port)) for each in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr("api.outbound.public_network.socket.getaddrinfo", lambda *_, **__: found)

    async def connect() -> None:
        network = OutboundNetwork(resolvers, public=False)
        stream = await network.connect_tcp("shop.example", port, timeout=5)
        await stream.aclose()

    with listener:
        asyncio.run(connect())
        listener.settimeout(5)
        listener.accept()[0].close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database that no service uses, so that nothing else delivers from it."""
    with make_database_url("sqlite", tmp_path) as url:
        database = Database(url)
        yield database
        database.dispose()


def test_a_name_is_checked_for_each_connection(database: Database) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    box = SecretBox(bytes(32))
    # The rules for URLs would refuse this name. Here, it stands for one that now resolves to a
    # private address.
    url = f"http://localhost:{port}/"
    made = database.transact(lambda session: WebhookEndpoint.create(session, box, {"url": url}))
    ping = database.transact(lambda session: Delivery.create(session, made.id, PING))
    deliverer = Deliverer(
        database, box, structlog.get_logger(), Metrics(), ready=lambda: True, public=True
    )

    def outcome() -> str | None:
        read = partial(Delivery.of, webhook_id=made.id, delivery_id=ping.id)
        return database.read(read).response_text

    deliverer.start()
    try:
        assert wait_for(outcome) == "the host has no public address"
    finally:
        deliverer.stop()
        listener.settimeout(0.2)
    with pytest.raises(TimeoutError), listener:
        listener.accept()
