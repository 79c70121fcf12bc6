"""The engine serves a contract that is not Concord's: that of tests/contract/example."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from starlette.testclient import TestClient

from tests.contract.example import handlers, library
from tests.contract.example.library import Library, make_library

pytestmark = pytest.mark.mission("M35")
ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).with_name("example")
ADA, BOB = {"X-Reader-Card": "card-of-ada"}, {"X-Reader-Card": "card-of-bob"}
BOOK = {"title": "Beowulf", "author": None, "genre": "fiction"}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(make_library()) as client:
        yield client


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What schemathesis found in a process that serves nothing but the library."""
    command = [sys.executable, "-m", "tests.contract.example.fuzz_library"]
    finished = subprocess.run(  # noqa: S603 - our own interpreter and module.
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def test_the_guide_shows_the_example_unchanged() -> None:
    guide = (ROOT / "docs" / "architecture.md").read_text()
    shown = re.findall(r"(?ms)^```\w+\n(.*?)^```$", guide)
    files = [*EXAMPLE.rglob("*.py"), *EXAMPLE.rglob("*.yaml")]
    assert len(shown) == 6
    for block in shown:
        assert any(block in file.read_text() for file in files), block
    modules = {file.stem for file in (ROOT / "api" / "contract").rglob("*.py")}
    assert modules - {"__init__", "content", "engine_errors"} <= set(re.findall(r"`(\w+)`", guide))


def test_nothing_of_concord_is_loaded_but_the_engine(told: dict[str, Any]) -> None:
    packages = ("api", "app", "models", "sqlalchemy")
    loaded = {name for name in told["modules"] if name.split(".")[0] in packages}
    assert {name for name in loaded if not name.startswith("api.contract")} == {"api"}
    assert "api.contract.serve.middleware" in loaded


def test_schemathesis_finds_nothing(told: dict[str, Any]) -> None:
    assert told["faults"] == []
    assert {
        *("POST /books: 201", "POST /books: 401", "POST /books: 422"),
        *("PUT /shelves/{genre}/sign: 200", "PUT /shelves/{genre}/sign: 422"),
        *("GET /shelves/{genre}: 200", "GET /shelves/{genre}: 400", "GET /shelves/{genre}: 404"),
    } <= set(told["statuses"])
    assert {
        *("response_schema_conformance", "response_headers_conformance", "ignored_auth"),
        *("status_code_conformance", "negative_data_rejection", "positive_data_acceptance"),
    } <= set(told["checks"])


@pytest.mark.mission("M34")
def test_a_deprecated_operation_announces_its_end(client: TestClient) -> None:
    shelf = client.get("/shelves/fiction", headers=BOB)
    link = '<https://library.example/news/shelves>; rel="deprecation sunset"'
    assert shelf.headers["Deprecation"] == "@1769817600"
    assert shelf.headers["Sunset"] == "Sun, 31 Jan 2027 00:00:00 GMT"
    assert shelf.headers["Link"] == link
    served = client.get("/openapi.json").json()["paths"]["/shelves/{genre}"]["get"]
    assert served["deprecated"] is True
    headers = served["responses"]["200"]["headers"]
    assert all(headers[name]["required"] for name in ("Deprecation", "Sunset", "Link"))
    assert headers["Link"]["example"] == link
    assert "Deprecation" not in client.post("/books", json=BOOK, headers=ADA).headers


def test_an_added_book_is_on_its_shelf(client: TestClient) -> None:
    added = client.post("/books", json=BOOK, headers=ADA)
    assert (added.status_code, added.json()) == (201, {"id": 1, **BOOK})
    client.post("/books", json={**BOOK, "title": "Aeneid", "author": "Virgil"}, headers=ADA)
    shelf = client.get("/shelves/fiction", headers=BOB).json()["books"]
    assert [book["id"] for book in shelf] == [2, 1]
    by_id = client.get("/shelves/fiction", headers={**BOB, "X-Sort-By": "id"}).json()["books"]
    assert [book["id"] for book in by_id] == [1, 2]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-Reader-Card": "none"}, 401),
        ({"Authorization": "card-of-ada"}, 401),
        (BOB, 403),
    ],
)
def test_an_api_key_has_its_scopes(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.post("/books", json=BOOK, headers=headers).status_code == status


def test_one_statement_runs_on_the_event_loop_unless_it_would_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get_shelf(reader: Library, genre: str) -> dict[str, object]:
        threads.append(threading.current_thread().name)
        return {"genre": genre, "books": reader.books}

    def refuse(_library: Library, _work: object) -> NoReturn:
        raise BlockingIOError

    threads: list[str] = []
    monkeypatch.setattr(handlers, "get_shelf", get_shelf)
    with TestClient(make_library()) as client:
        assert client.get("/shelves/fiction", headers=BOB).status_code == 200
        monkeypatch.setattr(Library, "glance", refuse)
        assert client.get("/shelves/fiction", headers=BOB).status_code == 200
    assert [name.startswith("reads") for name in threads] == [False, True]


def test_one_statement_runs_in_the_pool_that_the_contract_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def get_shelf(genre: str) -> dict[str, object]:
        threads.append(threading.current_thread().name)
        return {"genre": genre, "books": []}

    threads: list[str] = []
    folder = shutil.copytree(library.FOLDER, tmp_path / "openapi")
    with (folder / "paths" / "shelf.yaml").open("a") as shelf:
        shelf.write("  x-engine-pool: writes\n")
    monkeypatch.setattr(library, "FOLDER", folder)
    monkeypatch.setattr(handlers, "get_shelf", get_shelf)
    with TestClient(make_library()) as client:
        assert client.get("/shelves/fiction", headers=BOB).status_code == 200
    assert [name.startswith("writes") for name in threads] == [True]


def test_an_undeclared_response_is_a_bug(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.post("/books", json=BOOK, headers=ADA).status_code == 201
    monkeypatch.setattr(handlers, "add_book", lambda body: {**body, "id": 0})
    with TestClient(make_library()) as broken:
        answer = broken.post("/books", json=BOOK, headers=ADA)
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal error")
