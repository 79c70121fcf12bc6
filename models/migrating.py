"""Brings a database to the newest schema, by the scripts in `migrations/versions`."""

import threading
from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.orm import Session

from models.database import Database

_MIGRATIONS = Path(__file__).with_name("migrations")
# Alembic's `op` and `context` belong to the whole process, so one migration runs in it at a time.
_ALEMBIC = threading.Lock()


def migrate(database: Database, *, patience: float = 60.0) -> None:
    """Apply the migrations that are missing. With none missing, nothing happens.

    Replicas may start together: one migrates and the others wait up to `patience` seconds for it.

    Raises:
        DatabaseUnavailable: the database is away, or another process took too long.
    """
    if database.transact(_version, write=False) == newest_version():
        return
    from alembic import command  # noqa: PLC0415 - it takes 7 MB, and most starts migrate nothing.
    from alembic.config import Config  # noqa: PLC0415 - as above.

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with database.maintenance(patience=patience) as connection, _ALEMBIC:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def newest_version() -> str:
    """Return what Alembic calls the head; the name of its script begins with it."""
    return max(file.name for file in _MIGRATIONS.glob("versions/[0-9]*.py")).partition("_")[0]


def _version(session: Session) -> str | None:
    if not inspect(session.connection()).has_table("alembic_version"):
        return None
    versions = session.scalars(text("SELECT version_num FROM alembic_version")).all()
    # What has two has been damaged, or is being merged: that is for Alembic to judge.
    return versions[0] if len(versions) == 1 else None
