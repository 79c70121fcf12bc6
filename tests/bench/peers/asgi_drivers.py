"""A bare ASGI function without SQLAlchemy, which shows roughly the limit of Python."""

from tests.bench.peers import drivers
from tests.bench.peers.bare import make_app

app = make_app(drivers)
