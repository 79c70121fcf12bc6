"""Pages of the maximum size that the contract allows (M16)."""

import httpx
import pytest

from tests.api.shopping import Shopper
from tests.factories import make_order, make_product
from tests.service import Service

pytestmark = pytest.mark.mission("M16")

LINES, ORDERS = 100, 13


@pytest.fixture(scope="module")
def buyer(service: Service, client: httpx.Client) -> Shopper:
    """Somebody with thirteen orders of a hundred lines, each with a total of its own."""
    buyer, database = Shopper(service, client), service.app.database
    products = [make_product(database, price=100, stock=1000) for _ in range(LINES)]
    for number in range(1, ORDERS + 1):
        lines = [(product, number) for product in products]
        make_order(database, buyer=buyer.person, lines=lines)
    return buyer


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "total", "-total"])
@pytest.mark.parametrize("status", ["", "&status=pending"])
def test_a_page_of_orders_has_at_most_a_thousand_lines(
    buyer: Shopper, sort: str, status: str
) -> None:
    sizes, totals, url = [], [], f"/v1/orders?sort={sort}{status}&limit=100"
    while url:
        page = buyer.get(url)
        assert page.status_code == 200, page.text
        items = page.json()["items"]
        assert all(len(order["lines"]) == LINES for order in items)
        sizes.append(len(items))
        totals += [order["total"]["amount"] // LINES // 100 for order in items]
        url = page.links.get("next", {}).get("url", "").removeprefix("http://concord.example")
    assert sizes == [10, 3]
    assert totals == sorted(range(1, ORDERS + 1), reverse=sort.startswith("-"))


def test_a_page_of_ten_large_orders_is_complete(buyer: Shopper) -> None:
    page = buyer.get("/v1/orders?limit=10").json()
    assert len(page["items"]) == 10
    assert sum(len(order["lines"]) for order in page["items"]) == 10 * LINES


def test_a_response_may_have_more_commas_than_a_body(
    service: Service, client: httpx.Client
) -> None:
    admin = Shopper(service, client, admin=True)
    commas = {f"name{number}": "," * 500 for number in range(50)}
    for number in range(5):
        made = admin.post(
            "/v1/products",
            {
                "sku": f"COMMAS-{number}",
                "name": "Commas",
                "price": {"amount": 1, "currency": "EUR"},
                "metadata": commas,
            },
        )
        assert made.status_code == 201, made.text
    page = client.get("/v1/products?limit=100&sort=-created_at")
    assert page.status_code == 200, page.text
    assert page.content.count(b",") > 100_000
