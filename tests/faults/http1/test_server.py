"""The server layer over raw sockets: caps, deadlines and refusals."""

import json
import re
import socket
import time
from collections.abc import Iterator

import pytest

from tests.faults.http1.small_server import (
    CHUNKED,
    GET,
    SLOW_UPLOAD,
    WAIT,
    Server,
    parse_head,
    read_all,
    read_answer,
    started,
)
from tests.faults.http1.small_service import LARGE_BYTES, LIMITS, PUBLIC_URL, Setup

# Generous, because the machine that runs the tests may be busy.
SLACK = 3.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started(Setup()) as running:
        yield running


def send_for(seconds: float, connection: socket.socket) -> None:
    """Trickle bytes for so long, unless the server hangs up first."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        connection.sendall(b"x" * 1000)
        time.sleep(0.01)


def assert_problem(received: bytes, status: int, slug: str) -> None:
    """One whole problem document that ends the connection, and nothing else."""
    head, _, body = received.partition(b"\r\n\r\n")
    got, headers = parse_head(head)
    assert got == status, received
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    assert "server" not in headers
    problem = json.loads(body)
    assert problem["type"] == f"{PUBLIC_URL}/problems/{slug}"
    assert problem["status"] == status
    assert re.fullmatch("[0-9a-f]{32}", problem["instance"])


def header_block(size: int) -> bytes:
    """A request whose target and headers are `size` bytes by the server's reckoning."""
    fixed = len("/") + len("Host: a\r\n") + len("X: \r\n")
    return b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (size - fixed) + b"\r\n\r\n"


# Headers


def test_a_header_block_at_the_cap_is_served(server: Server) -> None:
    with server.connect(header_block(LIMITS.header_bytes)) as connection:
        assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("size", [LIMITS.header_bytes + 1, 100_000, 20_000_000])
def test_a_header_block_over_the_cap_is_refused_with_a_problem(server: Server, size: int) -> None:
    assert_problem(server.ask(header_block(size)), 431, "header-fields-too-large")


def test_a_request_has_a_limited_number_of_headers(server: Server) -> None:
    most = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * (LIMITS.header_fields - 1)
    with server.connect(most + b"\r\n") as connection:
        assert read_answer(connection)[0] == 200
    # Refused before the headers end, because each one takes memory and time.
    assert_problem(server.ask(most + b"a: b\r\nc"), 431, "header-fields-too-large")


@pytest.mark.parametrize("origin", [b"https://app.example", b"https://evil.example"])
def test_a_refusal_can_be_read_by_scripts_of_allowed_origins(server: Server, origin: bytes) -> None:
    most = b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: %s\r\n" % origin + b"a: b\r\n" * 200
    received = server.ask(most)
    assert_problem(received, 431, "header-fields-too-large")
    assert b"vary: Origin\r\n" in received
    granted = b"access-control-allow-origin: https://app.example\r\n" in received
    assert granted is (origin == b"https://app.example")


def test_a_request_has_a_limited_number_of_trailers(server: Server) -> None:
    many = b"a: b\r\n" * LIMITS.header_fields
    assert_problem(server.ask(CHUNKED + b"0\r\n" + many + b"c"), 431, "header-fields-too-large")


def test_a_request_line_over_the_cap_is_refused_with_a_problem(server: Server) -> None:
    line = b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    assert_problem(server.ask(line), 431, "header-fields-too-large")


def test_headers_that_stop_arriving_time_out(server: Server) -> None:
    begun = time.monotonic()
    assert_problem(server.ask(b"GET / HTTP/1.1\r\nHo"), 408, "request-timeout")
    assert time.monotonic() - begun < LIMITS.header_seconds + SLACK


def test_trickling_headers_do_not_extend_the_deadline(server: Server) -> None:
    begun = time.monotonic()
    received = b""
    with server.connect(b"GET / HTTP/1.1\r\n") as connection:
        connection.settimeout(0.1)
        while not received and time.monotonic() - begun < LIMITS.header_seconds + SLACK:
            try:
                received = connection.recv(65_536)
            except TimeoutError:
                connection.sendall(b"x: y\r\n")
    assert_problem(received, 408, "request-timeout")


@pytest.mark.parametrize("noise", [b"", b"\r\n"])
def test_a_silent_connection_is_closed_at_the_deadline(server: Server, noise: bytes) -> None:
    begun = time.monotonic()
    assert server.ask(noise) == b""
    assert time.monotonic() - begun < LIMITS.header_seconds + SLACK


