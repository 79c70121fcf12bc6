"""Conditional requests (RFC 9110, section 13): entity tags made, compared, turned to versions."""

import hashlib
import re
from functools import lru_cache
from typing import Final

_ETAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_ONE = re.compile(_ETAG)
_VERSION = re.compile(r'"(0|[1-9][0-9]{0,17})"')
ANY: Final = "*"


def entity_tag(version: int | None, body: bytes) -> str:
    """Make a strong tag from the row's version or, where there is none, from the body."""
    if version is not None:
        return f'"{version}"'
    return _digest(body)


@lru_cache(maxsize=64)
def _digest(body: bytes) -> str:
    """Hash a body; that of a large file, which is the same object each time, only once."""
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def matches_none(field: str | None, tag: str) -> bool:
    """Tell whether `If-None-Match` names the tag, so that a GET answers 304.

    The comparison is weak (section 13.1.2): `W/` is passed over on both sides.
    """
    if field is None:
        return False
    return field.strip() == ANY or tag in [sent.removeprefix("W/") for sent in _ONE.findall(field)]


def acceptable_versions(field: str | None) -> frozenset[int] | None:
    """Return the row versions that `If-Match` accepts; None when any will do.

    The comparison is strong (section 13.1.1): a weak tag, or one that this service never made,
    matches no version.
    """
    if field is None or field.strip() == ANY:
        return None
    versions = map(_VERSION.fullmatch, _ONE.findall(field))
    return frozenset(int(found[1]) for found in versions if found)
