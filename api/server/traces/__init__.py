"""Traces of requests and background jobs."""
