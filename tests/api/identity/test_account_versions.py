"""Concurrent changes: none is lost, and the conflict is reported (MISSION M11, M23)."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from models.identity.user import User
from tests.api.accounts import bearer, read_account, token_for
from tests.api.answers import problem
from tests.factories import make_account
from tests.service import Service

pytestmark = pytest.mark.mission("M11")


def account(service: Service) -> tuple[User, str, dict[str, str]]:
    user = make_account(service)
    return user, f"/v1/users/{user.id}", bearer(token_for(service, user))


def rename_at_once(
    client: httpx.Client, path: str, names: list[str], headers: dict[str, str]
) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(names)) as pool:
        return list(
            pool.map(lambda name: client.patch(path, json={"name": name}, headers=headers), names)
        )


@pytest.mark.parametrize("path", ["/v1/profile", "/v1/users/{}"])
def test_a_change_applies_to_the_version_that_was_read(
    service: Service, client: httpx.Client, path: str
) -> None:
    user, _, own = account(service)
    path = path.format(user.id)
    tag = client.get(path, headers=own).headers["etag"]
    first = client.patch(path, json={"name": "First"}, headers=own | {"If-Match": tag})
    assert first.status_code == 200
    assert first.headers["etag"] != tag
    second = client.patch(path, json={"name": "Second"}, headers=own | {"If-Match": tag})
    assert second.status_code == 412
    assert problem(second) == "version-mismatch"
    assert client.get(path, headers=own).json()["name"] == "First"
    third = client.patch(
        path, json={"name": "Third"}, headers=own | {"If-Match": first.headers["etag"]}
    )
    assert third.json()["name"] == "Third"


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("*", 200),
        ('"1"', 200),
        ('"0", "1"', 200),
        ('"x","1" , "2"', 200),
        ('W/"1"', 412),
        ('"01"', 412),
        ('"2"', 412),
        ('"-1"', 412),
        ('""', 412),
        ('"99999999999999999999999999"', 412),
        ("1", 400),
        ('"1', 400),
        ('"1" "2"', 400),
        ('"1",*', 400),
        ("", 400),
    ],
)
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_if_match_is_compared_strongly(
    service: Service, client: httpx.Client, method: str, field: str, status: int
) -> None:
    user, path, own = account(service)
    body = {"name": "Ada King"} if method == "PATCH" else None
    answer = client.request(method, path, json=body, headers=own | {"If-Match": field})
    assert answer.status_code == (204 if (method, status) == ("DELETE", 200) else status)
    unchanged = read_account(service, user.id).version == user.version
    assert unchanged is (status != 200)


@pytest.mark.mission("M25")
def test_one_of_concurrent_changes_to_one_version_succeeds(
    service: Service, client: httpx.Client
) -> None:
    user, path, own = account(service)
    for version in range(1, 4):
        headers = own | {"If-Match": f'"{version}"'}
        names = [f"Name {version}-{number}" for number in range(6)]
        answers = rename_at_once(client, path, names, headers)
        made = [answer for answer in answers if answer.status_code == 200]
        assert sorted(answer.status_code for answer in answers) == [200] + [412] * 5
        stored = read_account(service, user.id)
        assert (stored.name, stored.version) == (made[0].json()["name"], version + 1)


@pytest.mark.mission("M25")
def test_concurrent_changes_of_different_members_all_succeed(
    service: Service, client: httpx.Client
) -> None:
    boss = bearer(token_for(service, make_account(service, role="admin")))
    for number in range(5):
        user, path, own = account(service)
        with ThreadPoolExecutor(2) as pool:
            renamed = pool.submit(client.patch, path, json={"name": f"N{number}"}, headers=own)
            raised = pool.submit(client.patch, path, json={"role": "admin"}, headers=boss)
            assert raised.result().status_code == 200
            # The owner's token ends when the role changes, which may come first.
            status = renamed.result().status_code
        assert status in (200, 401)
        stored = read_account(service, user.id)
        assert stored.role == "admin"
        assert stored.name == (f"N{number}" if status == 200 else user.name)
        assert stored.version == (3 if status == 200 else 2)


@pytest.mark.mission("M25")
def test_concurrent_unconditional_changes_all_succeed(
    service: Service, client: httpx.Client
) -> None:
    user, path, own = account(service)
    names = [f"Name {number}" for number in range(8)]
    answers = rename_at_once(client, path, names, own)
    assert [answer.status_code for answer in answers] == [200] * len(names)
    tags = {answer.headers["etag"] for answer in answers}
    assert tags == {f'"{version}"' for version in range(2, len(names) + 2)}
    # Each answer shows what its own change made of the account.
    assert [answer.json()["name"] for answer in answers] == names
    assert read_account(service, user.id).version == len(names) + 1


def test_a_change_without_effect_makes_no_new_version(
    service: Service, client: httpx.Client
) -> None:
    _, path, own = account(service)
    before = client.patch(path, json={"name": "Ada King"}, headers=own)
    after = client.patch(path, json={"name": "Ada King"}, headers=own)
    assert after.headers["etag"] == before.headers["etag"]
    assert after.json() == before.json()
