"""The pages work on their own: nothing is inline, and nothing is external (MISSION M27)."""

import re
from html.parser import HTMLParser
from importlib.resources import files
from types import SimpleNamespace

import jinja2
import pytest

from api.documents import GUIDES, Assets, get_docs_asset
from api.pages.guides import Guide, Guides, render
from app import CONTRACT
from models.errors import NotFound
from tests.our_document import our_document

GUIDE_PAGES = Guides(CONTRACT.parent / "docs", GUIDES, "").by_name
TEMPLATES = files("api.pages") / "templates"
PROBLEM = SimpleNamespace(
    slug="not-found",
    type="https://concord.example/problems/not-found",
    title="Not found",
    status=404,
    meaning="There is no such resource.",
    when_sent="The path names nothing <script>alert(1)</script>.",
    what_to_do="Check the path.",
)
PAGES = {
    "get_confirm.html": None,
    "get_docs.html": None,
    "get_guide.html": GUIDE_PAGES["orders"],
    "get_problem.html": PROBLEM,
    "list_problems.html": {"items": [PROBLEM]},
}


def page(name: str) -> str:
    """The page as Flask renders it: what is put in is escaped."""
    pages = [file for file in TEMPLATES.iterdir() if file.is_file()]
    templates = {file.name: file.read_text() for file in pages}
    environment = jinja2.Environment(loader=jinja2.DictLoader(templates), autoescape=True)
    return environment.get_template(name).render(it=PAGES[name])


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", PAGES)
def test_m27_a_page_loads_only_files_of_this_service(name: str) -> None:
    assets = Assets({"order-states.svg": b"<svg/>"})
    for tag, attributes in Elements(page(name)).found:
        loaded = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        if loaded:
            assert get_docs_asset(assets, loaded.removeprefix("/docs/")).body


@pytest.mark.parametrize("name", PAGES)
def test_m27_a_page_has_nothing_inline_that_its_policy_forbids(name: str) -> None:
    elements = Elements(page(name)).found
    assert not [tag for tag, attributes in elements if tag == "script" and "src" not in attributes]
    assert not [tag for tag, _ in elements if tag in {"style", "base", "iframe", "object"}]
    assert not [key for _, attributes in elements for key in attributes if key.startswith("on")]
    assert not [tag for tag, attributes in elements if "style" in attributes]


@pytest.mark.parametrize("name", PAGES)
def test_a_form_is_sent_by_the_script_not_by_the_browser(name: str) -> None:
    for tag, attributes in Elements(page(name)).found:
        # Should the script not run, nothing that was typed is sent, least of all in an address.
        assert tag != "form" or attributes["method"] == "post"
        assert "action" not in attributes
        assert tag not in {"input", "button"} or "name" not in attributes


@pytest.mark.parametrize("name", PAGES)
def test_a_page_declares_its_language_title_and_width(name: str) -> None:
    html = page(name)
    assert html.startswith("<!doctype html>\n")
    assert '<html lang="en">' in html
    assert re.search(r"<title>Concord: \w[^<]+</title>", html)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html


def test_m8_the_page_of_a_problem_describes_it_completely() -> None:
    html = page("get_problem.html")
    for text in (PROBLEM.title, "404", PROBLEM.type, PROBLEM.meaning, PROBLEM.what_to_do):
        assert text in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_m8_the_list_of_problems_links_to_each() -> None:
    assert '<a href="/problems/not-found">Not found</a>' in page("list_problems.html")


@pytest.mark.parametrize("guide", GUIDE_PAGES.values(), ids=GUIDE_PAGES)
def test_m27_every_link_in_a_guide_stays_within_the_service(guide: Guide) -> None:
    elements = Elements(guide.html).found
    assert not [attributes for _, attributes in elements if "style" in attributes]
    targets = [attributes["href"] or "" for tag, attributes in elements if tag == "a"]
    inside = [each for each in targets if not each.startswith(("http", "#"))]
    for name, _, anchor in (each.partition("#") for each in inside):
        assert name in GUIDE_PAGES
        assert not anchor or f'id="{anchor}"' in GUIDE_PAGES[name].html


def test_m27_links_in_the_contract_lead_to_guides() -> None:
    bundle = our_document().bundle
    texts = "\n".join(part["description"] for part in [bundle["info"], *bundle["tags"]])
    linked = re.findall(r"\(/docs/guides/([^)]+)\)", texts)
    assert len(linked) > len(GUIDES)
    for target in linked:
        name, _, anchor = target.partition("#")
        assert not anchor or f'id="{anchor}"' in GUIDE_PAGES[name].html


def test_a_guide_is_rendered_with_anchors_tables_and_diagrams() -> None:
    text = "# One `two`\n\n[a](b-c.md#d)\n\n| x |\n|---|\n| y |\n\n```mermaid\nz\n```\n"
    html = render(text, "/a")
    parts = ('<h1 id="one-two">', 'href="b-c#d"', "<td>y</td>", 'src="/a/docs/order-states.svg"')
    for part in parts:
        assert part in html


def test_the_policy_allows_only_this_service() -> None:
    declared = our_document().bundle["components"]["headers"]["Content-Security-Policy"]
    policy = declared["schema"]["default"]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "'self' data:"
    assert set(directives.values()) == {"'none'", "'self'", "'self' data:"}


def test_m27_swagger_ui_is_a_version_5() -> None:
    version = (files("flask_swagger_ui") / "dist" / "VERSION").read_text()
    assert re.fullmatch(r"v5\.\d+\.\d+", version.strip())


def test_a_file_has_its_media_type() -> None:
    assets = Assets()
    assert assets.get("swagger-ui.css").media_type == "text/css; charset=utf-8"
    assert assets.get("docs.js").media_type == "text/javascript; charset=utf-8"
    assert assets.get("favicon-32x32.png").media_type == "image/png"


def test_m27_a_diagram_is_served_beside_the_files() -> None:
    drawing = get_docs_asset(Assets({"order-states.svg": b"<svg/>"}), "order-states.svg")
    assert (drawing.media_type, drawing.body) == ("image/svg+xml; charset=utf-8", b"<svg/>")


@pytest.mark.parametrize("name", ["missing.css", "../documents.py", "get_docs.html", ""])
def test_only_files_that_the_pages_load_are_served(name: str) -> None:
    with pytest.raises(NotFound):
        get_docs_asset(Assets(), name)


def test_a_password_field_hides_and_accepts_all_characters() -> None:
    page = (TEMPLATES / "get_confirm.html").read_text()
    fields = re.findall(r"<input [^>]*password[^>]*>", page)
    assert len(fields) == 3
    for field in fields:
        # Password managers look for this, and a browser would cut what is longer without a word.
        assert re.search('type="password" autocomplete="(new|current)-password"', field)
        assert "maxlength" not in field
        assert "onpaste" not in field
