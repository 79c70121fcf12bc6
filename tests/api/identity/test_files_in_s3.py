"""Pictures in a bucket of a server like S3, over HTTP (M15)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.api.accounts import bearer, token_for
from tests.api.answers import problem
from tests.databases import make_database_url
from tests.factories import make_account
from tests.pictures import make_picture, read_picture
from tests.servers.s3_server import CREDENTIALS, S3_SERVERS, nanio_bucket
from tests.service import Service, running

pytestmark = pytest.mark.mission("M15")

AVATAR = "/v1/profile/avatar"
PNG = {"Content-Type": "image/png"}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=S3_SERVERS)
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    with S3_SERVERS[request.param]() as url:
        yield url


@contextmanager
def pictures_in(bucket: str, folder: Path, **settings: str) -> Iterator[Service]:
    """Serve an application whose files are in a bucket."""
    with (
        make_database_url("sqlite", folder) as url,
        running(folder, url, STORAGE_URL=bucket, **settings) as service,
    ):
        yield service


def upload(service: Service) -> httpx.Response:
    """Set the avatar of a new account, and return the response."""
    headers = bearer(token_for(service, make_account(service)))
    return service.client().put(AVATAR, content=make_picture(), headers=headers | PNG)


def test_pictures_are_stored_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    with pictures_in(bucket, tmp_path) as service:
        client, url = service.client(), upload(service).json()["avatar"]["medium"]["url"]
        whole = client.get(url)
        assert (whole.status_code, read_picture(whole.content).size) == (200, (512, 256))
        part = client.get(url, headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, whole.content[5:10])
        missing = client.get(url.replace("512x256", "512x257"))
        assert (missing.status_code, problem(missing)) == (404, "not-found")


def test_presigned_reads_lead_to_the_bucket(bucket: str, tmp_path: Path) -> None:
    endpoint = parse_qs(urlsplit(bucket).query)["endpoint"][0]
    with pictures_in(bucket, tmp_path, STORAGE_READS="presigned") as service:
        client, url = service.client(), upload(service).json()["avatar"]["medium"]["url"]
        for method in ("HEAD", "GET"):
            answer = client.request(method, url)
            assert (answer.status_code, answer.content) == (307, b"")
            assert answer.headers["Cache-Control"] == "private, max-age=240"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            location = answer.headers["Location"]
            assert location.startswith(f"{endpoint}/pictures/shop/")
            assert parse_qs(urlsplit(location).query)["X-Amz-Expires"] == ["300"]
            file = client.request(method, url, follow_redirects=True)
            assert file.status_code == 200
            assert file.headers["Content-Type"] == "image/webp"
            assert file.headers["Content-Disposition"] == "inline"
            assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        whole = client.get(url, follow_redirects=True).content
        assert read_picture(whole).size == (512, 256)
        part = client.get(url, headers={"Range": "bytes=5-9"}, follow_redirects=True)
        assert (part.status_code, part.content) == (206, whole[5:10])


def test_what_needs_no_file_is_not_redirected(bucket: str, tmp_path: Path) -> None:
    with pictures_in(bucket, tmp_path, STORAGE_READS="presigned") as service:
        client, url = service.client(), upload(service).json()["avatar"]["medium"]["url"]
        tag = f'"{url.removeprefix("/v1/files/")}"'
        assert client.get(url, headers={"If-None-Match": tag}).status_code == 304
        missing = client.get(url.replace("512x256", "512x257"))
        assert (missing.status_code, problem(missing)) == (404, "not-found")


def test_a_signed_url_is_for_one_method_and_one_file(tmp_path: Path) -> None:
    settings = {"STORAGE_READS": "presigned"}
    with nanio_bucket() as bucket, pictures_in(bucket, tmp_path, **settings) as service:
        client, avatar = service.client(), upload(service).json()["avatar"]
        location = client.get(avatar["medium"]["url"]).headers["Location"]
        assert httpx.get(location).status_code == 200
        assert httpx.head(location).status_code == 403
        assert httpx.delete(location).status_code == 403
        paths = [avatar[size]["url"].removeprefix("/v1/files/") for size in ("medium", "small")]
        assert httpx.get(location.replace(*paths)).status_code == 403


def test_a_missing_bucket_is_503_and_leaves_the_avatar(bucket: str, tmp_path: Path) -> None:
    with pictures_in(bucket.replace("//pictures", "//nowhere"), tmp_path) as service:
        headers = bearer(token_for(service, make_account(service)))
        client = service.client()
        failed = client.put(AVATAR, content=make_picture(), headers=headers | PNG)
        assert (failed.status_code, problem(failed)) == (503, "storage-unavailable")
        assert failed.headers["Retry-After"] == "1"
        assert client.get("/v1/profile", headers=headers).json()["avatar"] is None
