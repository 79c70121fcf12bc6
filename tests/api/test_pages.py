"""Lists of accounts: every account once, whatever happens between two pages (MISSION M11)."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.api.accounts import bearer, edit_account, make_account, token_for
from tests.api.answers import problem
from tests.service import Service

pytestmark = pytest.mark.mission("M11")


@pytest.fixture(scope="module")
def admin(service: Service) -> httpx.Client:
    """A client that acts for an administrator who has some accounts to list."""
    for _ in range(7):
        make_account(service)
    return service.client(**bearer(token_for(service, make_account(service, role="admin"))))


def pages(client: httpx.Client, **filters: str | int) -> Iterator[list[int]]:
    """The ids of each page of a walk."""
    cursor: dict[str, str] = {}
    while True:
        answer = client.get("/v1/users", params={**filters, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert set(page) == {"items", "next_cursor"}
        yield [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            assert "link" not in answer.headers
            return
        cursor = {"cursor": page["next_cursor"]}


def walk(client: httpx.Client, **filters: str | int) -> list[int]:
    return [number for page in pages(client, **filters) for number in page]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_walk_meets_every_account_once_in_order(admin: httpx.Client, limit: int) -> None:
    everybody = walk(admin, limit=100)
    assert len(everybody) >= 8
    assert everybody == sorted(set(everybody))
    assert walk(admin, limit=limit) == everybody
    assert all(len(page) <= limit for page in pages(admin, limit=limit))


def test_a_full_last_page_does_not_promise_another(admin: httpx.Client) -> None:
    everybody = walk(admin, limit=100)
    exact = admin.get("/v1/users", params={"limit": len(everybody)}).json()
    assert (len(exact["items"]), exact["next_cursor"]) == (len(everybody), None)


def test_rows_that_come_and_go_neither_repeat_nor_hide_a_row_that_stayed(
    service: Service, admin: httpx.Client
) -> None:
    before = walk(admin, limit=100)
    gone: set[int] = set()
    seen: list[int] = []
    for page in pages(admin, limit=2):
        seen += page
        doomed = make_account(service).id
        edit_account(service, doomed, lambda session, row: row.erase(session))
        # One that was met already goes, as does the next to be met.
        for number in (page[0], next((n for n in before if n > page[-1]), 0)):
            if number in before and number not in gone and len(gone) < 4 and number != before[-1]:
                edit_account(service, number, lambda session, row: row.erase(session))
                gone.add(number)
        if len(seen) < 12:
            make_account(service)
    assert gone
    assert len(seen) == len(set(seen))
    assert set(before) - gone <= set(seen)
    assert seen == sorted(seen)


def test_filters_hold_on_every_page(service: Service, admin: httpx.Client) -> None:
    disabled = [make_account(service).id for _ in range(3)]
    for number in disabled:
        edit_account(service, number, lambda session, row: row.change(session, active=False))
    assert walk(admin, active="false", limit=1)[-3:] == disabled
    assert not set(disabled) & set(walk(admin, active="true", limit=4))
    administrators = walk(admin, role="admin", limit=1)
    assert administrators
    assert walk(admin, role="admin", active="false") == []
    assert not set(administrators) & set(walk(admin, role="user", limit=4))


def test_the_link_leads_to_the_next_page(admin: httpx.Client) -> None:
    answer = admin.get("/v1/users?limit=2&active=true")
    target = answer.links["next"]["url"]
    assert target.startswith("http://concord.example/v1/users?")
    query = parse_qs(urlsplit(target).query)
    assert query == {
        "limit": ["2"],
        "active": ["true"],
        "cursor": [answer.json()["next_cursor"]],
    }
    following = admin.get(target.removeprefix("http://concord.example"))
    assert following.status_code == 200
    first = {item["id"] for item in answer.json()["items"]}
    assert not first & {item["id"] for item in following.json()["items"]}


def test_a_cursor_is_good_with_its_filters_only(admin: httpx.Client) -> None:
    cursor = admin.get("/v1/users?limit=1&role=user").json()["next_cursor"]
    assert admin.get("/v1/users", params={"cursor": cursor, "role": "user"}).status_code == 200
    others: tuple[dict[str, str], ...] = (
        {},
        {"role": "admin"},
        {"role": "user", "active": "true"},
    )
    for filters in others:
        answer = admin.get("/v1/users", params={"cursor": cursor, **filters})
        assert (answer.status_code, problem(answer)) == (400, "invalid-parameters")
        assert answer.json()["errors"][0]["code"] == "cursor"


def test_a_cursor_outlives_the_row_that_it_stands_at(service: Service, admin: httpx.Client) -> None:
    make_account(service)
    page = admin.get("/v1/users?limit=1&role=user").json()
    last = page["items"][-1]["id"]
    edit_account(service, last, lambda session, row: row.erase(session))
    params = {"cursor": page["next_cursor"], "role": "user"}
    following = admin.get("/v1/users", params=params).json()["items"]
    assert following
    assert all(item["id"] > last for item in following)


def test_an_erased_account_is_in_no_page(service: Service, admin: httpx.Client) -> None:
    number = make_account(service).id
    assert walk(admin)[-1] == number
    edit_account(service, number, lambda session, row: row.erase(session))
    assert number not in walk(admin)