def test_an_idle_connection_is_closed_after_the_keep_alive_time(server: Server) -> None:
    with server.connect(GET) as connection:
        assert read_answer(connection)[0] == 200
        begun = time.monotonic()
        assert read_all(connection) == b""
        assert time.monotonic() - begun < LIMITS.keep_alive_seconds + SLACK


# What is not a request

HEAD = b"POST /length HTTP/1.1\r\nHost: a\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: x\r\n"
MALFORMED = {
    "garbage": b"GARBAGE\r\n\r\n",
    "binary": bytes(range(128, 256)),
    "http/0.9": b"GET /\r\n\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/2 in the request line": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "unknown version": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
    "connect": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "bytes beyond ASCII in the target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "header without colon": b"GET / HTTP/1.1\r\nHost: a\r\nfoo\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: a\r\nx: a\r\n b\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: a\r\nx: a\0b\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "Host that is no host": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "user information in Host": b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "percent without two digits in Host": b"GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n",
    "percent at the end of Host": b"GET / HTTP/1.1\r\nHost: a%4\r\n\r\n",
    "brackets around a name in Host": b"GET / HTTP/1.1\r\nHost: [zz]\r\n\r\n",
    "brackets around IPv4 in Host": b"GET / HTTP/1.1\r\nHost: [127.0.0.1]\r\n\r\n",
    "IPv6 that is too long in Host": b"GET / HTTP/1.1\r\nHost: [1:2:3:4:5:6:7:8:9]\r\n\r\n",
    "IPv6 with a zone in Host": b"GET / HTTP/1.1\r\nHost: [fe80::1%25lo]\r\n\r\n",
    "future address without a version in Host": b"GET / HTTP/1.1\r\nHost: [v.a]\r\n\r\n",
    "port that is no number in Host": b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
    "user information in the target": b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "empty user information in the target": b"GET http://@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "invalid host in the target": b"GET http://a%zz/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "target with a port but no host": b"GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment in the target": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "target without a leading slash": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "query without a path": b"GET ?a=b HTTP/1.1\r\nHost: a\r\n\r\n",
    "authority for a target": b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "another scheme in the target": b"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk for another method": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "more than an asterisk": b"OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces before the target": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces after the target": b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    "carriage return before the request": b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "many empty lines before the request": b"\r\n" * 20 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "RTSP": b"GET / RTSP/1.1\r\nHost: a\r\n\r\n",
    "upgrade with a length": HEAD + UPGRADE + b"Content-Length: 3\r\n\r\nabc",
    "upgrade with chunks": HEAD + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "Content-Length with Transfer-Encoding": (
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    ),
    "Transfer-Encoding with Content-Length": (
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    ),
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "signed length": HEAD + b"Content-Length: +3\r\n\r\nabc",
    "length beyond 64 bits": HEAD + b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "unknown coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "coding beside chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two codings": HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": (
        b"POST /length HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    ),
    "chunk size that is no number": CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"1\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_refused_with_a_problem(
    server: Server, request_bytes: bytes
) -> None:
    assert_problem(server.ask(request_bytes), 400, "malformed-request")


HOSTS = ["", "a:", "a_b.example:80", "%C3%A9", "127.0.0.1", "[::FFFF:1.2.3.4]", "[v1f.a:b]"]


@pytest.mark.parametrize("host", HOSTS)
def test_every_kind_of_host_is_accepted(server: Server, host: str) -> None:
    with server.connect(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()) as connection:
        assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("host", ["a", "127.0.0.1:80", "[::1]:80"])
def test_an_absolute_target_may_name_any_host(server: Server, host: str) -> None:
    target = f"HTTP://{host}/b?c"
    with server.connect(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()) as connection:
        assert read_answer(connection)[0] == 200


def test_a_body_aborted_in_a_chunk_is_a_disconnect(server: Server) -> None:
    with server.connect(CHUNKED + b"3\r\nabc\r\n") as connection:
        time.sleep(0.1)
        connection.sendall(b"nonsense\r\n")
        assert_problem(read_all(connection), 400, "malformed-request")
    assert server.says("the client left after 3 bytes")


def test_trailers_are_not_headers(server: Server) -> None:
    with server.connect(CHUNKED + b"3\r\nabc\r\n0\r\nAuthorization: x\r\n\r\n") as connection:
        answer = json.loads(read_answer(connection)[2])
    assert answer == {"length": 3, "headers": ["host", "transfer-encoding"]}


@pytest.mark.parametrize("endless", [b"3;x=", b"3\r\nabc\r\n0\r\nx: "])
def test_an_endless_chunk_extension_or_trailer_is_refused(server: Server, endless: bytes) -> None:
    received = server.ask(CHUNKED + endless + b"x" * 2_000_000)
    assert_problem(received, 431, "header-fields-too-large")


def test_headers_without_a_value_stay_separate(server: Server) -> None:
    with server.connect(b"GET / HTTP/1.1\r\nHost: a\r\nx-a:\r\nx-b: \r\n\r\n") as connection:
        answer = json.loads(read_answer(connection)[2])
    assert answer["headers"] == ["host", "x-a", "x-b"]


def test_the_path_reaches_the_application_unchanged(server: Server) -> None:
    with server.connect(b"GET /a%2Fb%0A%ff?q HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        assert json.loads(read_answer(connection)[2])["raw_path"] == "/a%2Fb%0A%ff"


def test_a_request_to_upgrade_is_served_and_ends_the_connection(server: Server) -> None:
    received = server.ask(b"GET /first HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"\r\n" + GET)
    status, headers = parse_head(received.partition(b"\r\n\r\n")[0])
    assert (status, headers["connection"], received.count(b"raw_path")) == (200, "close", 1)


def test_interim_responses_are_for_http_1_1_only(server: Server) -> None:
    fields = b"Host: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
    assert server.ask(b"POST /length HTTP/1.0\r\n" + fields).startswith(b"HTTP/1.1 200 OK\r\n")
    with server.connect(b"POST /length HTTP/1.1\r\n" + fields) as connection:
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert read_answer(connection)[0] == 200


def test_the_refusal_of_a_malformed_request_waits_its_turn(server: Server) -> None:
    received = server.ask(WAIT + GET + b"GARBAGE\r\n\r\n")
    assert [int(found) for found in re.findall(rb"HTTP/1.1 (\d+)", received)] == [200, 200, 400]
    assert_problem(received[received.rindex(b"HTTP/1.1 400") :], 400, "malformed-request")


def test_the_refusal_of_a_malformed_body_waits_its_turn(server: Server) -> None:
    received = server.ask(WAIT + CHUNKED + b"zz\r\n")
    assert [int(found) for found in re.findall(rb"HTTP/1.1 (\d+)", received)] == [200, 400]


def test_a_refusal_after_a_head_response_has_a_body(server: Server) -> None:
    with server.connect(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        connection.recv(65_536)
        connection.sendall(b"GARBAGE\r\n\r\n")
        assert_problem(read_all(connection), 400, "malformed-request")


def test_a_hundred_pipelined_requests_are_answered_in_order(server: Server) -> None:
    line = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    received = server.ask(b"".join([*(line % number for number in range(100)), last]))
    paths = re.findall(rb'"raw_path": "/(\w+)"', received)
    assert paths == [*(b"%d" % number for number in range(100)), b"last"]


def test_a_client_that_reads_slowly_gets_every_response(server: Server) -> None:
    large = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    received = server.ask(large * 2 + last)
    assert len(received) > 2 * LARGE_BYTES
    assert received.count(b"HTTP/1.1 200 OK") == 3


# Slow and unfinished clients


def test_an_early_response_reaches_a_client_that_is_still_sending(server: Server) -> None:
    size = 20_000_000
    head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    with server.connect() as connection:
        # All of it is taken although nobody wants it: no reset overtakes the answer.
        connection.sendall(head + b"x" * size)
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (413, "close")
        assert read_all(connection) == b""


def test_a_client_that_never_stops_sending_is_dropped(server: Server) -> None:
    head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n"
    with server.connect(head) as connection, pytest.raises(ConnectionError):
        send_for(LIMITS.linger_seconds + SLACK, connection)


def test_a_client_that_does_not_read_is_dropped(server: Server) -> None:
    with server.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        time.sleep(LIMITS.write_seconds + 1)
        assert len(read_all(connection)) < 32 * 1024 * 1024


def test_responses_that_a_client_does_not_read_are_not_made() -> None:
    medium = b"GET /medium HTTP/1.1\r\nHost: a\r\n\r\n"
    with started(Setup()) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(medium * 16)
        time.sleep(0.3)
        with server.connect(b"GET /seen HTTP/1.1\r\nHost: a\r\n\r\n") as other:
            seen = json.loads(read_answer(other)[2])["paths"]
    assert 1 <= seen["/medium"] <= 2


def test_silent_and_slow_clients_do_not_affect_others(server: Server) -> None:
    clients = [server.connect(first) for first in (b"", b"GET / HT", SLOW_UPLOAD) * 60]
    try:
        begun = time.monotonic()
        with server.connect(GET) as connection:
            assert read_answer(connection)[0] == 200
        assert time.monotonic() - begun < 1
    finally:
        for client in clients:
            client.close()
