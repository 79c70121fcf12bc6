"""Files that are not pictures, damaged pictures, and decompression bombs."""

import io
import struct
import zipfile
import zlib
from functools import cache

from PIL import Image

from models.files.picture_decoding import MOST_PIXELS
from tests.pictures import make_picture

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


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG file that claims a size."""
    whole = make_picture("JPEG")
    place = whole.index(b"\xff\xc0") + 5
    return whole[:place] + struct.pack(">HH", height, width) + whole[place + 4 :]


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
        "a JPEG bomb": jpeg_of(65_535, 65_535),
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
