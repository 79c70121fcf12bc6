"""One refresh token sent by many at once, to two real processes, on both databases (M14, M25)."""

import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.access.session import RefreshToken
from models.identity.user import User
from models.storage.database import Database
from tests.databases import KINDS, make_database_url
from tests.factories import make_session
from tests.faults.live_shop import Shop, at_once, open_shop
from tests.live import running_server

pytestmark = [pytest.mark.mission("M14"), pytest.mark.mission("M25"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=KINDS)
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("refresh")
    key = folder / "signing-key.pem"
    environment = {"APP_ENV": "test", "SIGNING_KEY_FILE": str(key), "WORKERS": "2"}
    with (
        make_database_url(request.param, folder) as url,
        running_server(folder, DATABASE_URL=url, **environment) as server,
        open_shop(url, key, server.url) as shop,
    ):
        yield shop


def register(database: Database) -> User:
    email = f"{uuid.uuid4().hex}@concord.example"

    def work(session: Session) -> User:
        return User.register(session, name="Ada", email=email, password_hash="none")

    return database.transact(work, write=True)


def refresh(shop: Shop, token: str) -> httpx.Response:
    return shop.client.post(f"{shop.issuer}/v1/auth/refresh", json={"refresh_token": token})


def unused(database: Database) -> int:
    query = select(func.count()).where(RefreshToken.used_at.is_(None))
    return database.transact(lambda session: session.scalar(query), write=False) or 0


def test_fifty_refreshes_of_one_token_leave_one_living_lineage(shop: Shop) -> None:
    grant = make_session(shop.database, register(shop.database), shop.keys)
    others = unused(shop.database) - 1
    token = grant.refresh_token
    for _ in range(2):
        answers = at_once([partial(refresh, shop, token)] * 50, threads=50)
        assert Counter(answer.status_code for answer in answers) == {200: 50}
        successors = {answer.json()["refresh_token"] for answer in answers}
        assert len(successors) == 1
        assert unused(shop.database) == others + 1
        profiles = [
            partial(
                shop.client.get,
                f"{shop.issuer}/v1/profile",
                headers={"Authorization": f"Bearer {answer.json()['access_token']}"},
            )
            for answer in answers[:10]
        ]
        assert {answer.status_code for answer in at_once(profiles)} == {200}
        token = successors.pop()


def test_a_replay_concurrent_with_the_owner_ends_the_session(shop: Shop) -> None:
    grant = make_session(shop.database, register(shop.database), shop.keys)
    stolen = grant.refresh_token
    token = stolen
    for _ in range(2):
        token = refresh(shop, token).json()["refresh_token"]
    works = [partial(refresh, shop, stolen), partial(refresh, shop, token)] * 10
    answers = at_once(works, threads=20)
    assert {answer.status_code for answer in answers[::2]} == {401}
    assert {answer.status_code for answer in answers[1::2]} <= {200, 401}
    lasts = {answer.json().get("refresh_token") for answer in answers[1::2]} - {None}
    assert all(refresh(shop, last).status_code == 401 for last in [token, *lasts])
