"""The actor of an operation, as the business rules see it."""

from typing import Protocol


class Actor(Protocol):
    """The account on whose behalf an operation or a job runs."""

    @property
    def user_id(self) -> int:
        """The id of the actor's account."""

    @property
    def token_version(self) -> int:
        """The account's `token_version` when the request was authenticated."""

    @property
    def is_admin(self) -> bool:
        """Whether the actor has administrator rights, and so may access all accounts."""
