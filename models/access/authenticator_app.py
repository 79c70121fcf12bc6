"""The second factor: time-based codes (TOTP, RFC 6238) from an authenticator app.

Three of a million codes are valid at any moment, so repeated failures lock out the app's codes for
a while. During that time, the owner can use a recovery code, which is too long to guess.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, Select, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.access.recovery_code import RecoveryCode, compact
from models.access.secret_box import SecretBox
from models.access.totp import Enrolment, enrolment, new_secret, step_of
from models.errors import (
    AccessEnded,
    EmailUnverified,
    SecondFactorActive,
    SecondFactorInactive,
    WrongCode,
)
from models.identity.audit_event import AuditAction, AuditEvent, RequestOrigin
from models.identity.token import Token
from models.identity.user import User
from models.storage.base import ERASED, Base, UTCDateTime, utcnow
from models.storage.reader import Reader

_TOTP = re.compile(r"[0-9]{6}")
_FREE_FAILURES = 5
_LOCKS = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 4, 8, 15))
"""Lockout of the app's codes after the fifth, sixth, and each later failure in a row."""


@dataclass(frozen=True, slots=True)
class SecondFactorState:
    """The state of a second factor, as shown to its owner."""

    active: bool
    confirmed_at: datetime | None
    recovery_codes_left: int


