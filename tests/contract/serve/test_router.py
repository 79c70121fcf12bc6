"""Paths are split before they are decoded, and parameters keep their meaning (M4)."""

import pytest

from tests.contract.serve.small_router import router_of

pytestmark = pytest.mark.mission("M4")

ROUTER = router_of(
    [
        "/",
        "/a",
        "/a/{x}",
        "/a/b",
        "/a/b/c",
        "/a/{x}/d",
        "/files/{path}",
        "/{p}/{q}/{r}/e",
        "/\u00e9",
    ]
)


@pytest.mark.parametrize(
    ("raw", "path", "values"),
    [
        (b"/", "/", ()),
        (b"/a", "/a", ()),
        (b"/a/", "/a", ()),
        (b"/%61", "/a", ()),
        (b"/a/1", "/a/{x}", ("1",)),
        (b"/a/1/", "/a/{x}", ("1",)),
        (b"/a/b", "/a/b", ()),
        (b"/a/%62", "/a/b", ()),
        (b"/a/b/d", "/a/{x}/d", ("b",)),
        (b"/a/b/c/e", "/{p}/{q}/{r}/e", ("a", "b", "c")),
        (b"/a/1/d", "/a/{x}/d", ("1",)),
        (b"/a/d/d", "/a/{x}/d", ("d",)),
        (b"/a/%2F", "/a/{x}", ("/",)),
        (b"/a/%2f..%2f", "/a/{x}", ("/../",)),
        (b"/a/%2561", "/a/{x}", ("%61",)),
        (b"/a/+", "/a/{x}", ("+",)),
        (b"/a/%C3%A9", "/a/{x}", ("\u00e9",)),
        (b"/a/{x}", "/a/{x}", ("{x}",)),
        (b"/a/..", "/a/{x}", ("..",)),
        (b"/files/avatars%2Fada.png", "/files/{path}", ("avatars/ada.png",)),
        (b"/%C3%A9", "/\u00e9", ()),
    ],
)
def test_a_path_leads_to_its_resource(raw: bytes, path: str, values: tuple[str, ...]) -> None:
    match = ROUTER.match(raw)
    assert match is not None
    assert (match.resource.path, match.values) == (path, values)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"a", b"*", b"//a", b"/a//", b"/a//d", b"/a/1//", b"/A", b"/files/a/b", b"/a%2Fb"),
        *(b"/a/%", b"/a/%4", b"/a/%zz", b"/a/%FF", b"/a/%ED%A0%80", b"/a/%C0%AF", b"/a/\xff"),
        *(b"/a/%00", b"/a/%0A", b"/a/%1F", b"/a/%7F", b"/a/%C2%85", b"/a/\n", b"/%0Aa", b"/a%00"),
    ],
)
def test_an_unknown_path_leads_nowhere(raw: bytes) -> None:
    assert ROUTER.match(raw) is None


def test_every_resource_occurs_once_with_its_methods() -> None:
    assert len(ROUTER.resources) == 9
    assert {resource.allow for resource in ROUTER.resources} == {"GET, HEAD, OPTIONS"}


FILES = router_of(["/files/{rest}", "/files/{x}/info", "/files/known", "/v/{x}/{rest}"])


@pytest.mark.parametrize(
    ("raw", "path", "values"),
    [
        (b"/files/a", "/files/{rest}", ("a",)),
        (b"/files/a/b/c.png", "/files/{rest}", ("a/b/c.png",)),
        (b"/files/a/b/", "/files/{rest}", ("a/b",)),
        (b"/files/%C3%A9/b%20c", "/files/{rest}", ("\u00e9/b c",)),
        (b"/files/known", "/files/known", ()),
        (b"/files/a/info", "/files/{x}/info", ("a",)),
        (b"/files/a/info/b", "/files/{rest}", ("a/info/b",)),
        (b"/v/1/a/b", "/v/{x}/{rest}", ("1", "a/b")),
    ],
)
def test_a_path_parameter_takes_the_rest_of_the_path(
    raw: bytes, path: str, values: tuple[str, ...]
) -> None:
    match = FILES.match(raw)
    assert match is not None
    assert (match.resource.path, match.values) == (path, values)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"/files", b"/files/", b"/files//a", b"/files/../a", b"/files/a/..", b"/files/%2e%2e/a"),
        *(b"/files/a%2Fb", b"/files/.", b"/files/a\x00", b"/files/%00", b"/v/1"),
    ],
)
def test_a_path_with_traversal_or_hidden_separators_leads_nowhere(raw: bytes) -> None:
    assert FILES.match(raw) is None
