"""Lists of accounts: filters, cursors, and concurrent insertions and deletions (MISSION M11)."""

import random
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from models.identity.user import User
from models.identity.user_list import find_users
from tests.api.accounts import bearer, edit_account, token_for
from tests.api.answers import problem
from tests.factories import fresh_email, make_account
from tests.service import Service

pytestmark = pytest.mark.mission("M11")

PATH = "/v1/users"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.fixture(scope="module")
def administrator(service: Service) -> Iterator[httpx.Client]:
    """Somebody who may list, of a service with more accounts than a page has."""
    for number in range(105):
        user = make_account(service, role="admin" if number % 10 == 0 else "user")
        if number % 7 == 0:
            edit_account(service, user.id, disable)
    headers = bearer(token_for(service, make_account(service, role="admin")))
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
        yield client


def disable(_session: object, user: User) -> None:
    user.active = False


def erase(service: Service, user_id: int) -> None:
    edit_account(service, user_id, lambda session, user: user.erase(session))


def walk(client: httpx.Client, **arguments: str | int) -> Iterator[int]:
    """Yield the ids on every page, asking for the next page when it is needed."""
    cursor: dict[str, str] = {}
    while True:
        page = client.get(PATH, params={**arguments, **cursor})
        assert page.status_code == 200, page.text
        yield from [int(account["id"]) for account in page.json()["items"]]
        if page.json()["next_cursor"] is None:
            return
        cursor = {"cursor": page.json()["next_cursor"]}


def stored(service: Service) -> list[User]:
    return service.app.database.transact(
        lambda session: list(find_users(session, limit=10_000).items), write=False
    )


def test_a_page_has_25_accounts_and_100_at_most(administrator: httpx.Client) -> None:
    page = administrator.get(PATH)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert set(page.json()) == {"items", "next_cursor"}
    assert len(page.json()["items"]) == 25
    assert len(administrator.get(PATH, params={"limit": 100}).json()["items"]) == 100
    assert len(administrator.get(PATH, params={"limit": 1}).json()["items"]) == 1


@pytest.mark.mission("M4")
@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=101", "limit"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=1.0", "limit"),
        ("limit=%2B1", "limit"),
        ("limit=01", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=10&limit=10", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("active=1", "active"),
        ("active=True", "active"),
        ("active=", "active"),
        ("active=true&active=false", "active"),
        ("role=root", "role"),
        ("role=Admin", "role"),
        ("role=", "role"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("offset=10", ""),
        ("name=ada", ""),
        ("email=", "email"),
        ("email=ada", "email"),
    ],
)
def test_an_invalid_argument_is_a_bad_request(
    administrator: httpx.Client, query: str, parameter: str
) -> None:
    answer = administrator.get(f"{PATH}?{query}")
    assert answer.status_code == 400
    assert problem(answer) == "invalid-parameters"
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


@pytest.mark.parametrize("limit", [1, 7, 25, 53, 100])
def test_the_pages_contain_every_account_once_in_order(
    service: Service, administrator: httpx.Client, limit: int
) -> None:
    expected = [user.id for user in stored(service)]
    assert list(walk(administrator, limit=limit)) == expected


@pytest.mark.parametrize("active", ["true", "false", None])
@pytest.mark.parametrize("role", ["user", "admin", None])
def test_filters_select_exactly_the_matching_accounts(
    service: Service, administrator: httpx.Client, active: str | None, role: str | None
) -> None:
    given = {"active": active, "role": role}
    arguments = {name: value for name, value in given.items() if value is not None}
    expected = [
        user.id
        for user in stored(service)
        if active in (None, str(user.active).lower()) and role in (None, user.role)
    ]
    assert len(expected) > 1
    assert list(walk(administrator, limit=5, **arguments)) == expected


def test_link_leads_to_the_next_page_with_the_same_filters(administrator: httpx.Client) -> None:
    arguments = {"active": "true", "role": "user", "limit": "3"}
    page = administrator.get(PATH, params=arguments)
    url = page.links["next"]["url"]
    assert url.startswith("http://concord.example/v1/users?")
    parts = urlsplit(url)
    followed = administrator.get(f"{parts.path}?{parts.query}").json()
    by_cursor = administrator.get(
        PATH, params={**arguments, "cursor": page.json()["next_cursor"]}
    ).json()
    assert followed == by_cursor
    assert "link" not in administrator.get(PATH, params={"active": "false", "limit": 100}).headers


def test_a_cursor_is_valid_with_its_own_filters_only(administrator: httpx.Client) -> None:
    made_with = [{}, {"active": "true"}, {"active": "false"}, {"role": "user"}]
    cursors = [
        administrator.get(PATH, params={**filters, "limit": 2}).json()["next_cursor"]
        for filters in made_with
    ]
    for filters in made_with:
        for origin, cursor in zip(made_with, cursors, strict=True):
            answer = administrator.get(PATH, params={**filters, "cursor": cursor, "limit": 50})
            assert answer.status_code == (200 if filters == origin else 400)
            if filters != origin:
                assert answer.json()["errors"][0]["parameter"] == "cursor"


