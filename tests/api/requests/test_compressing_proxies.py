"""Proxies that compress responses, and the entity tags that clients receive through them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.accounts import bearer, token_for
from tests.factories import make_account, make_product
from tests.faults.proxies import COMPRESSING, Proxy, running_proxy
from tests.service import Service

pytestmark = pytest.mark.mission("M7")

DOCUMENT = {"nginx": "/docs", "haproxy": "/openapi.json", "caddy": "/openapi.json"}


@pytest.mark.parametrize("proxy", COMPRESSING, ids=lambda proxy: proxy.name)
def test_a_compressing_proxy_keeps_tags_for_if_match(
    service: Service, tmp_path: Path, proxy: Proxy
) -> None:
    admin = bearer(token_for(service, make_account(service, role="admin")))
    product = f"/v1/products/{make_product(service.app.database).id}"
    upstream = urlsplit(service.url).port or 0
    with (
        running_proxy(proxy, upstream, tmp_path) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=admin) as client,
    ):
        assert client.get(DOCUMENT[proxy.name]).headers["content-encoding"] == "gzip"
        for path in ("/v1/profile", product):
            shown = client.get(path)
            assert "no-transform" in shown.headers["cache-control"]
            tag = shown.headers["etag"]
            unchanged = client.get(path, headers={"If-None-Match": tag})
            assert (unchanged.status_code, unchanged.headers["etag"]) == (304, tag)
            body, precondition = {"name": "Ada"}, {"If-Match": tag}
            changed = [client.patch(path, json=body, headers=precondition) for _ in range(2)]
            assert [answer.status_code for answer in changed] == [200, 412]
            assert client.get(path).headers["etag"] == changed[0].headers["etag"]
