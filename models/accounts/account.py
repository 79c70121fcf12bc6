"""Changing and erasing accounts: permissions, ended tokens and audit events."""

from typing import TypedDict

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.access.authenticator_app import SecondFactor
from models.access.secret_box import SecretBox
from models.actor import Actor
from models.errors import NotPermitted, ProofNeeded, WeakPassword, WrongPassword
from models.identity.audit_event import AuditAction, AuditEvent, RequestOrigin
from models.identity.password import Passwords
from models.identity.token import Token
from models.identity.user import Role, User
from models.lifecycle import Lifecycle
from models.messages.message import Message
from models.orders.order_erasure import close_orders, forget_customer
from models.storage.base import delete_rows_of
from models.storage.idempotency_record import IdempotencyRecord

_OWNERS = frozenset({"password"})
_ADMINISTRATORS = frozenset({"role", "active", "password_change_required"})


class Changes(TypedDict, total=False):
    """Requested changes to an account. Omitted fields stay unchanged."""

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
    seal: SecretBox,
    origin: RequestOrigin,
) -> None:
    """Change an account that is visible to the actor.

    Only the owner can change the password. This requires the current password and, if the account
    has a second factor, a code. Only administrators can change `role`, `active` and
    `password_change_required`. The owner and administrators can change the name.

    Raises:
        NotPermitted: The actor may not change one of the fields.
        ProofNeeded, WrongPassword, WrongCode: The current password or the code is missing or
            incorrect.
        InvalidName, WeakPassword, LastAdministrator: The change is not allowed.
        AccessEnded: The actor's tokens ended after the request was authenticated.
    """
    user.require_current_token(by)
    is_owner = by.user_id == user.id
    if not is_owner and not _OWNERS.isdisjoint(changes):
        raise NotPermitted("Only the owner can change the password.")
    if not by.is_admin and not _ADMINISTRATORS.isdisjoint(changes):
        raise NotPermitted("Only an administrator can change role or activity.")
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
        password_hash=hash_new_password(user, password, passwords) if password else None,
        password_change_required=changes.get("password_change_required"),
    )
    _record_changes(session, user, before, origin)
    if is_owner and password and origin.token_id is not None:
        # Changing the password ends all tokens except the one that made the request.
        Token.keep(session, origin.token_id, user)


def erase_account(
    session: Session, lifecycle: Lifecycle, user: User, *, by: Actor, origin: RequestOrigin
) -> None:
    """Erase an account and all personal data of its owner.

    Pending orders are cancelled. An undelivered order keeps the data that its delivery needs until
    it has ended; only administrators other than the owner can erase such an account.

    Rows whose foreign key to the account is declared `ERASED` are deleted. In rows that are kept,
    the model's `forget` method removes the personal data.

    Raises:
        OrdersOpen: The actor is the owner, and an order is paid but not delivered.
        LastAdministrator: Erasing the account would leave no active administrator.
        AccessEnded: The actor's tokens ended after the request was authenticated.
    """
    user.require_current_token(by)
    # This locks the rows of all administrators in one order, so it comes before the account's own.
    user.require_another_administrator(session)
    # Requests of the owner hold the row too, so no order is placed from here on.
    session.execute(select(User.id).where(User.id == user.id).with_for_update(key_share=True))
    close_orders(session, lifecycle, user.id, by=by)
    Message.forget_address(session, user.email_key)
    user.erase(session)
    forget_customer(session, user.id, by=by)
    IdempotencyRecord.forget(session, user.id)
    delete_rows_of(session, user.id)
    AuditEvent.record(session, "account.delete", origin, user_id=user.id)
    AuditEvent.forget(session, user.id)


def _record_changes(
    session: Session, user: User, before: tuple[object, ...], origin: RequestOrigin
) -> None:
    """Record the security-relevant changes in the audit log, and notify of a new password."""
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


def hash_new_password(user: User, password: str, passwords: Passwords) -> str:
    """Return the hash of an account's new password.

    Raises:
        WeakPassword: The password is too weak, or it is the one that the account must change.
    """
    if user.password_change_required and passwords.verify(user.password_hash, password):
        raise WeakPassword("The new password must differ from the current one.")
    return passwords.hash(password, email=user.email)


def require_password(
    session: Session,
    user: User,
    current: str | None,
    passwords: Passwords,
    origin: RequestOrigin,
    action: AuditAction,
) -> None:
    """Check the account's current password.

    Raises:
        ProofNeeded: The current password is missing.
        WrongPassword: The password is incorrect. The audit log records a failure of the action.
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
    seal: SecretBox,
    origin: RequestOrigin,
    action: AuditAction,
) -> None:
    """Check a code, if the account has an active second factor.

    Raises:
        ProofNeeded: The code is missing.
        WrongCode: As in `SecondFactor.verify`.
    """
    if not SecondFactor.is_active(session, user.id):
        return
    if code is None:
        raise ProofNeeded("code", "A second-factor code is required for this change.")
    SecondFactor.verify(session, seal, user.id, code, origin, action=action)