def test_a_cursor_cannot_be_forged_or_changed(administrator: httpx.Client) -> None:
    cursor = administrator.get(PATH).json()["next_cursor"]
    forged = [
        *("x", "25", "MjU", "MjU.", ".", "a.b", "a.b.c", "x" * 512),
        *(cursor[:-1], cursor[1:], f"{cursor}x", f"x{cursor}", cursor.swapcase(), cursor[::-1]),
        *(cursor.rpartition(".")[0], f"MQ.{cursor.rpartition('.')[2]}"),
    ]
    for place, letter in enumerate(cursor):
        if letter in ALPHABET:
            flipped = ALPHABET[ALPHABET.index(letter) ^ 1 << place % 6]
            forged.append(cursor[:place] + flipped + cursor[place + 1 :])
    for text in forged:
        answer = administrator.get(PATH, params={"cursor": text})
        assert answer.status_code == 400, text
        assert answer.json()["errors"][0]["parameter"] == "cursor"


@pytest.mark.mission("M25")
@pytest.mark.parametrize("seed", range(4))
def test_a_walk_neither_repeats_nor_skips_an_account_that_stays(
    service: Service, administrator: httpx.Client, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same walk each time, not a secret.
    before = [make_account(service, role="admin").id for _ in range(24)]
    gone: set[int] = set()
    seen: list[int] = []
    for user_id in walk(administrator, limit=3, role="admin"):
        seen.append(user_id)
        if user_id < before[0] or len(seen) % 3:
            continue
        # The page is read to its end. One account is made, one goes from anywhere, and sometimes
        # the very one that the cursor stands for.
        if len(seen) < 60:
            make_account(service, role="admin")
        going = {chance.choice(before), *([user_id] if chance.random() < 0.5 else [])}
        for each in going & set(before) - gone:
            erase(service, each)
            gone.add(each)
    assert seen == sorted(set(seen))
    assert gone
    assert set(before) - gone <= set(seen)


def test_an_erased_account_is_not_listed(service: Service, administrator: httpx.Client) -> None:
    user = make_account(service)
    assert user.id in list(walk(administrator, limit=100))
    erase(service, user.id)
    for filters in ({}, {"active": "false"}, {"role": "user"}):
        assert user.id not in list(walk(administrator, limit=100, **filters))


@pytest.mark.mission("M30")
def test_an_account_is_found_by_any_form_of_its_address(
    service: Service, administrator: httpx.Client
) -> None:
    user = make_account(service)
    for email in (user.email, user.email.upper(), user.email.replace("e", "\uff45")):
        assert list(walk(administrator, email=email)) == [user.id]
    assert list(walk(administrator, email=user.email, active="false")) == []
    assert list(walk(administrator, email=fresh_email())) == []
    erase(service, user.id)
    assert list(walk(administrator, email=user.email)) == []


@pytest.mark.mission("M30")
def test_a_search_for_a_person_is_audited_without_the_address(
    service: Service, administrator: httpx.Client
) -> None:
    user = make_account(service)
    for query in ({"email": user.email}, {"email": fresh_email()}, {}):
        assert administrator.get(PATH, params=query).status_code == 200
    answer = administrator.get("/v1/audit-events", params={"action": "account.search", "limit": 2})
    events = answer.json()["items"]
    assert [event["user_id"] for event in events] == [None, user.id]
    assert user.email not in answer.text


@pytest.mark.mission("M30")
def test_only_administrators_search_for_people(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    answer = client.get(
        PATH, params={"email": user.email}, headers=bearer(token_for(service, user))
    )
    assert (answer.status_code, problem(answer)) == (403, "not-permitted")


@pytest.mark.mission("M30")
def test_accounts_are_found_by_the_beginnings_of_words(
    service: Service, administrator: httpx.Client
) -> None:
    user = make_account(service, email="ewd@smoothsort.example")

    def found(words: str, **filters: str) -> list[int]:
        return list(walk(administrator, q=words, **filters))

    edit_account(service, user.id, lambda s, each: each.change(s, name="Edsger D\u0133kstra"))
    for words in ("edsg", "DIJK eds", "ewd@smooth", "smoothsort", "dijkstra ewd"):
        assert found(words) == [user.id]
    assert found("kstra") == found("edsger grace") == found("...") == []
    edit_account(service, user.id, lambda s, each: each.change(s, name="Grace Hopper"))
    assert found("edsger") == found("ewd hopp", active="false") == []
    assert found("ewd hopp", active="true", role="user") == [user.id]
    erase(service, user.id)
    assert found("erased") == found("smoothsort") == []


@pytest.mark.mission("M30")
def test_a_search_by_words_is_audited(administrator: httpx.Client) -> None:
    searches = {"action": "account.search", "limit": "100"}
    before = administrator.get("/v1/audit-events", params=searches).json()["items"]
    assert administrator.get(PATH, params={"q": "nobody"}).status_code == 200
    after = administrator.get("/v1/audit-events", params=searches).json()["items"]
    assert [event["user_id"] for event in after[: len(after) - len(before)]] == [None]
