"""Lists of orders over HTTP: visibility, filters, sort orders and pages (M16, M18)."""

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import urlencode

import httpx
import pytest

from tests.api.answers import problem
from tests.api.shopping import Shopper
from tests.factories import make_order, make_product
from tests.service import Service

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M18")]


@pytest.fixture(scope="module")
def admin(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client, admin=True)


@pytest.fixture(scope="module")
def user(service: Service, client: httpx.Client) -> Shopper:
    """Somebody with an order of one, two, … units in each state."""
    user = Shopper(service, client)
    statuses = ("pending", "paid", "shipped", "cancelled", "paid")
    product = make_product(service.app.database, price=100, stock=1000)
    for number, status in enumerate(statuses, 1):
        lines = [(product, number)]
        make_order(service.app.database, status=status, buyer=user.person, lines=lines)
    make_order(service.app.database)
    return user


def found(shopper: Shopper, query: str) -> list[int]:
    """The totals of the orders on all pages, in units of the product."""
    totals: list[int] = []
    url = f"/v1/orders?{query}"
    while url:
        page = shopper.get(url)
        assert page.status_code == 200, page.text
        totals += [order["total"]["amount"] // 100 for order in page.json()["items"]]
        url = page.links.get("next", {}).get("url", "").removeprefix("http://concord.example")
    return totals


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(
    ("query", "totals"),
    [
        ("", [5, 4, 3, 2, 1]),
        ("sort=created_at", [1, 2, 3, 4, 5]),
        ("sort=-total", [5, 4, 3, 2, 1]),
        ("sort=total&status=paid", [2, 5]),
        ("status=paid&status=pending", [5, 2, 1]),
        ("status=cancelled&status=shipped&status=paid&sort=total", [2, 3, 4, 5]),
        ("status=expired", []),
        ("total_min=200&total_max=400", [4, 3, 2]),
        ("total_min=500&status=paid", [5]),
        ("created_to=2001-01-01T00:00:00Z", []),
        ("created_from=2001-01-01T00:00:00Z&created_to=2900-01-01T00:00:00.5Z", [5, 4, 3, 2, 1]),
        (
            "created_from=0000-01-01T00:00:00%2B14:00&created_to=9999-12-31t23:59:59.9-14:00",
            [5, 4, 3, 2, 1],
        ),
    ],
)
def test_filters_and_sort_order_apply_to_all_pages(
    user: Shopper, query: str, totals: list[int], limit: int
) -> None:
    assert found(user, f"{query}&limit={limit}") == totals


def test_time_bounds_are_exact_to_the_millisecond(user: Shopper) -> None:
    orders = user.get("/v1/orders?sort=created_at").json()["items"]
    second, third = (datetime.fromisoformat(order["created_at"]) for order in orders[1:3])
    assert second < third

    for zone in (UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-3))):
        start, end = (each.astimezone(zone).isoformat() for each in (second, third))
        query = urlencode({"created_from": start, "created_to": end})
        assert found(user, query) == [2]
        assert found(user, query.replace("%2B00%3A00", "z").replace("T", "t")) == [2]
        start, end = (
            each.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S.%f%z") for each in (second, third)
        )
        assert found(user, urlencode({"created_from": start, "created_to": end})) == [2]


def test_an_unencoded_plus_sign_is_explained(user: Shopper) -> None:
    refused = user.get("/v1/orders?created_from=2026-01-01T00:00:00+02:00")
    assert (refused.status_code, problem(refused)) == (400, "invalid-parameters")
    (fault,) = refused.json()["errors"]
    assert (fault["parameter"], fault["code"]) == ("created_from", "encoding")
    assert fault["message"] == "has a blank; encode a plus sign as %2B"


def test_administrators_list_all_orders_and_users_their_own(
    service: Service, client: httpx.Client, user: Shopper, admin: Shopper
) -> None:
    assert found(admin, f"user_id={user.id}&limit=2") == [5, 4, 3, 2, 1]
    owners = {order["user_id"] for order in admin.get("/v1/orders").json()["items"]}
    assert len(owners) > 1
    assert found(user, f"user_id={user.id}") == [5, 4, 3, 2, 1]
    stranger = Shopper(service, client)
    assert found(stranger, f"user_id={user.id}") == found(stranger, "") == []
    assert client.get("/v1/orders").status_code == 401


def test_a_cursor_is_valid_for_its_own_list_only(user: Shopper) -> None:
    cursor = user.get("/v1/orders?limit=1&sort=total").json()["next_cursor"]
    assert user.get(f"/v1/orders?limit=1&sort=total&cursor={cursor}").status_code == 200
    for query in ("sort=-total", "sort=created_at", "sort=total&status=paid"):
        refused = user.get(f"/v1/orders?limit=1&{query}&cursor={cursor}")
        assert (refused.status_code, problem(refused)) == (400, "invalid-parameters")


@pytest.mark.parametrize(
    "query",
    [
        "status=lost",
        "created_from=2026-01-01",
        "created_from=2026-02-31T00:00:00Z",
        "created_from=2026-01-01T00:00:60Z",
        "created_from=2026-01-01T00:00:00%2B24:00",
        "created_from=2026-01-01T00:00:00%2B2400",
        "created_from=2026-01-01T00:00:00%2B02",
        "total_min=-1",
        "total_min=1.5",
        f"total_max={2**53}",
        "sort=name",
        "user_id=0",
    ],
)
def test_an_invalid_filter_is_named(user: Shopper, query: str) -> None:
    refused = user.get(f"/v1/orders?{query}")
    assert (refused.status_code, problem(refused)) == (400, "invalid-parameters")
    assert [each["parameter"] for each in refused.json()["errors"]] == [query.partition("=")[0]]


@pytest.mark.mission("M30")
def test_programs_follow_the_changes_of_orders(admin: Shopper, user: Shopper) -> None:
    orders = user.get("/v1/orders?sort=updated_at&limit=2").json()
    assert [order["updated_at"] for order in orders["items"]] == sorted(
        order["updated_at"] for order in orders["items"]
    )
    rest = user.get(f"/v1/orders?sort=updated_at&cursor={orders['next_cursor']}").json()["items"]
    assert len({order["id"] for order in [*orders["items"], *rest]}) == 5
    query = urlencode({"sort": "updated_at", "updated_from": rest[-1]["updated_at"]})
    for shopper in (admin, user):
        found_ids = [order["id"] for order in shopper.get(f"/v1/orders?{query}").json()["items"]]
        assert rest[-1]["id"] in found_ids


@pytest.mark.mission("M30")
def test_an_order_is_found_by_the_start_of_its_id(
    service: Service, client: httpx.Client, user: Shopper
) -> None:
    order_id = user.get("/v1/orders").json()["items"][0]["id"]
    for text in (order_id, order_id.upper(), order_id[:35]):
        answer = user.get(f"/v1/orders?q={text}").json()["items"]
        assert order_id in [order["id"] for order in answer]
    assert Shopper(service, client).get(f"/v1/orders?q={order_id}").json()["items"] == []
