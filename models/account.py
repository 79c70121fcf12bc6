"""What happens to an account when somebody asks: signing in, and who may change what in it."""

from typing import TypedDict

from sqlalchemy.orm import Session

from models.actor import Actor
from models.errors import CurrentPasswordNeeded, NotPermitted, WrongCredentials, WrongPassword
from models.idempotency import IdempotencyRecord
from models.order import Order
from models.password import Passwords
from models.user import Role, User

_OWNERS = frozenset({"email", "password"})
_ADMINISTRATORS = frozenset({"role", "active"})


class Changes(TypedDict, total=False):
    """What is asked to be changed; what is left out stays."""

    name: str
    email: str
    password: str
    current_password: str
    role: Role
    active: bool


def sign_in(session: Session, passwords: Passwords, email: str, password: str) -> User:
    """Find the active account of an address and its password.

    Raises:
        WrongCredentials: there is none. An unknown address, a wrong password and a disabled
            account take the same time and look the same.
    """
    user = User.by_email(session, email)
    holds = passwords.verify(user.password_hash if user else None, password)
    if user is None or user.password_hash is None or not holds or not user.active:
        raise WrongCredentials
    if passwords.needs_rehash(user.password_hash):
        user.upgrade_password_hash(session, passwords.rehash(password))
    return user


def change_account(
    session: Session, user: User, changes: Changes, *, by: Actor, passwords: Passwords
) -> None:
    """Change what the actor may change of an account that they may see.

    Email address and password are the owner's, who proves it with the current password; role and
    activity are an administrator's; the name is anybody's who sees the account.

    Raises:
        NotPermitted: a member is not the actor's to change.
        CurrentPasswordNeeded, WrongPassword: the owner did not prove to be the owner.
        InvalidName, InvalidEmail, EmailTaken, WeakPassword, LastAdministrator: the change is none.
    """
    is_owner = by.user_id == user.id
    if not is_owner and not _OWNERS.isdisjoint(changes):
        raise NotPermitted("Email address and password can be changed by their owner only.")
    if not by.is_admin and not _ADMINISTRATORS.isdisjoint(changes):
        raise NotPermitted("Role and activity can be changed by an administrator only.")
    if not _OWNERS.isdisjoint(changes):
        _require_password(user, changes.get("current_password"), passwords)
    email, password = changes.get("email"), changes.get("password")
    user.change(
        session,
        name=changes.get("name"),
        email=email,
        role=changes.get("role"),
        active=changes.get("active"),
        password_hash=passwords.hash(password, email=email or user.email) if password else None,
    )


def erase_account(session: Session, user: User) -> None:
    """Erase the person behind an account, in everything that is kept of them.

    Raises:
        LastAdministrator: nobody would be left to run the service.
    """
    user.erase(session)
    Order.forget(session, user.id)
    IdempotencyRecord.forget(session, user.id)


def _require_password(user: User, current: str | None, passwords: Passwords) -> None:
    if current is None:
        raise CurrentPasswordNeeded
    if not passwords.verify(user.password_hash, current):
        raise WrongPassword