class SecondFactor(Base):
    """The authenticator app of an account, active once a code has confirmed it.

    `last_step` is the newest time step whose code was used. Codes of that step and earlier ones are
    invalid. `failures` counts wrong codes in a row.
    """

    __tablename__ = "second_factors"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, info=ERASED)
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary(128))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    confirmed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_step: Mapped[int] = mapped_column(BigInteger)
    failures: Mapped[int] = mapped_column()
    locked_until: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @classmethod
    def is_active(cls, session: Session, user_id: int) -> bool:
        """Return whether signing in to an account requires a code."""
        return session.scalar(cls._confirmation(user_id)) is not None

    @classmethod
    def state(cls, reader: Reader, user_id: int) -> SecondFactorState:
        """Return the state of an account's second factor."""
        confirmed_at = reader.scalar(cls._confirmation(user_id))
        left = 0 if confirmed_at is None else RecoveryCode.count(reader, user_id)
        return SecondFactorState(confirmed_at is not None, confirmed_at, left)

    @classmethod
    def enrol(cls, session: Session, seal: SecretBox, user: User, issuer: str) -> Enrolment:
        """Create a new secret. It replaces an unconfirmed one.

        Authenticator apps show `issuer`, the host and path of the service.

        Raises:
            EmailUnverified: The email address is not verified. It may belong to another person,
                whom the second factor would lock out.
            SecondFactorActive: The account already has an active second factor.
            AccessEnded: The account was erased after `user` was read.
        """
        if not user.email_verified:
            raise EmailUnverified
        # The row lock serializes concurrent enrolments, so the later one replaces the earlier one.
        # It also keeps an erasure from missing the secret.
        held = select(User.id).where(User.exists(), User.id == user.id).with_for_update()
        if session.scalar(held) is None:
            raise AccessEnded
        known = cls._held(session, user.id)
        if known is not None and known.confirmed_at is not None:
            raise SecondFactorActive
        secret = new_secret()
        factor = known or cls(user_id=user.id)
        factor.sealed_secret = seal.seal(secret, owner=user.id)
        factor.created_at, factor.last_step = utcnow(), -1
        factor.forgive()
        session.add(factor)
        return enrolment(secret, user.email, issuer)

    @classmethod
    def confirm(
        cls, session: Session, seal: SecretBox, user: User, code: str, origin: RequestOrigin
    ) -> list[str]:
        """Activate the second factor, end all other tokens, and return the recovery codes.

        Raises:
            EmailUnverified: As in `enrol`.
            SecondFactorInactive: No enrolment has been started.
            SecondFactorActive: The second factor is already active.
            WrongCode: The code is incorrect or already used, or too many codes were tried.
        """
        if not user.email_verified:
            raise EmailUnverified
        factor = cls._held(session, user.id)
        if factor is None:
            raise SecondFactorInactive
        if factor.confirmed_at is not None:
            raise SecondFactorActive
        if not factor.takes_shown(seal, compact(code)):
            _refuse(session, "second-factor.confirm", origin, user.id)
        factor.confirmed_at = utcnow()
        codes = RecoveryCode.replace(session, user.id)
        AuditEvent.record(session, "second-factor.confirm", origin, user_id=user.id)
        _end_other_tokens(session, user, origin)
        return codes

    @classmethod
    def verify(
        cls,
        session: Session,
        seal: SecretBox,
        user_id: int,
        code: str,
        origin: RequestOrigin,
        *,
        action: AuditAction = "sign-in.second-factor",
    ) -> None:
        """Check a code from the app or a recovery code, and mark it as used.

        Raises:
            WrongCode: The account has no active second factor, the code is incorrect or already
                used, or too many codes were tried. The audit log records a failure of the action.
        """
        factor = cls._held(session, user_id)
        if factor is None or factor.confirmed_at is None or not factor.takes(session, seal, code):
            _refuse(session, action, origin, user_id)

    @classmethod
    def replace_recovery_codes(
        cls, session: Session, seal: SecretBox, user: User, code: str, origin: RequestOrigin
    ) -> list[str]:
        """Return new recovery codes, which replace the earlier ones.

        Raises:
            SecondFactorInactive: The account has no active second factor.
            WrongCode: As in `verify`.
        """
        cls._require_active(session, user.id)
        action: AuditAction = "second-factor.recovery-codes"
        cls.verify(session, seal, user.id, code, origin, action=action)
        AuditEvent.record(session, action, origin, user_id=user.id)
        return RecoveryCode.replace(session, user.id)

    @classmethod
    def disable(
        cls, session: Session, seal: SecretBox, user: User, code: str, origin: RequestOrigin
    ) -> None:
        """Disable the second factor and end all other tokens.

        Raises:
            SecondFactorInactive: The account has no active second factor.
            WrongCode: As in `verify`.
        """
        cls._require_active(session, user.id)
        action: AuditAction = "second-factor.disable"
        cls.verify(session, seal, user.id, code, origin, action=action)
        cls.forget(session, user.id)
        AuditEvent.record(session, action, origin, user_id=user.id)
        _end_other_tokens(session, user, origin)

    @classmethod
    def take_away(cls, session: Session, user: User) -> None:
        """Disable the second factor of an owner who lost the app and the recovery codes.

        No code is required. All tokens of the account end.
        """
        cls.forget(session, user.id)
        user.end_tokens(session)
        AuditEvent.record(session, "second-factor.disable", RequestOrigin(), user_id=user.id)

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Delete an account's second factor and its recovery codes."""
        RecoveryCode.forget(session, user_id)
        session.execute(delete(cls).where(cls.user_id == user_id))

    def takes(self, session: Session, seal: SecretBox, code: str) -> bool:
        """Use a code from the app or a recovery code, and return whether it was valid."""
        text = compact(code)
        if _TOTP.fullmatch(text):
            return self.takes_shown(seal, text)
        if not RecoveryCode.redeem(session, self.user_id, text):
            return False
        self.forgive()
        return True

    def takes_shown(self, seal: SecretBox, code: str) -> bool:
        """Use a code from the app, and return whether it was valid. Wrong codes are counted."""
        now = utcnow()
        if self.locked_until is not None and now < self.locked_until:
            return False
        secret = seal.open(self.sealed_secret, owner=self.user_id)
        step = None if secret is None else step_of(secret, code, now)
        if step is None:
            self._count_failure(now)
            return False
        # A reused code is invalid but not counted as a failure, because it was not a guess.
        if step <= self.last_step:
            return False
        self.last_step = step
        self.forgive()
        return True

    def forgive(self) -> None:
        """Reset the failure count and the lockout."""
        self.failures, self.locked_until = 0, None

    @classmethod
    def _confirmation(cls, user_id: int) -> Select[datetime | None]:
        return select(cls.confirmed_at).where(cls.user_id == user_id)

    @classmethod
    def _require_active(cls, session: Session, user_id: int) -> None:
        if not cls.is_active(session, user_id):
            raise SecondFactorInactive

    @classmethod
    def _held(cls, session: Session, user_id: int) -> "SecondFactor | None":
        """Lock the row, so that concurrent attempts wait, and return its current state."""
        query = select(cls).where(cls.user_id == user_id).with_for_update()
        return session.scalar(query.execution_options(populate_existing=True))

    def _count_failure(self, now: datetime) -> None:
        self.failures += 1
        beyond = self.failures - _FREE_FAILURES
        if beyond >= 0:
            self.locked_until = now + _LOCKS[min(beyond, len(_LOCKS) - 1)]


def _refuse(session: Session, action: AuditAction, origin: RequestOrigin, user_id: int) -> NoReturn:
    AuditEvent.record(session, action, origin, user_id=user_id, succeeded=False)
    raise WrongCode


def _end_other_tokens(session: Session, user: User, origin: RequestOrigin) -> None:
    user.end_tokens(session)
    if origin.token_id is not None:
        Token.keep(session, origin.token_id, user)
