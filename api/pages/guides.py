"""Guides for clients: pages of `docs/` as HTML, to be read without internet access."""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

_DRAWING: Final = '<p><img src="{}/docs/order-states.svg" alt="The states of an order"></p>\n'


class Guide(NamedTuple):
    """A guide as HTML, with the titles of all guides by name, in reading order."""

    title: str
    html: str
    titles: Mapping[str, str]


class Guides:
    """The guides with the given names in a folder. The first line of a guide is its title."""

    def __init__(self, folder: Path, names: Iterable[str], prefix: str) -> None:
        self._texts = {name: (folder / f"{name}.md").read_text("utf-8") for name in names}
        self._prefix = prefix

    @cached_property
    def by_name(self) -> Mapping[str, Guide]:
        """All guides, which are rendered when the first one is read."""
        titles = {
            name: text.partition("\n")[0].removeprefix("# ") for name, text in self._texts.items()
        }
        return {
            name: Guide(titles[name], render(text, self._prefix), titles)
            for name, text in self._texts.items()
        }


def render(text: str, prefix: str) -> str:
    """Render Markdown with tables, with ids of headings, and with links to guides.

    A link to `name.md` becomes a link to the guide `name`. The service's own drawing, below the
    path `prefix` of the public URL, replaces the Mermaid diagram of the order states, which would
    need a script.
    """
    from markdown_it import MarkdownIt  # noqa: PLC0415 - few processes show a guide.
    from markdown_it.token import Token  # noqa: PLC0415 - as above.

    markdown = MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(text)
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(tokens[position + 1].content))
        elif token.type == "fence" and token.info == "mermaid":
            tokens[position] = Token("html_block", "", 0, content=_DRAWING.format(prefix))
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", re.sub(r"^([\w-]+)\.md", r"\1", str(child.attrs["href"])))
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    return html


def _anchor(heading: str) -> str:
    """Return the id that code hosts give to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
