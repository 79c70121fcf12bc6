"""The callers of the hostile corpus, and the contents of the shop that they use."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from tests.live import LiveServer

PASSWORD = "correct horse battery staple 9"
USER = {"name": "Corpus User", "password": PASSWORD}
PRODUCTS = (("PRODUCT_ID", "USD", 900_000), ("YEN_ID", "JPY", 10), ("HIDDEN_ID", "USD", 10))
JSON_TYPE: Mapping[str, str] = {"Content-Type": "application/json"}


@dataclass
class People:
    """An administrator and a user to send requests as; the user is made anew when spoilt."""

    server: LiveServer
    words: dict[str, str] = field(default_factory=dict)
    generation: int = 0
    _keys: itertools.count[int] = field(default_factory=itertools.count)

    def appoint(self) -> None:
        """Make the administrator, once: it takes a process of its own."""
        email = "administrator@example.org"
        self.server.command(
            "create-admin", "--email", email, "--name", "Corpus Administrator",
            ADMIN_PASSWORD=PASSWORD,
        )  # fmt: skip
        token = self._token(email)
        admin = self.ask("GET", "/v1/profile", headers={"Authorization": f"Bearer {token}"})
        port = str(self.server.port)
        self.words.update(PORT=port, ADMIN_TOKEN=token, ADMIN_ID=str(admin["id"]))

    def open_shop(self) -> None:
        """Put products of two currencies on sale, one that is not, and order one for ourselves."""
        words = self.words
        for number, (word, currency, stock) in enumerate(PRODUCTS, 1):
            price = {"amount": 1999, "currency": currency}
            values = {"sku": f"Corpus-{number}", "name": "Chair", "price": price}
            made = self.do("/v1/products", {**values, "active": word != "HIDDEN_ID"})
            words[word] = str(made["id"])
            adjustment = {"quantity": stock, "reason": "First delivery"}
            self.do(f"/v1/products/{made['id']}/stock-adjustments", adjustment)
        words["FOREIGN_ID"] = self._order("ADMIN_TOKEN")
        words["PRODUCTS_CURSOR"] = self._cursor("/v1/products")

    def renew(self) -> None:
        """Make a user, sign them in, and order something for them."""
        self.generation += 1
        email = f"kassi{self.generation}@example.org"
        user = self.ask("POST", "/v1/users", {**USER, "email": email})
        self.words.update(
            USER_ID=str(user["id"]), GENERATION=str(self.generation), TOKEN=self._token(email)
        )
        order, paid = self._order("TOKEN"), self._order("TOKEN")
        payment = {"amount": {"amount": 3998, "currency": "USD"}, "method": "card"}
        self.do(f"/v1/orders/{paid}/pay", {**payment, "reference": "corpus"})
        self.words.update(ORDER_ID=order, PAID_ID=paid)
        # Among so many hexadecimal digits there are letters; the first digit is always 0.
        self.words.update(UPPER_ID=order.upper(), ORDER_REST=order[1:])
        self.words["USERS_CURSOR"] = self._cursor("/v1/users")
        self.words["ORDERS_CURSOR"] = self._cursor("/v1/orders", "TOKEN")
        self.words["EVENTS_CURSOR"] = self._cursor(f"/v1/orders/{paid}/events")

    def do(self, path: str, body: Mapping[str, Any], token: str = "ADMIN_TOKEN") -> dict[str, Any]:
        """Have something done, by the administrator unless `token` is another word."""
        key = {"Idempotency-Key": f"corpus-{next(self._keys)}"}
        return self.ask("POST", path, body, {**JSON_TYPE, **self._bearer(token), **key})

    def _order(self, token: str) -> str:
        lines = [{"product_id": int(self.words["PRODUCT_ID"]), "quantity": 2}]
        return str(self.do("/v1/orders", {"lines": lines}, token)["id"])

    def _cursor(self, path: str, token: str = "ADMIN_TOKEN") -> str:
        page = self.ask("GET", f"{path}?limit=1", headers=self._bearer(token))
        assert page["next_cursor"] is not None
        return str(page["next_cursor"])

    def _bearer(self, token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.words[token]}"}

    def _token(self, email: str) -> str:
        token = self.ask("POST", "/v1/auth/token", {"email": email, "password": PASSWORD})
        return str(token["access_token"])

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] = JSON_TYPE,
    ) -> dict[str, Any]:
        """Send an ordinary request, which has to succeed; the body of its answer."""
        connection = HTTPConnection(self.server.host, self.server.port, timeout=30)
        # Signing in is limited by address, so that each user needs another.
        address = {"X-Forwarded-For": f"198.19.0.{self.generation % 250 + 1}"}
        text = json.dumps(body) if body else None
        connection.request(method, path, text, {**headers, **address})
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        connection.close()
        assert response.status < 300, answer
        return answer
