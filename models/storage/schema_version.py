"""Schema versions: the version of a database, and whether this release can work with it.

A version is the revision of the last migration. A migration that only expands the schema has a
revision such as `0012`, and older releases can continue to use the database. The revision of a
migration that older code cannot work with names the oldest migration whose release can:
`0012_since_0010`. All later revisions state it as well, so that a release can tell from the version
alone, although it does not know the migration.
"""

import re
from functools import cache
from pathlib import Path

MIGRATIONS = Path(__file__).parents[1] / "migrations"

_REVISION = re.compile(r"(?P<number>\d{4})(?:_since_(?P<oldest>\d{4}))?")


class SchemaError(Exception):
    """This release cannot work with the database's schema; `str` says why in one line."""


@cache
def known_versions() -> tuple[str, ...]:
    """Return the versions of this release, oldest first: the beginnings of its scripts' names."""
    names = sorted(file.name for file in MIGRATIONS.glob("versions/[0-9]*.py"))
    return tuple(match[0] for name in names if (match := _REVISION.match(name)))


def newest_version() -> str:
    """Return the version that `migrate` leads to."""
    return known_versions()[-1]


def schema_fault(found: str | None) -> str | None:
    """Return in one line why this release cannot work with a version; `None` if it can."""
    newest = newest_version()
    if found == newest:
        return None
    if found is None:
        return "the database is not migrated: run the command migrate"
    if found in known_versions():
        return f"the schema has version {found} instead of {newest}: run the command migrate"
    match = _REVISION.fullmatch(found)
    if match is None or match["number"] <= newest[:4]:
        return f"the schema has the version {found!r}, which is not a version of Concord"
    if (match["oldest"] or "") > newest[:4]:
        return f"the schema has version {found}: start the release of Concord that migrated it"
    return None
