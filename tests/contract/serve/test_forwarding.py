"""Forwarding headers are trusted only from trusted proxies, and read from the right."""

import tracemalloc
from ipaddress import ip_network

import pytest

from api.contract.serve import forwarding
from api.contract.serve.forwarding import Client, ForwardedHeader, Forwarding

PUBLIC = "https://public.example"
PROXY, OTHER_PROXY, CLIENT, LIAR = "10.0.0.1", "10.0.0.2", "198.51.100.7", "6.6.6.6"


def reader(header: ForwardedHeader, *, trust_host: bool = True) -> Forwarding:
    """A reader of a header that trusts one network."""
    trusted = [ip_network("10.0.0.0/8")]
    return Forwarding(trusted, f"{PUBLIC}/", header=header, trust_host=trust_host)


def origin(peer: str, header: ForwardedHeader | None = None, /, **fields: str) -> Client:
    """Where a request came from; field names are written with underscores.

    Unless told otherwise, the service reads the kind of header that is there.
    """
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    there: ForwardedHeader = "forwarded" if "forwarded" in named else "x-forwarded-for"
    return reader(header or there).origin(peer, named)


def address(peer: str, **fields: str) -> str:
    return origin(peer, **fields).client_address


def base_url(peer: str, **fields: str) -> str:
    return origin(peer, **fields).base_url


@pytest.mark.parametrize("peer", [LIAR, "::1", "", "unix", "10.0.0.1.evil.example", "11.0.0.1"])
def test_untrusted_peers_are_not_believed(peer: str) -> None:
    spoofed = {"x_forwarded_for": "1.1.1.1", "x_forwarded_host": "evil.example"}
    assert origin(peer, **spoofed, forwarded="for=1.1.1.1;host=evil.example") == Client(
        peer, PUBLIC
    )


def test_without_trusted_proxies_nobody_is_believed() -> None:
    reader = Forwarding([], PUBLIC, header="x-forwarded-for", trust_host=True)
    assert reader.origin(PROXY, {"x-forwarded-for": LIAR}) == Client(PROXY, PUBLIC)


@pytest.mark.parametrize(
    ("senders", "client"),
    [
        (CLIENT, CLIENT),
        (f"{LIAR}, {CLIENT}", CLIENT),
        (f"{LIAR},{CLIENT},{OTHER_PROXY}", CLIENT),
        (f"{LIAR}, 10.9.9.9, {CLIENT}", CLIENT),
        (f"{OTHER_PROXY}, 10.0.0.3", OTHER_PROXY),
        (f"{CLIENT}:4711", CLIENT),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        (f"::ffff:{CLIENT}", CLIENT),
        ("unknown", PROXY),
        (f"{LIAR}, unknown", PROXY),
        (f"{LIAR}, evil.example", PROXY),
        (f"{LIAR}, 1.2.3.4.5", PROXY),
        (f"{LIAR}, <script>", PROXY),
        (f"{LIAR}, {CLIENT}, ", CLIENT),
        ("", PROXY),
    ],
)
def test_the_client_is_the_rightmost_untrusted_sender(senders: str, client: str) -> None:
    assert address(PROXY, x_forwarded_for=senders) == client
    if "[" not in senders and "<" not in senders and senders:
        elements = ", ".join(f'for="{each.strip()}"' for each in senders.split(",") if each.strip())
        quoted = elements.replace('"2001:DB8:0::1"', '"[2001:DB8:0::1]"')
        assert address(PROXY, forwarded=quoted) == client


def test_an_ipv4_proxy_on_an_ipv6_socket_is_trusted() -> None:
    assert address(f"::ffff:{PROXY}", x_forwarded_for=CLIENT) == CLIENT


def test_the_forwarded_header_is_equivalent() -> None:
    assert origin(PROXY, forwarded='For="[2001:db8::1]:443";HOST="a.example:8443";Proto=https') == (
        Client("2001:db8::1", "https://a.example:8443")
    )


