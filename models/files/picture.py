"""Pictures: decoded from uploaded files, and re-encoded in three sizes.

Decoding removes everything that is not part of the picture, such as the place where a photo was
taken, and anything that another program could mistake for a document or a script.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Final, TypedDict

from PIL import Image, ImageOps
from sqlalchemy import Dialect, String
from sqlalchemy.types import JSON, TypeDecorator, TypeEngine

from models.errors import InvalidPicture

MOST_PIXELS: Final = 16_000_000
"""Maximum number of pixels of a picture before it is made smaller, which bounds the memory."""
MOST_JPEG_PIXELS: Final = 40_000_000
"""The same for JPEG, the usual format of photos, which is decoded directly at a smaller scale."""
LONGEST_SIDE: Final = 2048
"""Maximum width and height of the largest size, in pixels."""
MEDIUM, SMALL = 512, 128
URL: Final = "/v1/files/"
"""Where the contract serves files."""

_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
_QUALITY: Final = 82
# The limit above is checked before anything is decoded. Pillow's own limit only warns at first.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class PictureFile:
    """One size of a picture: its path in the store, and its size in pixels."""

    path: str
    width: int
    height: int

    @property
    def url(self) -> str:
        """The path of the file's URL."""
        return f"{URL}{self.path}"


@dataclass(frozen=True, slots=True)
class Picture:
    """A stored picture, named by the hash of its files, with the pixels of its largest size."""

    digest: str
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> "Picture":
        """Return the picture that `str` describes."""
        digest, _, size = text.partition("/")
        width, _, height = size.partition("x")
        return cls(digest, int(width), int(height))

    def __str__(self) -> str:
        return f"{self.digest}/{self.width}x{self.height}"

    @property
    def original(self) -> PictureFile:
        """The largest size."""
        return self._file(LONGEST_SIDE)

    @property
    def medium(self) -> PictureFile:
        """A size of at most 512 pixels."""
        return self._file(MEDIUM)

    @property
    def small(self) -> PictureFile:
        """A size of at most 128 pixels."""
        return self._file(SMALL)

    @property
    def files(self) -> tuple[PictureFile, PictureFile, PictureFile]:
        """The three sizes, from the largest to the smallest."""
        return self.original, self.medium, self.small

    def _file(self, longest: int) -> PictureFile:
        width, height = fit((self.width, self.height), longest)
        return PictureFile(f"{self.digest}/{width}x{height}.webp", width, height)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of all files. A small picture has fewer than three."""
        return tuple({each.path: each for each in self.files})


class NewPicture(TypedDict):
    """A picture in a request."""

    image: Picture


def fit(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the largest size with the same proportions and no side above `longest`."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


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


class PictureType(TypeDecorator[Picture]):
    """A picture, stored in its text form."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = String(80)
    cache_ok: bool | None = True

    def process_bind_param(self, value: Picture | None, _dialect: Dialect) -> str | None:
        """Return the text form of a picture."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Picture | None:
        """Return the picture that a text describes."""
        return None if value is None else Picture.parse(value)


class PicturesType(TypeDecorator[Mapping[int, Picture]]):
    """Pictures by position, stored as a JSON object of their text forms."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = JSON
    cache_ok: bool | None = True

    def process_bind_param(
        self, value: Mapping[int, Picture] | None, _dialect: Dialect
    ) -> dict[str, str] | None:
        """Return the text forms of pictures."""
        return None if value is None else {str(key): str(each) for key, each in value.items()}

    def process_result_value(
        self, value: Mapping[str, str] | None, _dialect: Dialect
    ) -> Mapping[int, Picture]:
        """Return the pictures that texts describe, in order."""
        texts = sorted((int(key), text) for key, text in (value or {}).items())
        return {position: Picture.parse(text) for position, text in texts}
