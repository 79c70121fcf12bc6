"""The catalogue over HTTP: who may read and change it (M16, M5, M7, M9, M18)."""

import random
import uuid

import httpx
import pytest

from tests.api.answers import problem
from tests.api.shopping import Shopper, lines, money
from tests.factories import make_product
from tests.service import Service

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M18")]


@pytest.fixture
def admin(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client, admin=True)


@pytest.fixture
def user(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client)


def new_product(**changes: object) -> dict[str, object]:
    return {"sku": uuid.uuid4().hex, "name": "Green mug", "price": money(1999), **changes}


def create(admin: Shopper, **changes: object) -> dict[str, object]:
    answer = admin.post("/v1/products", new_product(**changes))
    assert answer.status_code == 201, answer.text
    product: dict[str, object] = answer.json()
    return product


@pytest.mark.mission("M5")
def test_a_created_product_has_the_given_values_and_a_location(admin: Shopper) -> None:
    body = new_product(
        description="Holds tea.\nAnd coffee.", active=False, metadata={"colour": "green"}
    )
    made = admin.post("/v1/products", body)
    assert made.status_code == 201
    product = made.json()
    assert product == body | {
        "id": product["id"],
        "images": [],
        "stock": {"on_hand": 0, "reserved": 0, "available": 0},
        "created_at": product["created_at"],
        "updated_at": product["updated_at"],
    }
    assert made.headers["location"] == f"http://concord.example/v1/products/{product['id']}"
    assert made.headers["etag"] == '"1"'
    assert admin.get(f"/v1/products/{product['id']}").json() == product


def test_omitted_members_have_their_defaults(admin: Shopper) -> None:
    product = create(admin)
    assert (product["description"], product["active"], product["metadata"]) == ("", True, {})


def test_a_sku_is_unique_in_any_case(admin: Shopper) -> None:
    create(admin, sku="Mug-One")
    taken = admin.post("/v1/products", new_product(sku="MUG-ONE"))
    assert (taken.status_code, problem(taken)) == (409, "sku-taken")
    other = create(admin)
    taken = admin.patch(f"/v1/products/{other['id']}", {"sku": "mug-one"})
    assert (taken.status_code, problem(taken)) == (409, "sku-taken")
    first = admin.get("/v1/products?q=mug-one").json()["items"]
    assert admin.delete(f"/v1/products/{first[0]['id']}").status_code == 204
    assert admin.patch(f"/v1/products/{other['id']}", {"sku": "mug-one"}).status_code == 200


def test_only_given_members_change(admin: Shopper) -> None:
    product = create(admin, metadata={"colour": "green"}, description="Old.")
    url = f"/v1/products/{product['id']}"
    changed = admin.patch(url, {"price": money(5, "JPY"), "metadata": {"size": "L"}})
    assert changed.json() == product | {
        "price": money(5, "JPY"),
        "metadata": {"size": "L"},
        "updated_at": changed.json()["updated_at"],
    }
    assert changed.headers["etag"] == '"2"'
    assert admin.patch(url, {}).status_code == 422


@pytest.mark.mission("M23")
def test_a_change_applies_to_the_version_that_was_read(admin: Shopper) -> None:
    url = f"/v1/products/{create(admin)['id']}"
    tag = admin.get(url).headers["etag"]
    assert admin.get(url, **{"If-None-Match": tag}).status_code == 304
    assert admin.patch(url, {"name": "First"}, **{"If-Match": tag}).status_code == 200
    late = admin.patch(url, {"name": "Second"}, **{"If-Match": tag})
    assert (late.status_code, problem(late)) == (412, "version-mismatch")
    assert admin.delete(url, **{"If-Match": tag}).status_code == 412
    assert admin.get(url).json()["name"] == "First"
    assert admin.get(url, **{"If-None-Match": tag}).status_code == 200


def test_a_stock_change_changes_the_etag(admin: Shopper) -> None:
    url = f"/v1/products/{create(admin)['id']}"
    tag = admin.get(url).headers["etag"]
    admin.post(f"{url}/stock-adjustments", {"quantity": 5, "reason": "delivery"})
    again = admin.get(url, **{"If-None-Match": tag})
    assert (again.status_code, again.json()["stock"]["available"]) == (200, 5)


def test_only_administrators_see_inactive_products(
    admin: Shopper, user: Shopper, client: httpx.Client
) -> None:
    hidden = create(admin, name="Zebra hidden", active=False)
    url = f"/v1/products/{hidden['id']}"
    assert admin.get(url).status_code == 200
    for answer in (user.get(url), client.get(url)):
        assert (answer.status_code, problem(answer)) == (404, "not-found")
    listing = "/v1/products?q=zebra+hidden&active=false"
    assert [each["id"] for each in admin.get(listing).json()["items"]] == [hidden["id"]]
    assert user.get(listing).json()["items"] == client.get(listing).json()["items"] == []
    assert admin.get("/v1/products?q=zebra+hidden").json()["items"] == []


