"""The service's HTTP/1.1, on top of uvicorn's protocol."""
