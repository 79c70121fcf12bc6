"""Whoever asks for something, as far as the rules need to know."""

from typing import Protocol


class Actor(Protocol):
    """The caller of an operation, or whoever a job runs for."""

    @property
    def user_id(self) -> int:
        """The account that they act for."""

    @property
    def token_version(self) -> int:
        """How often the account's tokens had been ended when they were let in."""

    @property
    def is_admin(self) -> bool:
        """Whether they run the service, and may see everybody."""
