"""Migration of a database to the newest schema, with the scripts in `migrations/versions`."""

import threading

from sqlalchemy import inspect

from models.storage.database import Database
from models.storage.schema_version import (
    MIGRATIONS,
    SchemaError,
    known_versions,
    newest_version,
    schema_fault,
)

# Alembic's `op` and `context` are global, so only one migration can run in a process at a time.
_ALEMBIC = threading.Lock()


def migrate(database: Database, *, to: str | None = None, patience: float = 60.0) -> None:
    """Apply all pending migrations, if any, or lead to the version `to`.

    An older version loses what later migrations added, with its data.
    If several replicas start together, one migrates and the others wait up to `patience` seconds.
    A newer schema that this release can work with is left as it is.

    Raises:
        DatabaseUnavailable: The database is unreachable, or another process took too long.
        SchemaError: The schema has a version that this release cannot work with, or the database
            belongs to another program, or there is no version `to`.
    """
    versions, target = known_versions(), to or newest_version()
    if target not in versions:
        raise SchemaError(f"there is no version {target!r}: the newest one is {versions[-1]}")
    if _has_reached(database.schema_version(), target):
        return
    from alembic import command  # noqa: PLC0415 - it takes 7 MB, and most starts migrate nothing.
    from alembic.config import Config  # noqa: PLC0415 - as above.

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.maintenance(patience=patience) as connection, _ALEMBIC:
        config.attributes["connection"] = connection
        # Another process may have migrated the database meanwhile.
        version = database.schema_version()
        if _has_reached(version, target):
            return
        if version is None:
            _require_empty(database)
        newer = version is None or versions.index(target) > versions.index(version)
        (command.upgrade if newer else command.downgrade)(config, target)


def _has_reached(version: str | None, target: str) -> bool:
    """Return whether nothing is left to migrate, as after a release that this one can work with."""
    if version is None or version in known_versions():
        return version == target
    if fault := schema_fault(version):
        raise SchemaError(fault)
    return True


def _require_empty(database: Database) -> None:
    names = database.transact(
        lambda session: inspect(session.connection()).get_table_names(), write=False
    )
    if others := sorted({*names} - {"alembic_version"}):
        raise SchemaError(
            f"the database has tables of another program, such as {others[0]!r}: use an empty one"
        )
