"""The HTTP layer: one module of handlers per tag, and the engine in `contract` that runs them."""
