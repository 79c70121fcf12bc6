"""Instants as clients send them."""

from datetime import datetime


def instant(text: str | None) -> datetime | None:
    """Read a time that the contract has checked."""
    return None if text is None else datetime.fromisoformat(text)
