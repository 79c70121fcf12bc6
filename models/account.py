"""Who may change what in an account, what that ends, and what is written down about it."""

from typing import TypedDict

from sqlalchemy.orm import Session

from models.actor import Actor
from models.audit_event import AuditAction, AuditEvent, Origin
from models.errors import NotPermitted, ProofNeeded, WrongPassword
from models.idempotency import IdempotencyRecord
from models.message import Message
from models.one_time_token import OneTimeToken
from models.order import Order
from models.password import Passwords
from models.seal import Seal
from models.second_factor import SecondFactor
from models.token import Token
from models.user import Role, User

_OWNERS = frozenset({"password"})
_ADMINISTRATORS = frozenset({"role", "active", "password_change_required"})


class Changes(TypedDict, total=False):
    """What is asked to be changed; what is left out stays."""

    name: str
    password: str
    current_password: str
    code: str
    role: Role
    active: bool
    password_change_required: bool


def change_account(
    session: Session,
    user: User,
    changes: Changes,
    *,
    by: Actor,
    passwords: Passwords,
    seal: Seal,
    origin: Origin,
) -> None:
    """Change what the actor may change of an account that they may see.

    The password is the owner's, who proves it with the current one, and with a code where there
    is a second factor; role and activity are an
    administrator's; the name is anybody's who sees the account.

    Raises:
        NotPermitted: a member is not the actor's to change.
        ProofNeeded, WrongPassword, WrongCode: the owner did not prove to be the owner.
        InvalidName, WeakPassword, LastAdministrator: the change is none.
        AccessEnded: their tokens were ended meanwhile.
    """
    user.require_standing(by)
    is_owner = by.user_id == user.id
    if not is_owner and not _OWNERS.isdisjoint(changes):
        raise NotPermitted("The password can be changed by its owner only.")
    if not by.is_admin and not _ADMINISTRATORS.isdisjoint(changes):
        raise NotPermitted("Role and activity can be changed by an administrator only.")
    password = changes.get("password")
    if password is not None:
        current, code = changes.get("current_password"), changes.get("code")
        require_password(session, user, current, passwords, origin, "password.change")
        require_code(session, user, code, seal, origin, "password.change")
    before = user.role, user.active, user.password_hash, user.password_change_required
    user.change(
        session,
        name=changes.get("name"),
        role=changes.get("role"),
        active=changes.get("active"),
        password_hash=passwords.hash(password, email=user.email) if password else None,
        password_change_required=changes.get("password_change_required"),
    )
    _record_changes(session, user, before, origin)
    if is_owner and password and origin.token_id is not None:
        # Whoever changes their password stays signed in where they do it, and nowhere else.
        Token.keep(session, origin.token_id, user)


def erase_account(session: Session, user: User, *, by: Actor, origin: Origin) -> None:
    """Erase the person behind an account, in everything that is kept of them.

    Raises:
        LastAdministrator: nobody would be left to run the service.
        AccessEnded: the actor's tokens were ended meanwhile.
    """
    user.require_standing(by)
    Message.forget(session, user)
    user.erase(session)
    Order.forget(session, user.id)
    IdempotencyRecord.forget(session, user.id)
    Token.forget(session, user.id)
    OneTimeToken.withdraw(session, user.id)
    SecondFactor.forget(session, user.id)
    AuditEvent.record(session, "account.delete", origin, user_id=user.id)
    AuditEvent.forget(session, user.id)


def _record_changes(
    session: Session, user: User, before: tuple[object, ...], origin: Origin
) -> None:
    """Write down what changed in who may do what."""
    role, active, password_hash, required = before
    changed: list[AuditAction] = []
    if user.role != role:
        changed.append("account.role")
    if user.active != active:
        changed.append("account.enable" if user.active else "account.disable")
    if user.password_hash != password_hash:
        changed.append("password.change")
        Message.enqueue(session, "password_changed", user.id)
    if user.password_change_required and not required:
        changed.append("account.require-password-change")
    for action in changed:
        AuditEvent.record(session, action, origin, user_id=user.id)


def require_password(
    session: Session,
    user: User,
    current: str | None,
    passwords: Passwords,
    origin: Origin,
    action: AuditAction,
) -> None:
    """Insist on the proof of being the owner that the current password is.

    Raises:
        ProofNeeded: there is none.
        WrongPassword: there is another one, which is written down as a failure of the action.
    """
    if current is None:
        raise ProofNeeded("current_password", "The current password is required for this change.")
    if not passwords.verify(user.password_hash, current):
        AuditEvent.record(session, action, origin, user_id=user.id, succeeded=False)
        raise WrongPassword


def require_code(
    session: Session,
    user: User,
    code: str | None,
    seal: Seal,
    origin: Origin,
    action: AuditAction,
) -> None:
    """Insist on a code as well, where the account has a second factor.

    Raises:
        ProofNeeded, WrongCode: there is none, or one that does not hold.
    """
    if not SecondFactor.is_active(session, user.id):
        return
    if code is None:
        raise ProofNeeded("code", "A code of the second factor is required for this change.")
    SecondFactor.verify(session, seal, user.id, code, origin, action=action)
