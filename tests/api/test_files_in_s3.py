"""Pictures in a bucket of a server like S3, over HTTP (M15)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.accounts import bearer, token_for
from tests.api.answers import problem
from tests.databases import make_database_url
from tests.factories import make_account
from tests.pictures import make_picture, read_picture
from tests.s3_server import CREDENTIALS, s3_bucket
from tests.service import Service, running

pytestmark = pytest.mark.mission("M15")

AVATAR = "/v1/profile/avatar"
PNG = {"Content-Type": "image/png"}


@pytest.fixture(params=["pictures"])
def service(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    """A service whose files are in a bucket with this name."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_bucket() as bucket, make_database_url("sqlite", tmp_path) as url:
        store = bucket.replace("//pictures", f"//{request.param}")
        with running(tmp_path, url, STORAGE_URL=store) as service:
            yield service


def test_pictures_are_stored_in_a_bucket(service: Service) -> None:
    client, headers = service.client(), bearer(token_for(service, make_account(service)))
    answer = client.put(AVATAR, content=make_picture(), headers=headers | PNG)
    url = answer.json()["avatar"]["medium"]["url"]
    whole = client.get(url)
    assert (whole.status_code, read_picture(whole.content).size) == (200, (512, 256))
    part = client.get(url, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, whole.content[5:10])
    missing = client.get(url.replace("512x256", "512x257"))
    assert (missing.status_code, problem(missing)) == (404, "not-found")


@pytest.mark.parametrize("service", ["nowhere"], indirect=True)
def test_a_missing_bucket_is_503_and_leaves_the_avatar(service: Service) -> None:
    client, headers = service.client(), bearer(token_for(service, make_account(service)))
    failed = client.put(AVATAR, content=make_picture(), headers=headers | PNG)
    assert (failed.status_code, problem(failed)) == (503, "storage-unavailable")
    assert failed.headers["Retry-After"] == "1"
    assert client.get("/v1/profile", headers=headers).json()["avatar"] is None
