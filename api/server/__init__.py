"""The server process: command line, settings, ASGI server, workers, logs, metrics and upkeep."""
