"""A bare ASGI function without SQLAlchemy: about the limit of what Python can do."""

from tests.bench.peers import drivers
from tests.bench.peers.bare import make_app

app = make_app(drivers)
