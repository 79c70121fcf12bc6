"""Pictures of accounts and products over HTTP: uploaded, shown and removed (M6, M15)."""

from functools import partial

import httpx
import pytest
from PIL import Image
from sqlalchemy import select

from models.files.stored_picture import PictureUse
from models.identity.user import User
from tests.api.accounts import bearer, token_for
from tests.api.answers import problem
from tests.factories import make_account, make_product
from tests.models.together import together
from tests.our_document import our_document
from tests.pictures import make_picture, read_picture
from tests.service import Service

pytestmark = [pytest.mark.mission("M6"), pytest.mark.mission("M15")]

AVATAR = "/v1/profile/avatar"
MISSING = "/v1/files/" + "0" * 64 + "/128x64.webp"


@pytest.fixture
def headers(service: Service) -> dict[str, str]:
    return bearer(token_for(service, make_account(service)))


def upload(client: httpx.Client, headers: dict[str, str], content: bytes) -> httpx.Response:
    return client.put(AVATAR, files={"image": ("a.png", content, "image/png")}, headers=headers)


def test_an_avatar_is_shown_in_three_sizes(client: httpx.Client, headers: dict[str, str]) -> None:
    assert client.get("/v1/profile", headers=headers).json()["avatar"] is None
    answer = upload(client, headers, make_picture(size=(640, 320)))
    assert answer.status_code == 200, answer.text
    avatar = answer.json()["avatar"]
    sizes = {name: (each["width"], each["height"]) for name, each in avatar.items()}
    assert sizes == {"original": (640, 320), "medium": (512, 256), "small": (128, 64)}
    shown = client.get("/v1/profile", headers=headers)
    assert (shown.json(), shown.headers["ETag"]) == (answer.json(), answer.headers["ETag"])
    for each in avatar.values():
        file = client.get(each["url"])
        assert (file.status_code, file.headers["Content-Type"]) == (200, "image/webp")
        picture = read_picture(file.content)
        assert (picture.format, *picture.size) == ("WEBP", each["width"], each["height"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
def test_a_picture_may_be_the_body_itself(
    client: httpx.Client, headers: dict[str, str], kind: str
) -> None:
    headers = {**headers, "Content-Type": f"image/{kind.lower()}"}
    answer = client.put(AVATAR, content=make_picture(kind), headers=headers)
    assert answer.status_code == 200, answer.text
    file = client.get(answer.json()["avatar"]["small"]["url"]).content
    colour = read_picture(file).convert("RGB").getpixel((10, 10))
    assert isinstance(colour, tuple)
    assert colour[0] < 60
    assert colour[2] > 200


def test_orientation_is_applied_and_metadata_removed(
    client: httpx.Client, headers: dict[str, str]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "A secret place"
    content = make_picture("JPEG", (640, 320), exif=exif, comment=b"A secret place")
    assert b"A secret place" in content
    avatar = upload(client, headers, content).json()["avatar"]
    assert (avatar["original"]["width"], avatar["original"]["height"]) == (320, 640)
    for each in avatar.values():
        file = client.get(each["url"]).content
        assert b"secret" not in file
        assert not read_picture(file).getexif()


def test_the_same_picture_has_the_same_url(client: httpx.Client, service: Service) -> None:
    urls = set()
    for _ in range(2):
        headers = bearer(token_for(service, make_account(service)))
        urls.add(upload(client, headers, make_picture()).json()["avatar"]["original"]["url"])
    assert len(urls) == 1


def test_a_removed_avatar_is_gone(client: httpx.Client, headers: dict[str, str]) -> None:
    upload(client, headers, make_picture())
    for _ in range(2):
        removed = client.delete(AVATAR, headers=headers)
        assert (removed.status_code, removed.content) == (204, b"")
        assert client.get("/v1/profile", headers=headers).json()["avatar"] is None


def test_concurrent_uploads_leave_the_picture_that_is_shown(
    client: httpx.Client, service: Service
) -> None:
    account = make_account(service)
    send = partial(upload, client, bearer(token_for(service, account)))
    known, other = make_picture(), make_picture(colour="green")
    for contents in [[known] * 4, [known, other] * 2, [known, other] * 2]:
        assert send(known).status_code == 200
        answers = together(*(partial(send, content) for content in contents))
        assert [getattr(each, "status_code", each) for each in answers] == [200] * 4
        shown = select(User.avatar).where(User.id == account.id)
        used = select(PictureUse.digest).where(PictureUse.user_id == account.id)
        picture, digests = service.app.database.read(
            lambda reader: (reader.scalar(shown), reader.scalars(used).all())  # noqa: B023
        )
        assert picture is not None
        assert digests == [picture.digest]


def test_an_avatar_needs_the_current_version(client: httpx.Client, headers: dict[str, str]) -> None:
    old = client.get("/v1/profile", headers=headers).headers["ETag"]
    assert upload(client, headers | {"If-Match": old}, make_picture()).status_code == 200
    late = upload(client, headers | {"If-Match": old}, make_picture(colour="green"))
    assert (late.status_code, problem(late)) == (412, "version-mismatch")


def test_products_have_images_by_position(service: Service, client: httpx.Client) -> None:
    place = f"/v1/products/{make_product(service.app.database).id}"
    headers = bearer(token_for(service, make_account(service, role="admin")))

    def put(position: int, colour: str) -> httpx.Response:
        content, png = make_picture(colour=colour), {"Content-Type": "image/png"}
        return client.put(f"{place}/images/{position}", content=content, headers=headers | png)

    assert (put(3, "red").status_code, put(1, "green").status_code) == (200, 200)
    images = put(3, "white").json()["images"]
    assert client.get(place).json()["images"] == images
    assert [each["position"] for each in images] == [1, 3]
    listed = client.get("/v1/products", params={"sort": "-created_at", "limit": 1}).json()
    assert listed["items"][0]["images"] == images
    assert client.delete(f"{place}/images/3", headers=headers).status_code == 204
    assert client.get(place).json()["images"] == images[:1]
    assert client.delete(f"{place}/images/3", headers=headers).status_code == 204
    for position in (11, 0):
        assert client.delete(f"{place}/images/{position}", headers=headers).status_code == 404
    assert put(11, "red").status_code == 404


def test_a_file_is_cached_and_harmless(client: httpx.Client, headers: dict[str, str]) -> None:
    url = upload(client, headers, make_picture()).json()["avatar"]["original"]["url"]
    file, head = client.get(url), client.head(url)
    assert head.content == b""
    for answer in (file, head):
        assert answer.status_code == 200
        assert answer.headers["Content-Length"] == str(len(file.content))
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["ETag"] == f'"{url.removeprefix("/v1/files/")}"'
        assert answer.headers["Last-Modified"].endswith(" GMT")
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["Content-Disposition"] == "inline"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    unchanged = client.get(url, headers={"If-None-Match": file.headers["ETag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


BEFORE, AFTER = "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 2066 23:59:59 GMT"


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({"If-Modified-Since": "{modified}"}, 304),
        ({"If-Modified-Since": AFTER}, 304),
        ({"If-Modified-Since": BEFORE}, 200),
        ({"If-Modified-Since": "Sunday, 06-Nov-94 08:49:37 GMT"}, 200),
        ({"If-Modified-Since": "Fri Dec 31 23:59:59 2066"}, 304),
        ({"If-Modified-Since": "Friday, 31-Dec-66 23:59:59 GMT"}, 304),
        ({"If-Modified-Since": AFTER, "If-None-Match": '"other"'}, 200),
        ({"If-Modified-Since": BEFORE, "If-None-Match": "{tag}"}, 304),
        ({"If-Modified-Since": AFTER, "Range": "bytes=0-1"}, 304),
        ({"If-Unmodified-Since": "{modified}"}, 200),
        ({"If-Unmodified-Since": AFTER}, 200),
        ({"If-Unmodified-Since": BEFORE}, 412),
        ({"If-Unmodified-Since": "Sun Nov  6 08:49:37 1994"}, 412),
        ({"If-Unmodified-Since": BEFORE, "If-Modified-Since": AFTER}, 412),
        ({"If-Unmodified-Since": BEFORE, "If-Match": "{tag}"}, 200),
        ({"If-Unmodified-Since": AFTER, "If-Match": '"other"'}, 412),
        *(
            ({name: date}, 200)
            for name in ("If-Modified-Since", "If-Unmodified-Since")
            for date in ("CANARY", "2066-12-31T23:59:59Z", f"{BEFORE}, {AFTER}", AFTER[:-4])
        ),
    ],
)
def test_a_file_is_compared_with_dates(
    client: httpx.Client, headers: dict[str, str], conditions: dict[str, str], status: int
) -> None:
    url = upload(client, headers, make_picture()).json()["avatar"]["small"]["url"]
    known = client.head(url).headers
    sent = {
        name: value.format(modified=known["Last-Modified"], tag=known["ETag"])
        for name, value in conditions.items()
    }
    for method in ("GET", "HEAD"):
        answer = client.request(method, url, headers=sent)
        assert answer.status_code == status
        assert answer.headers["X-Request-ID"]
        if status != 412:
            assert answer.headers["Last-Modified"] == known["Last-Modified"]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=5-5", 5, 5),
        ("Bytes=10-", 10, -1),
        ("bytes=-7", -7, -1),
        ("bytes=2-999999999", 2, -1),
        ("bytes=-999999999", 0, -1),
    ],
)
def test_a_range_of_a_file(
    client: httpx.Client, headers: dict[str, str], asked: str, first: int, last: int
) -> None:
    url = upload(client, headers, make_picture()).json()["avatar"]["original"]["url"]
    whole = client.get(url).content
    size = len(whole)
    start, end = first % size, last % size
    part = client.get(url, headers={"Range": asked})
    assert (part.status_code, part.content) == (206, whole[start : end + 1])
    assert part.headers["Content-Range"] == f"bytes {start}-{end}/{size}"
    assert part.headers["Content-Length"] == str(end - start + 1)
    same = client.get(url, headers={"Range": asked, "If-Range": part.headers["ETag"]})
    assert same.status_code == 206
    other = client.get(url, headers={"Range": asked, "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, whole)


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,3-4", "bytes=5-2", "bytes=-", "lines=1-2", "bytes", "bytes=a-b", "bytes=\xb2-\xb3"],
)
def test_a_range_that_means_nothing_is_ignored(
    client: httpx.Client, headers: dict[str, str], asked: str
) -> None:
    url = upload(client, headers, make_picture()).json()["avatar"]["small"]["url"]
    answer = client.get(url, headers=[(b"Range", asked.encode("latin-1"))])
    assert (answer.status_code, answer.content) == (200, client.get(url).content)


@pytest.mark.parametrize("asked", ["bytes=1000000-", "bytes=-0"])
def test_a_range_beyond_the_end(client: httpx.Client, headers: dict[str, str], asked: str) -> None:
    url = upload(client, headers, make_picture()).json()["avatar"]["small"]["url"]
    size = len(client.get(url).content)
    answer = client.get(url, headers={"Range": asked})
    assert (answer.status_code, problem(answer)) == (416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "path",
    [
        "../concord.db",
        "%2e%2e/concord.db",
        "..%2fconcord.db",
        "%2fetc%2fpasswd",
        "0" * 64 + "%2f128x64.webp",
        "0" * 64 + "/..%2f128x64.webp",
        "0" * 64 + "/128x64.webp%00",
        "0" * 64 + "/128x64.webp::$DATA",
        "0" * 64 + "\\128x64.webp",
        "C:/windows/win.ini",
        "con",
        "0" * 64 + "/",
        "0" * 64,
        "0" * 64 + "//128x64.webp",
        "0" * 64 + "/128x64.webp/x",
        "0" * 64 + "/128x64.png",
        "A" * 64 + "/128x64.webp",
        "0" * 64 + "/128x64.webp",
        "%c0%af",
        "",
    ],
)
def test_no_other_path_is_a_file(client: httpx.Client, path: str) -> None:
    answer = client.get(httpx.URL(client.base_url, raw_path=b"/v1/files/" + path.encode()))
    assert (answer.status_code, problem(answer)) == (404, "not-found")


def test_the_pictures_of_the_largest_page_are_within_the_limit() -> None:
    bundle = our_document().bundle
    products = bundle["components"]["parameters"]["Limit"]["schema"]["maximum"]
    images = bundle["components"]["schemas"]["ImagePosition"]["maximum"]
    (limit,) = bundle["paths"]["/v1/files/{path}"]["get"]["x-rate-limit"]
    assert limit["window"] == 60
    assert limit["limit"] >= 2 * products * images
