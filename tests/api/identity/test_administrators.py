"""The service always has an active administrator (MISSION M18)."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest
from sqlalchemy.orm import Session

from models.actor import Actor
from models.identity.user import User
from tests.api.accounts import bearer, edit_account, read_account, token_for
from tests.api.answers import problem
from tests.databases import KINDS, make_database_url
from tests.factories import make_account
from tests.service import Service, running

pytestmark = pytest.mark.mission("M18")

Ending: TypeAlias = dict[str, object] | None
ENDINGS: tuple[Ending, ...] = ({"role": "user"}, {"active": False}, None)
"""What makes an administrator be none; None is being deleted."""


@pytest.fixture(params=KINDS)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A service that has no administrators but those of one test."""
    with make_database_url(request.param, tmp_path) as url, running(tmp_path, url) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


def administrator(service: Service) -> tuple[User, dict[str, str]]:
    user = make_account(service, role="admin")
    return user, bearer(token_for(service, user))


def end(
    client: httpx.Client, user: User, ending: Ending, headers: dict[str, str]
) -> httpx.Response:
    path = f"/v1/users/{user.id}"
    if ending is None:
        return client.delete(path, headers=headers)
    return client.patch(path, json=ending, headers=headers)


def test_the_last_active_administrator_stays(service: Service, client: httpx.Client) -> None:
    last, headers = administrator(service)
    make_account(service)
    # These two are administrators in name only.
    for edit in ("active", "erased"):
        other, _ = administrator(service)
        if edit == "active":
            edit_account(service, other.id, lambda session, row: row.change(session, active=False))
        else:
            edit_account(service, other.id, lambda session, row: row.erase(session))
    for ending in ENDINGS:
        answer = end(client, last, ending, headers)
        assert answer.status_code == 409
        assert problem(answer) == "last-administrator"
    after = read_account(service, last.id)
    assert (after.role, after.active, after.version) == ("admin", True, last.version)
    # Everything else about them can be changed.
    renamed = client.patch(
        f"/v1/users/{last.id}", json={"name": "Ada", "role": "admin"}, headers=headers
    )
    assert renamed.status_code == 200


def test_an_administrator_may_leave_if_another_stays(
    service: Service, client: httpx.Client
) -> None:
    _, staying = administrator(service)
    for ending in ENDINGS:
        going, own = administrator(service)
        assert end(client, going, ending, own).is_success
        going, _ = administrator(service)
        assert end(client, going, ending, staying).is_success


def test_two_administrators_cannot_remove_each_other_concurrently(
    service: Service, client: httpx.Client
) -> None:
    for first, second in ((0, 1), (1, 2), (2, 0), (0, 0), (2, 2)):
        (ada, adas), (bob, bobs) = administrator(service), administrator(service)
        with ThreadPoolExecutor(2) as pool:
            answers = [
                pool.submit(end, client, bob, ENDINGS[first], adas),
                pool.submit(end, client, ada, ENDINGS[second], bobs),
            ]
            statuses = sorted(answer.result().status_code for answer in answers)
        left = [user for user in (ada, bob) if _runs_the_service(service, user)]
        assert len(left) == 1, statuses
        # The other one was too late: no administrator any more, or told that they are the last.
        assert statuses[0] in (200, 204)
        assert statuses[1] in (401, 403, 404, 409)
        _retire(service, left[0])


def test_one_of_the_administrators_who_all_leave_at_once_stays(
    service: Service, client: httpx.Client
) -> None:
    everybody = [administrator(service) for _ in range(6)]
    with ThreadPoolExecutor(len(everybody)) as pool:
        answers = list(pool.map(lambda one: end(client, one[0], None, one[1]), everybody))
    assert sorted(answer.status_code for answer in answers) == [204] * 5 + [409]
    assert sum(_runs_the_service(service, user) for user, _ in everybody) == 1


def test_a_demotion_cannot_be_undone_by_a_concurrent_request(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that began before the demotion is still under way when it comes."""
    _, boss = administrator(service)
    user, own = administrator(service)
    begun, demoted = threading.Event(), threading.Event()
    visible_to = User.visible_to

    def visible_when_demoted(session: Session, actor: Actor, user_id: int) -> User:
        if actor.user_id == user.id:
            begun.set()
            # Where the demotion has to wait for this change, there is nothing to wait for here.
            demoted.wait(0.5)
        return visible_to(session, actor, user_id)

    monkeypatch.setattr(User, "visible_to", visible_when_demoted)
    with ThreadPoolExecutor(1) as pool:
        path = f"/v1/users/{user.id}"
        undoing = pool.submit(client.patch, path, json={"role": "admin"}, headers=own)
        assert begun.wait(30)
        assert end(client, user, {"role": "user"}, boss).status_code == 200
        demoted.set()
        assert undoing.result().status_code in (200, 401)
    assert not _runs_the_service(service, user)


def _runs_the_service(service: Service, user: User) -> bool:
    row = read_account(service, user.id)
    return row.role == "admin" and row.active and row.erased_at is None


def _retire(service: Service, user: User) -> None:
    """Take the last one away past all rules, so that the next round starts with nobody."""

    def edit(_session: object, row: User) -> None:
        row.role = "user"

    edit_account(service, user.id, edit)
