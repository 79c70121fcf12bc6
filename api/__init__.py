"""The HTTP layer: one module of handlers per tag, and the engine in `contract` that runs them."""

import gc

# Imports and contracts consist of many objects that stay. With Python's usual threshold of 700, the
# garbage collector would look at all of them so often that it takes a fifth of the start-up time.
gc.set_threshold(20_000, 20, 20)
