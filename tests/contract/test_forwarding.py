"""Forwarding headers are believed from trusted proxies only, and read from the right."""

from ipaddress import ip_network

import pytest

from api.contract.forwarding import Forwarding, Origin

PUBLIC = "https://public.example"
PROXY, OTHER_PROXY, CLIENT, LIAR = "10.0.0.1", "10.0.0.2", "198.51.100.7", "6.6.6.6"


def origin(peer: str, *, trusted: str = "10.0.0.0/8", **fields: str) -> Origin:
    """Where a request came from; field names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return Forwarding([ip_network(trusted)], f"{PUBLIC}/").origin(peer, named)


def address(peer: str, **fields: str) -> str:
    return origin(peer, **fields).client_address


def base_url(peer: str, **fields: str) -> str:
    return origin(peer, **fields).base_url


@pytest.mark.parametrize("peer", [LIAR, "::1", "", "unix", "10.0.0.1.evil.example", "11.0.0.1"])
def test_nothing_is_believed_of_a_peer_that_is_not_trusted(peer: str) -> None:
    spoofed = {"x_forwarded_for": "1.1.1.1", "x_forwarded_host": "evil.example"}
    assert origin(peer, **spoofed, forwarded="for=1.1.1.1;host=evil.example") == Origin(
        peer, PUBLIC
    )


def test_without_trusted_proxies_nobody_is_believed() -> None:
    forwarding = Forwarding([], PUBLIC)
    assert forwarding.origin(PROXY, {"x-forwarded-for": LIAR}) == Origin(PROXY, PUBLIC)


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
def test_the_client_is_the_rightmost_sender_that_is_no_proxy(senders: str, client: str) -> None:
    assert address(PROXY, x_forwarded_for=senders) == client
    if "[" not in senders and "<" not in senders and senders:
        elements = ", ".join(f'for="{each.strip()}"' for each in senders.split(",") if each.strip())
        quoted = elements.replace('"2001:DB8:0::1"', '"[2001:DB8:0::1]"')
        assert address(PROXY, forwarded=quoted) == client


def test_an_ipv4_proxy_on_an_ipv6_socket_is_the_same_proxy() -> None:
    assert address(f"::ffff:{PROXY}", x_forwarded_for=CLIENT) == CLIENT


def test_the_forwarded_header_of_rfc_7239_tells_the_same() -> None:
    assert origin(PROXY, forwarded='For="[2001:db8::1]:443";HOST="a.example:8443";Proto=https') == (
        Origin("2001:db8::1", "https://a.example:8443")
    )


def test_the_nearest_proxy_says_by_what_name_the_service_was_called() -> None:
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
def test_a_host_that_is_none_is_not_believed(host: str) -> None:
    assert base_url(PROXY, x_forwarded_for=CLIENT, x_forwarded_host=host) == PUBLIC


@pytest.mark.parametrize("scheme", ["ftp", "javascript", "https:", "h t", "\u017fhttp"])
def test_a_scheme_other_than_http_is_not_believed(scheme: str) -> None:
    fields = {"x_forwarded_for": CLIENT, "x_forwarded_host": "a.example"}
    assert base_url(PROXY, **fields, x_forwarded_proto=scheme) == PUBLIC


@pytest.mark.parametrize(
    "fields",
    [
        {"x_forwarded_for": CLIENT, "forwarded": f"for={LIAR}"},
        {"x_forwarded_for": LIAR, "forwarded": f"for={CLIENT};host=a.example"},
        {"x_forwarded_host": "evil.example", "forwarded": f"for={CLIENT};host=a.example"},
        {
            "x_forwarded_for": CLIENT,
            "x_forwarded_host": "evil.example",
            "forwarded": f"for={CLIENT};host=a.example",
        },
        {
            "x_forwarded_for": CLIENT,
            "x_forwarded_proto": "http",
            "forwarded": f"for={CLIENT};proto=https",
        },
    ],
)
def test_where_the_two_kinds_of_header_disagree_neither_is_believed(fields: dict[str, str]) -> None:
    assert origin(PROXY, **fields) == Origin(PROXY, PUBLIC)


def test_where_the_two_kinds_of_header_agree_they_are_believed() -> None:
    assert origin(
        PROXY,
        forwarded=f"for={CLIENT};host=a.example;proto=https",
        x_forwarded_for=CLIENT,
        x_forwarded_host="a.example",
        x_forwarded_proto="https",
    ) == Origin(CLIENT, "https://a.example")


@pytest.mark.parametrize(
    "lie", ['for=6.6.6.6;by="a, for=6.6.6.6"', 'for=6.6.6.6;by="', '"', "for="]
)
def test_quotes_that_a_client_opens_do_not_hide_what_the_proxy_says(lie: str) -> None:
    assert address(PROXY, forwarded=f'{lie}, for={CLIENT};host="a.example"') == CLIENT