def test_a_token_is_optional_but_must_be_valid(admin: Shopper, client: httpx.Client) -> None:
    url = f"/v1/products/{create(admin)['id']}"
    for path in (url, "/v1/products"):
        assert client.get(path).status_code == 200
        bad = client.get(path, headers={"Authorization": "Bearer x.y.z"})
        assert (bad.status_code, problem(bad)) == (401, "not-authenticated")


def test_a_deleted_product_stays_in_its_orders(
    service: Service, admin: Shopper, user: Shopper
) -> None:
    product = make_product(service.app.database, stock=3)
    url = f"/v1/products/{product.id}"
    order = user.post("/v1/orders", lines((product.id, 2))).json()
    gone = admin.delete(url)
    assert (gone.status_code, gone.content) == (204, b"")
    assert admin.get(url).status_code == admin.patch(url, {"name": "x"}).status_code == 404
    assert admin.delete(url).status_code == 404
    assert admin.get(f"{url}/stock-adjustments").status_code == 404
    refused = user.post("/v1/orders", lines((product.id, 1)))
    assert (refused.status_code, problem(refused)) == (422, "unknown-product")
    # What was reserved before goes on its way.
    kept = user.get(f"/v1/orders/{order['id']}").json()
    assert kept["lines"][0]["name"] == product.name
    assert user.act(order["id"], "cancel").json()["status"] == "cancelled"


def test_the_list_is_filtered_sorted_and_paged(service: Service, client: httpx.Client) -> None:
    word = f"w{uuid.uuid4().hex[:8]}"
    database = service.app.database
    for number, price in enumerate((300, 100, 200)):
        name = f"{word} {'bca'[number]}"
        make_product(database, name=name, price=price, stock=number, currency="CHF")
    make_product(database, name=f"{word} d", price=150, currency="JPY")

    def names(query: str) -> list[str]:
        found = client.get(f"/v1/products?q={word}&{query}")
        assert found.status_code == 200, found.text
        return [each["name"].removeprefix(f"{word} ") for each in found.json()["items"]]

    assert names("") == ["b", "c", "a", "d"]
    assert names("sort=-created_at") == ["d", "a", "c", "b"]
    assert names("sort=name") == ["a", "b", "c", "d"]
    assert names("sort=-price") == ["b", "a", "d", "c"]
    assert names("currency=CHF&sort=price") == ["c", "a", "b"]
    assert names("price_min=150&price_max=200") == ["a", "d"]
    assert names("in_stock=true&currency=CHF") == ["c", "a"]
    assert names("in_stock=false") == ["b"]
    walked, url = [], f"/v1/products?q={word}&sort=-price&limit=1"
    while url:
        page = client.get(url)
        walked += [each["name"].removeprefix(f"{word} ") for each in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else ""
        url = url.removeprefix("http://concord.example")
    assert walked == ["b", "a", "d", "c"]


def test_a_cursor_is_valid_for_its_own_list_only(service: Service, client: httpx.Client) -> None:
    for _ in range(2):
        make_product(service.app.database)
    cursor = client.get("/v1/products?limit=1&sort=name").json()["next_cursor"]
    assert client.get(f"/v1/products?limit=1&sort=name&cursor={cursor}").status_code == 200
    for query in ("sort=price", "sort=-name", "sort=name&in_stock=true"):
        refused = client.get(f"/v1/products?limit=1&{query}&cursor={cursor}")
        assert (refused.status_code, problem(refused)) == (400, "invalid-parameters")


def test_currencies_are_listed_with_their_minor_units(client: httpx.Client) -> None:
    answer = client.get("/v1/currencies")
    units = {each["code"]: each["minor_units"] for each in answer.json()["items"]}
    assert (units["EUR"], units["JPY"], units["KWD"], units["CLF"]) == (2, 0, 3, 4)
    assert "XXX" not in units
    tag = {"If-None-Match": answer.headers["etag"]}
    assert client.get("/v1/currencies", headers=tag).status_code == 304


def test_a_cursor_fits_the_longest_names(client: httpx.Client, admin: Shopper) -> None:
    source, word = random.Random(1), uuid.uuid4().hex  # noqa: S311 - the same names every time
    # Han letters have the longest keys, and chosen at random they cannot be compressed.
    names = ["".join(chr(0x4E00 + source.randrange(20_000)) for _ in range(200)) for _ in range(2)]
    made = [create(admin, name=name, sku=f"{word}-{at}")["id"] for at, name in enumerate(names)]
    asked: dict[str, str | int] = {"q": word, "sort": "name", "limit": 1}
    first = client.get("/v1/products", params=asked).json()
    rest = client.get("/v1/products", params={**asked, "cursor": first["next_cursor"]})
    assert rest.status_code == 200, rest.text
    found = [item["id"] for item in (*first["items"], *rest.json()["items"])]
    assert found == sorted(made, key=lambda each: names[made.index(each)])
    assert rest.json()["next_cursor"] is None
