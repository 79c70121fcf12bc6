"""Brings a database to the newest schema, by the scripts in `migrations/versions`."""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config

from models.database import Database

# Alembic's `op` and `context` belong to the whole process, so one migration runs in it at a time.
_ALEMBIC = threading.Lock()


def migrate(database: Database, *, patience: float = 60.0) -> None:
    """Apply the migrations that are missing. With none missing, nothing happens.

    Replicas may start together: one migrates and the others wait up to `patience` seconds for it.

    Raises:
        DatabaseUnavailable: the database is away, or another process took too long.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with database.maintenance(patience=patience) as connection, _ALEMBIC:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
