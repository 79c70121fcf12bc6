"""Pictures, decoded from uploaded files and re-encoded in three sizes.

Decoding removes everything that is not part of the picture, such as the place where a photo was
taken, and anything that another program could mistake for a document or a script.
"""

import hashlib
import io
from collections.abc import Mapping
from typing import IO, Final

from PIL import Image, ImageOps

from models.errors import InvalidPicture
from models.files.picture import LONGEST_SIDE, MEDIUM, SMALL, Picture, fit

MOST_PIXELS: Final = 16_000_000
"""Maximum number of pixels of a picture before it is made smaller, which bounds the memory."""
MOST_JPEG_PIXELS: Final = 40_000_000
"""The same for JPEG, the usual format of photos, which is decoded directly at a smaller scale."""

_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
_QUALITY: Final = 82
# The limit above is checked before anything is decoded. Pillow's own limit only warns at first.
Image.MAX_IMAGE_PIXELS = None


def draw(file: IO[bytes]) -> tuple[Picture, Mapping[str, bytes]]:
    """Decode a picture; return it, and its files by path.

    The first frame of an animation is used. The format is detected from the content, not from a
    name.

    Raises:
        InvalidPicture: The file is not a picture in an accepted format, is damaged or too large.
    """
    try:
        with Image.open(file, formats=_FORMATS) as opened:
            largest = _normal(opened)
    except InvalidPicture:
        raise
    except Exception:  # noqa: BLE001 - Pillow's decoders raise errors of many types.
        raise InvalidPicture from None
    encoded = {size: _encode(largest, size) for size in _sizes(largest.size)}
    digest = hashlib.sha256(b"".join(encoded.values())).hexdigest()
    picture = Picture(digest, *largest.size)
    return picture, {f"{digest}/{w}x{h}.webp": data for (w, h), data in encoded.items()}


def _normal(opened: Image.Image) -> Image.Image:
    """Return the picture upright, in RGB, no larger than the largest size, without metadata.

    Raises:
        InvalidPicture: The picture has too many pixels.
    """
    most = MOST_JPEG_PIXELS if opened.format == "JPEG" else MOST_PIXELS
    if opened.width * opened.height > most:
        raise InvalidPicture(f"The picture has more than {most} pixels.")
    opened.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
    opened.load()
    mode = "RGBA" if opened.has_transparency_data else "RGB"
    # Each copy in the first size takes much memory.
    image: Image.Image = opened if opened.mode == mode else opened.convert(mode)
    size = fit(image.size, LONGEST_SIDE)
    image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    # The orientation that cameras note is in the metadata, which is removed.
    ImageOps.exif_transpose(image, in_place=True)
    image.info.clear()
    return image


def _sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    return list(dict.fromkeys(fit(size, longest) for longest in (LONGEST_SIDE, MEDIUM, SMALL)))


def _encode(image: Image.Image, size: tuple[int, int]) -> bytes:
    written = io.BytesIO()
    smaller = image.resize(size, Image.Resampling.LANCZOS) if size != image.size else image
    smaller.save(written, "WEBP", quality=_QUALITY)
    return written.getvalue()
