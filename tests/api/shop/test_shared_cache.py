"""A shared cache in front of the service: what it keeps, and that it mixes up no callers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.accounts import bearer, token_for
from tests.factories import make_account, make_product
from tests.faults.proxies import CACHE, running_proxy
from tests.pictures import make_picture
from tests.service import Service

pytestmark = pytest.mark.mission("M23")

SECONDS = 10.0


@pytest.fixture(scope="module")
def cached(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of nginx, which caches what the service lets it."""
    port = urlsplit(service.url).port or 0
    with (
        running_proxy(CACHE, port, tmp_path_factory.mktemp("cache")) as proxy,
        httpx.Client(base_url=f"http://127.0.0.1:{proxy}") as client,
    ):
        yield client


def outcome(answer: httpx.Response) -> str:
    """What the cache did: MISS, HIT, REVALIDATED or EXPIRED."""
    return answer.headers["x-cache"]


def wait_for(client: httpx.Client, path: str, wanted: str) -> httpx.Response:
    """Ask again until the cache does what is wanted."""
    until = time.monotonic() + SECONDS
    while True:
        answer = client.get(path)
        assert answer.status_code == 200
        if outcome(answer) == wanted:
            return answer
        assert time.monotonic() < until, f"never {wanted}"
        time.sleep(0.05)


def paths(product_id: int, name: str) -> tuple[str, str]:
    return f"/v1/products/{product_id}", f"/v1/products?q={name}"


def test_a_shared_cache_keeps_and_revalidates_the_catalogue(
    service: Service, cached: httpx.Client
) -> None:
    admin = bearer(token_for(service, make_account(service, role="admin")))
    product = make_product(service.app.database, name="Shared kite").id
    for path in paths(product, "shared"):
        first = wait_for(cached, path, "MISS")
        assert first.headers["cache-control"].startswith("public, max-age=0, s-maxage=1")
        assert first.headers["vary"] == "Authorization"
        assert wait_for(cached, path, "HIT").content == first.content
        same = wait_for(cached, path, "REVALIDATED")
        assert (same.content, same.headers["etag"]) == (first.content, first.headers["etag"])
    changed = cached.patch(f"/v1/products/{product}", json={"name": "Shared ball"}, headers=admin)
    assert changed.status_code == 200
    for path in paths(product, "shared"):
        assert "Shared ball" in wait_for(cached, path, "EXPIRED").text
        assert "Shared ball" in wait_for(cached, path, "HIT").text


def test_a_shared_cache_keeps_files_and_learns_of_new_images(
    service: Service, cached: httpx.Client
) -> None:
    admin = bearer(token_for(service, make_account(service, role="admin")))
    path = f"/v1/products/{make_product(service.app.database).id}"
    png = admin | {"Content-Type": "image/png"}
    files = []
    for colour in ("red", "green"):
        wait_for(cached, path, "HIT")
        content = make_picture(size=(8, 8), colour=colour)
        changed = cached.put(f"{path}/images/1", content=content, headers=png)
        assert changed.status_code == 200
        shown = wait_for(cached, path, "EXPIRED").json()["images"]
        assert shown == changed.json()["images"]
        url = shown[0]["original"]["url"]
        first = cached.get(url)
        assert outcome(first) == "MISS"
        # Its name is that of its content, so that the cache never asks again.
        assert first.headers["cache-control"] == "public, max-age=31536000, immutable"
        again, part = cached.get(url), cached.get(url, headers={"Range": "bytes=0-3"})
        assert (outcome(again), again.content) == ("HIT", first.content)
        assert (outcome(part), part.status_code, part.content) == ("HIT", 206, first.content[:4])
        files.append(first.content)
    assert files[0] != files[1]


def test_a_shared_cache_gives_no_private_response_to_others(
    service: Service, cached: httpx.Client
) -> None:
    admin = bearer(token_for(service, make_account(service, role="admin")))
    hidden = make_product(service.app.database, name="Hidden kite", active=False).id
    path, listed = f"/v1/products/{hidden}", "/v1/products?q=hidden&active=false"
    for _ in range(2):
        for caller, status, found in ((admin, 200, 1), ({}, 404, 0)):
            product = cached.get(path, headers=caller)
            assert (product.status_code, outcome(product)) == (status, "MISS")
            page = cached.get(listed, headers=caller)
            assert len(page.json()["items"]) == found
        private = cached.get(listed, headers=admin)
        assert private.headers["cache-control"] == "private, no-cache"
    invalid = cached.get(listed, headers={"Authorization": "Bearer none"})
    assert invalid.status_code == 401
    wait_for(cached, listed, "HIT")
    assert cached.get(listed, headers={"Authorization": "Bearer none"}).status_code == 401


def test_a_shared_cache_keeps_nothing_about_accounts(
    service: Service, cached: httpx.Client
) -> None:
    names = []
    for name in ("Ada", "Grace"):
        caller = bearer(token_for(service, make_account(service, name=name)))
        answer = cached.get("/v1/profile", headers=caller)
        assert outcome(answer) == "MISS"
        names.append(answer.json()["name"])
    assert names == ["Ada", "Grace"]
