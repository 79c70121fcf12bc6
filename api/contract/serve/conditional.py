"""Conditional requests (RFC 9110, section 13): how entity tags and dates compare."""

import hashlib
import re
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from api.contract.engine_errors import RangeNotSatisfiable

_ETAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_ONE = re.compile(_ETAG)
_VERSION = re.compile(r'"(0|[1-9][0-9]{0,17})"')
_RANGE = re.compile(r"[Bb][Yy][Tt][Ee][Ss]=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*")
_DATES = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
"""The forms of an HTTP date, of which the last two are obsolete (RFC 9110, section 5.6.7)."""
ANY: Final = "*"


def entity_tag(version: int | None, body: bytes) -> str:
    """Return a strong entity tag, from the row's version or else from the body."""
    if version is not None:
        return f'"{version}"'
    return _digest(body)


@lru_cache(maxsize=64)
def _digest(body: bytes) -> str:
    """Hash a body. The cache hashes a large file, always the same object, only once."""
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def matches_none(field: str | None, tag: str) -> bool:
    """Return whether `If-None-Match` matches the tag, so that a GET returns 304.

    The comparison is weak (section 13.1.2): `W/` is ignored on both sides.
    """
    if field is None:
        return False
    return field.strip() == ANY or tag in [sent.removeprefix("W/") for sent in _ONE.findall(field)]


def matches(field: str | None, tag: str) -> bool:
    """Return whether `If-Match` matches the tag. If it does not, no method may be performed.

    The comparison is strong (section 13.1.1): a weak tag matches nothing.
    """
    return field is None or field.strip() == ANY or tag in _ONE.findall(field)


def is_modified(since: str | None, modified: datetime | None) -> bool | None:
    """Return whether a file was modified after an HTTP date; None without a file or a valid date.

    `If-Modified-Since` and `If-Unmodified-Since` are ignored in that case (sections 13.1.3 and 4).
    """
    if since is None or modified is None:
        return None
    for form in _DATES:
        with suppress(ValueError):
            date = datetime.strptime(since, form).replace(tzinfo=UTC)
            return modified.replace(microsecond=0) > date
    return None


def parse_range(field: str | None, size: int) -> tuple[int, int] | None:
    """Return the start and length of the range that `Range` requests; None if it requests all.

    A field that is malformed, or has several ranges, is ignored (RFC 9110, section 14.2).

    Raises:
        RangeNotSatisfiable: the range contains no bytes of the file.
    """
    found = _RANGE.fullmatch(field or "")
    if found is None:
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last or size), size - 1)
        if last and int(last) < start:
            return None
    elif last:
        start, end = max(0, size - int(last)), size - 1
    else:
        return None
    if start > end:
        raise RangeNotSatisfiable(size)
    return start, end - start + 1


def acceptable_versions(
    if_match: str | None, if_none_match: str | None = None
) -> Container[int] | None:
    """Return the row versions from which a change may start; None if it may start from any.

    `If-Match` is compared strongly and `If-None-Match` weakly. Unknown tags match no version.
    """
    if if_none_match is not None and if_none_match.strip() == ANY:
        return frozenset()
    wanted = None if if_match is None or if_match.strip() == ANY else _versions(if_match)
    if if_none_match is None:
        return wanted
    excluded = _versions(if_none_match, weakly=True)
    return _AllBut(excluded) if wanted is None else wanted - excluded


def _versions(field: str, *, weakly: bool = False) -> frozenset[int]:
    tags = (tag.removeprefix("W/") if weakly else tag for tag in _ONE.findall(field))
    found = map(_VERSION.fullmatch, tags)
    return frozenset(int(each[1]) for each in found if each)


@dataclass(frozen=True, slots=True)
class _AllBut:
    """All versions except some."""

    excluded: frozenset[int]

    def __contains__(self, version: object) -> bool:
        return version not in self.excluded
