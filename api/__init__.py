"""What speaks HTTP: one module of handlers a tag, and in `contract` the engine that runs them."""
