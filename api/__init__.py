"""The HTTP layer: one module of handlers per tag, and the engine in `contract` that runs them."""

import gc

# Imported modules stay in memory. Looking for garbage among them would take a tenth of the start-up
# time, so the garbage collector does not run until `make_asgi` creates the application.
gc.set_threshold(400_000, 20, 20)
