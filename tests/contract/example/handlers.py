"""The handlers of a small library, which has nothing in common with Concord but the engine."""

from typing import TypedDict

from api.contract.compile.document import Document
from api.contract.ports import Content
from tests.contract.example.library import Library


class NewBook(TypedDict):
    """A book as it is added."""

    title: str
    author: str | None
    genre: str


def get_openapi(document: Document) -> Content:
    """Return the document."""
    return Content("application/json", document.json)


def add_book(session: Library, body: NewBook) -> dict[str, object]:
    """Add a book."""
    return session.add({**body})


def get_shelf(reader: Library, genre: str, x_sort_by: str) -> dict[str, object]:
    """Return the books of a genre."""
    found = [book for book in reader.books if book["genre"] == genre]
    return {"genre": genre, "books": sorted(found, key=lambda book: book[x_sort_by])[:100]}


def set_sign(session: Library, genre: str, body: dict[str, object]) -> dict[str, object]:
    """Put up a sign over the shelf of a genre."""
    session.signs[genre] = {"genre": genre, **body}
    return session.signs[genre]
