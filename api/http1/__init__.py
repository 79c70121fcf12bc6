"""HTTP/1.1 as this service speaks it, on top of uvicorn's protocol."""
