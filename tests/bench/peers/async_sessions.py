"""Sessions of the peers that use SQLAlchemy for asyncio: aiosqlite, or psycopg asynchronously.

https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html; `run_sync` is one change of greenlets
for a whole piece of work, so it costs less than awaiting each statement.
"""

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from tests.bench.peers import shop
from tests.bench.peers.settings import DATABASE_URL


def make_engine() -> AsyncEngine:
    url = make_url(DATABASE_URL)
    if url.get_backend_name() == "postgresql":
        return create_async_engine(url.set(drivername="postgresql+psycopg"), **shop.POOL)
    url, patience = url.set(drivername="sqlite+aiosqlite"), {"timeout": shop.BUSY_SECONDS}
    engine = create_async_engine(url, connect_args=patience, **shop.POOL)
    shop.use_sqlite(engine.sync_engine)
    return engine


engine = make_engine()
ReadingSession = async_sessionmaker(engine, expire_on_commit=False)
WritingSession = async_sessionmaker(
    engine.execution_options(**shop.WRITING), expire_on_commit=False
)
