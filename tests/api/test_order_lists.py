"""Lists of orders over HTTP: whose they are, narrowed down, sorted, page by page (M16, M18)."""

from datetime import datetime

import httpx
import pytest

from tests.api.answers import problem
from tests.api.shopping import Shopper
from tests.models.shop import make_order, make_product
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
    ],
)
def test_a_list_is_narrowed_down_and_sorted_on_all_its_pages(
    user: Shopper, query: str, totals: list[int], limit: int
) -> None:
    assert found(user, f"{query}&limit={limit}") == totals


def test_bounds_in_time_are_kept_to_the_millisecond(user: Shopper) -> None:
    orders = user.get("/v1/orders?sort=created_at").json()["items"]
    second, third = (datetime.fromisoformat(order["created_at"]) for order in orders[1:3])
    assert second < third

    def stamp(moment: datetime) -> str:
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    assert found(user, f"created_from={stamp(second)}&created_to={stamp(third)}") == [2]


def test_an_administrator_sees_everybodys_and_others_their_own(
    service: Service, client: httpx.Client, user: Shopper, admin: Shopper
) -> None:
    assert found(admin, f"user_id={user.id}&limit=2") == [5, 4, 3, 2, 1]
    owners = {order["user_id"] for order in admin.get("/v1/orders").json()["items"]}
    assert len(owners) > 1
    assert found(user, f"user_id={user.id}") == [5, 4, 3, 2, 1]
    stranger = Shopper(service, client)
    assert found(stranger, f"user_id={user.id}") == found(stranger, "") == []
    assert client.get("/v1/orders").status_code == 401


def test_a_cursor_is_good_for_its_own_list_only(user: Shopper) -> None:
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
        "created_from=2026-01-01T00:00:00%2B01:00",
        "created_to=0000-01-01T00:00:00Z",
        "total_min=-1",
        "total_min=1.5",
        f"total_max={2**53}",
        "sort=name",
        "user_id=0",
    ],
)
def test_a_filter_that_does_not_fit_is_named(user: Shopper, query: str) -> None:
    refused = user.get(f"/v1/orders?{query}")
    assert (refused.status_code, problem(refused)) == (400, "invalid-parameters")
    assert [each["parameter"] for each in refused.json()["errors"]] == [query.partition("=")[0]]
