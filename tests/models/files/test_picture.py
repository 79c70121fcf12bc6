"""Uploaded pictures: what is decoded, the result, and what is refused (M15)."""

import io
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from PIL import Image

from models.errors import InvalidPicture
from models.files.picture import Picture, fit
from models.files.picture_decoding import draw
from tests.hostile_pictures import HTML, KINDS, archive, chunk, hostile, png
from tests.pictures import make_picture, read_picture

pytestmark = pytest.mark.mission("M15")


@pytest.mark.parametrize("name", list(hostile()))
def test_a_hostile_file_is_refused_for_little_memory(name: str) -> None:
    tracemalloc.start()
    with pytest.raises(InvalidPicture) as refused:
        draw(io.BytesIO(hostile()[name]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert refused.value.__cause__ is None


def polyglots() -> Iterator[tuple[str, bytes]]:
    """Pictures that are also something else."""
    for kind in KINDS:
        yield f"{kind} with HTML behind", make_picture(kind) + HTML
        yield f"{kind} with an archive behind", make_picture(kind) + archive()
    yield (
        "PNG with a script in a text",
        png(
            10,
            1,
            chunk(b"tEXt", b"Comment\0" + HTML),
            chunk(b"IDAT", zlib.compress(b"\0" + bytes(30))),
        ),
    )
    yield "JPEG with a script in its comment", make_picture("JPEG", comment=HTML)
    yield "GIF with a script in its comment", make_picture("GIF", comment=HTML)


@pytest.mark.parametrize(("name", "content"), list(polyglots()))
def test_only_the_picture_is_kept(name: str, content: bytes) -> None:
    _, files = draw(io.BytesIO(content))
    for file in files.values():
        assert b"script" not in file, name
        assert b"PK\x03\x04" not in file
        assert read_picture(file).format == "WEBP"


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_has_three_sizes(kind: str) -> None:
    picture, files = draw(io.BytesIO(make_picture(kind, (600, 200))))
    sizes = [(each.width, each.height) for each in picture.files]
    assert sizes == [(600, 200), (512, 171), (128, 43)]
    assert list(files) == [each.path for each in picture.files] == list(picture.paths)
    assert [read_picture(file).size for file in files.values()] == sizes


def test_a_large_picture_is_made_smaller() -> None:
    picture, files = draw(io.BytesIO(make_picture(size=(4096, 20))))
    assert (picture.width, picture.height) == (2048, 10)
    assert read_picture(files[picture.original.path]).size == (2048, 10)


def test_a_small_picture_is_not_enlarged() -> None:
    picture, files = draw(io.BytesIO(make_picture(size=(1, 100))))
    assert len(files) == 1
    assert picture.paths == tuple(files)
    assert {(each.width, each.height) for each in picture.files} == {(1, 100)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_stands_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture, files = draw(io.BytesIO(make_picture("JPEG", (80, 40), exif=exif)))
    assert (picture.width > picture.height) is (orientation <= 4)
    assert not read_picture(files[picture.original.path]).getexif()


def test_transparency_stays() -> None:
    written = io.BytesIO()
    Image.new("LA", (10, 10), (0, 0)).save(written, "PNG")
    (file,) = draw(written)[1].values()
    assert read_picture(file).convert("RGBA").getchannel("A").getpixel((5, 5)) == 0


def test_an_animation_becomes_its_first_frame() -> None:
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "green", "blue")]
    written = io.BytesIO()
    frames[0].save(written, "GIF", save_all=True, append_images=frames[1:])
    (file,) = draw(written)[1].values()
    assert getattr(read_picture(file), "n_frames", 1) == 1


def test_a_picture_is_named_by_its_content() -> None:
    first, again, other = (
        draw(io.BytesIO(make_picture(colour=colour)))[0] for colour in ("red", "red", "green")
    )
    assert first == again
    assert first.digest != other.digest
    assert Picture.parse(str(first)) == first


@pytest.mark.parametrize(
    ("size", "longest", "fitted"),
    [((100, 50), 512, (100, 50)), ((1024, 512), 512, (512, 256)), ((1, 5000), 128, (1, 128))],
)
def test_a_size_fits(size: tuple[int, int], longest: int, fitted: tuple[int, int]) -> None:
    assert fit(size, longest) == fitted
