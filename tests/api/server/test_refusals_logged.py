"""Each refused request is logged with operation, caller and address (ASVS 16.3)."""

import re
from pathlib import Path

import httpx
import pytest

from tests.api.accounts import bearer, token_for
from tests.databases import make_database_url
from tests.factories import make_account
from tests.service import PASSWORD, running

pytestmark = pytest.mark.mission("M8")

FROM = "198.51.100.7"


def test_every_refusal_is_logged_with_operation_caller_and_address(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refused: list[tuple[str, int, int | None, httpx.Response]] = []
    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, LOG_LEVEL="info") as service,
    ):
        user, other = make_account(service), make_account(service)
        me = bearer(token_for(service, user))
        client = service.client(**{"X-Forwarded-For": FROM})
        wrong = {"email": user.email, "password": "not this one"}

        def expect(operation: str, caller: int | None, answer: httpx.Response) -> None:
            refused.append((operation, answer.status_code, caller, answer))

        expect("get_profile", None, client.get("/v1/profile", headers=bearer("forged")))
        expect("list_users", user.id, client.get("/v1/users", headers=me))
        expect("get_user", user.id, client.get(f"/v1/users/{other.id}", headers=me))
        expect("list_orders", user.id, client.get("/v1/orders?limit=x", headers=me))
        expect("create_token", None, client.post("/v1/auth/token", json={"email": "x"}))
        for _ in range(5):
            expect("create_token", None, client.post("/v1/auth/token", json=wrong))
    lines = capfd.readouterr().err.splitlines()
    assert {status for _, status, _, _ in refused} == {400, 401, 403, 404, 422, 429}
    for operation, status, caller, answer in refused:
        [line] = [line for line in lines if answer.headers["x-request-id"] in line]
        assert f"operation={operation} " in line
        assert f"status={status} " in line
        assert re.search(rf"caller={caller}(?= |$)", line)
        assert line.endswith(f"address={FROM}")
        assert user.email not in line
        assert PASSWORD not in line
