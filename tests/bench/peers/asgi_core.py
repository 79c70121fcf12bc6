"""A bare ASGI function with the SQL of `core`."""

from tests.bench.peers import core
from tests.bench.peers.bare import make_app

app = make_app(core)
