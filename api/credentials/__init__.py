"""Authentication: from the `Authorization` header to the caller, and the signing keys."""