def test_the_nearest_proxy_reports_the_host() -> None:
    elements = f"for={LIAR};host=evil.example;proto=http, for={CLIENT};host=a.example;proto=https"
    assert base_url(PROXY, forwarded=elements) == "https://a.example"
    assert base_url(
        PROXY,
        x_forwarded_for=f"{LIAR}, {CLIENT}",
        x_forwarded_host="evil.example, a.example",
        x_forwarded_proto="http, HTTPS",
    ) == ("https://a.example")
    assert base_url(PROXY, forwarded=f"host=evil.example, for={CLIENT}") == PUBLIC


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "evil.example/path",
            "evil.example?",
            "a@evil.example",
            "evil .example",
            "-a.example",
        ),
        *("evil.example#", "a\\b", "[::1", "a.example:", "a.example:port", "a.example:123456"),
        *("a\r\nSet-Cookie: x", "<script>", "*", "a%2eexample", "\u0430.example", "a" * 300),
    ],
)
def test_an_invalid_host_is_not_believed(host: str) -> None:
    assert base_url(PROXY, x_forwarded_for=CLIENT, x_forwarded_host=host) == PUBLIC


@pytest.mark.parametrize("scheme", ["ftp", "javascript", "https:", "h t", "\u017fhttp"])
def test_a_scheme_other_than_http_is_not_believed(scheme: str) -> None:
    fields = {"x_forwarded_for": CLIENT, "x_forwarded_host": "a.example"}
    assert base_url(PROXY, **fields, x_forwarded_proto=scheme) == PUBLIC


@pytest.mark.parametrize(
    "lie",
    [
        {"x_forwarded_for": LIAR, "x_forwarded_host": "evil.example"},
        {"x_forwarded_for": f"{LIAR}, {OTHER_PROXY}", "x_forwarded_proto": "http"},
        {"x_forwarded_for": ", " * 9000},
    ],
)
def test_only_forwarded_is_read_if_configured(lie: dict[str, str]) -> None:
    told = f"for={CLIENT};host=a.example;proto=https"
    assert origin(PROXY, "forwarded", forwarded=told, **lie) == Client(CLIENT, "https://a.example")
    assert origin(PROXY, "forwarded", **lie) == Client(PROXY, PUBLIC)


@pytest.mark.parametrize("lie", [f"for={LIAR}", f"for={LIAR};host=evil.example;proto=http", '"'])
def test_forwarded_from_a_client_changes_nothing_by_default(lie: str) -> None:
    told = {"x_forwarded_for": CLIENT, "x_forwarded_host": "a.example"}
    assert origin(PROXY, "x-forwarded-for", forwarded=lie, **told) == Client(
        CLIENT, "https://a.example"
    )


def test_links_begin_with_the_public_url_unless_the_host_is_trusted() -> None:
    told = {"x-forwarded-for": CLIENT, "x-forwarded-host": "a.example"}
    silent = reader("x-forwarded-for", trust_host=False)
    assert silent.origin(PROXY, told) == Client(CLIENT, PUBLIC)
    told = {"forwarded": f"for={CLIENT};host=a.example;proto=http"}
    assert reader("forwarded", trust_host=False).origin(PROXY, told) == Client(CLIENT, PUBLIC)


def test_the_number_of_proxies_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def parse(text: str) -> str:
        read.append(text)
        return text

    monkeypatch.setattr(forwarding, "_parsed", parse)
    assert address(PROXY, x_forwarded_for=f"{LIAR}, {'10.0.0.2, ' * 3000}10.0.0.3") == OTHER_PROXY
    assert len(read) <= 20


def test_long_values_are_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(200):
            junk = f"{number:03}" * 7_000
            for fields in ({"x_forwarded_for": junk}, {"forwarded": f"for={junk}"}):
                assert address(PROXY, **fields) == PROXY
            assert origin(junk).client_address == junk
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


@pytest.mark.parametrize(
    "lie", ['for=6.6.6.6;by="a, for=6.6.6.6"', 'for=6.6.6.6;by="', '"', "for="]
)
def test_quotes_opened_by_a_client_hide_nothing(lie: str) -> None:
    assert address(PROXY, forwarded=f'{lie}, for={CLIENT};host="a.example"') == CLIENT
