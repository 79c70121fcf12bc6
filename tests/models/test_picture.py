"""Pictures from files of strangers: what is decoded, what it becomes, and what is refused (M15)."""

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache

import pytest
from PIL import Image

from models.errors import InvalidPicture
from models.files.picture import MOST_PIXELS, Picture, draw, fit
from tests.pictures import make_picture, read_picture

pytestmark = pytest.mark.mission("M15")

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
HTML = b"<!doctype html><script>alert(1)</script>"


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG file that claims a size, whatever its chunks hold."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def archive() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.writestr("a.png", make_picture())
    return written.getvalue()


def converted(kind: str) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (10, 10)).save(written, kind)
    return written.getvalue()


@cache
def hostile() -> dict[str, bytes]:
    """Files that are no pictures, damaged ones, and bombs."""
    zeros = zlib.compress(bytes(10_000_000), 9)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + bytes(30)))
    gif = make_picture("GIF")
    files = {
        "nothing": b"",
        "a byte": b"\x89",
        "zeros": bytes(1000),
        "text": b"A picture of a bicycle.",
        "SVG": SVG,
        "SVG with a declaration": b'<?xml version="1.0"?>' + SVG,
        "compressed SVG": zlib.compress(SVG, wbits=31),
        "HTML": HTML,
        "PDF": b"%PDF-1.7\n%%EOF",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "a script": b"#!/bin/sh\nreboot\n",
        "a program": b"MZ" + bytes(100),
        "an archive": archive(),
        "an empty PNG": b"\x89PNG\r\n\x1a\n",
        "a PNG without pixels": png(10, 10),
        "a PNG of no width": png(0, 10, pixels),
        "a PNG without its last rows": png(10, 10, chunk(b"IDAT", zlib.compress(bytes(31))[:-8])),
        "a PNG with a wrong stream": png(10, 1, chunk(b"IDAT", b"no zlib")),
        "a bomb of pixels": png(30_000, 30_000, chunk(b"IDAT", zeros)),
        "the widest bomb": png(2**31 - 1, 1, chunk(b"IDAT", zeros)),
        "a bomb just above the limit": png(MOST_PIXELS + 1, 1, chunk(b"IDAT", zeros)),
        "a GIF bomb": gif[:6] + struct.pack("<HH", 65_535, 65_535) + gif[10:],
        "a GIF of headers": b"GIF89a" * 100,
        "a WebP of headers": b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(100),
        "a JPEG of markers": b"\xff\xd8" + b"\xff\xe1\xff\xff" * 1000,
        "an AVIF of headers": b"\0\0\0\x1cftypavif" + bytes(100),
        **{f"an unaccepted {kind}": converted(kind) for kind in ("BMP", "TIFF", "ICO", "PPM")},
        **{f"HTML before a {kind}": HTML + make_picture(kind) for kind in KINDS},
    }
    for kind in KINDS:
        whole = make_picture(kind)
        for part in (4, 16, len(whole) // 4, len(whole) // 2):
            files[f"{part} bytes of a {kind}"] = whole[:part]
    return files


def test_the_corpus_is_large() -> None:
    assert len(hostile()) >= 55


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
