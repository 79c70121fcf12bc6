"""What the business refuses, one noun an error. Status codes are none of its business."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


class DomainError(Exception):
    """A request that the business refuses.

    `detail` is a sentence for the person who sent the request. `extensions` are further members
    for their program. Both are public and never repeat what was sent.
    """

    detail: str = "The request was refused."

    def __init__(self, detail: str | None = None, **extensions: JSON) -> None:
        if detail is not None:
            self.detail = detail
        self.extensions: Mapping[str, JSON] = MappingProxyType(extensions)
        super().__init__(self.detail)


class NotFound(DomainError):
    """The thing does not exist, or is none of the caller's business: the two look the same."""

    detail = "There is no such resource."


class AccessEnded(DomainError):
    """Whoever asks was let in, and has been shut out since: erased, demoted or signed out."""

    detail = "The bearer token is not valid, has expired or was withdrawn."


class EmailTaken(DomainError):
    """Another account has this email address, or one that cannot be told apart from it."""

    detail = "An account with this email address exists."


class InvalidEmail(DomainError):
    """The text is not an email address that mail could be sent to."""

    detail = "This is not a valid email address."


class InvalidName(DomainError):
    """The text cannot be shown as the name of a person."""

    detail = "This is not a valid name."


class WeakPassword(DomainError):
    """The password would be guessed. `detail` says why."""

    detail = "This password is easy to guess."


class CurrentPasswordNeeded(DomainError):
    """A change that only the owner may make came without the proof of being the owner."""

    detail = "The current password is required to change the email address or the password."


class WrongPassword(DomainError):
    """The current password, asked for again before a sensitive change, is not this one."""

    detail = "The current password is wrong."


class WrongCredentials(DomainError):
    """Unknown email, wrong password or disabled account: which of them is not told."""

    detail = "The email address or the password is wrong."


class NotPermitted(DomainError):
    """The caller is known but may not do this."""

    detail = "You are not permitted to do this."


class LastAdministrator(DomainError):
    """The change would leave the service without an active administrator."""

    detail = "The last active administrator cannot be demoted, disabled or deleted."


class VersionMismatch(DomainError):
    """The row has changed since the caller last read it."""

    detail = "The resource has changed since you read it."


class ImpossibleDivision(DomainError):
    """The operands are numbers, but have no quotient."""

    detail = "Division by zero has no result."


class DatabaseUnavailable(DomainError):
    """The database is away, full, or too busy to answer in time. Nothing is known to be changed."""

    detail = "The database cannot be reached at the moment. Try again shortly."
