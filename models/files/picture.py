"""Pictures: what a row says of one, and the URLs of its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from sqlalchemy import Dialect, String
from sqlalchemy.types import JSON, TypeDecorator, TypeEngine

LONGEST_SIDE: Final = 2048
"""Maximum width and height of the largest size, in pixels."""
MEDIUM, SMALL = 512, 128
URL: Final = "/v1/files/"
"""Where the contract serves files."""


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
