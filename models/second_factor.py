"""The second factor: codes by time (TOTP, RFC 6238) that an authenticator app shows.

Whoever guesses has a million codes to choose from and three of them are right, so that guesses are
counted and soon refused. The owner gets in meanwhile by a recovery code, which nobody guesses.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, Select, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.audit_event import AuditAction, AuditEvent, Origin
from models.base import Base, UTCDateTime, utcnow
from models.errors import SecondFactorActive, SecondFactorInactive, WrongCode
from models.recovery_code import RecoveryCode, compact
from models.seal import Seal
from models.token import Token
from models.totp import Enrolment, enrolment, new_secret, step_of
from models.user import User

_TOTP = re.compile(r"[0-9]{6}")
_FREE_FAILURES = 5
_LOCKS = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 4, 8, 15))
"""For how long the codes of the app are refused after the fifth failure in a row, the sixth ..."""


@dataclass(frozen=True, slots=True)
class SecondFactorState:
    """What an owner sees of their second factor."""

    active: bool
    confirmed_at: datetime | None
    recovery_codes_left: int


class SecondFactor(Base):
    """The authenticator of an account, which counts once a code has confirmed that it works.

    `last_step` is the newest step of time whose code was used: that one and those before are not
    taken again. `failures` counts wrong codes in a row.
    """

    __tablename__ = "second_factors"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary(128))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    confirmed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_step: Mapped[int] = mapped_column(BigInteger)
    failures: Mapped[int] = mapped_column()
    locked_until: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @classmethod
    def is_active(cls, session: Session, user_id: int) -> bool:
        """Tell whether signing in to an account takes a code."""
        return session.scalar(cls._confirmation(user_id)) is not None

    @classmethod
    def state(cls, session: Session, user_id: int) -> SecondFactorState:
        """Read what its owner may know of it."""
        confirmed_at = session.scalar(cls._confirmation(user_id))
        left = 0 if confirmed_at is None else RecoveryCode.count(session, user_id)
        return SecondFactorState(confirmed_at is not None, confirmed_at, left)

    @classmethod
    def enrol(cls, session: Session, seal: Seal, user: User) -> Enrolment:
        """Make a secret, in place of one that was not confirmed.

        Raises:
            SecondFactorActive: the account has one that was.
        """
        # Of two that begin together the later one counts, instead of failing.
        session.execute(select(User.id).where(User.id == user.id).with_for_update())
        known = cls._held(session, user.id)
        if known is not None and known.confirmed_at is not None:
            raise SecondFactorActive
        secret = new_secret()
        factor = known or cls(user_id=user.id)
        factor.sealed_secret = seal.seal(secret, owner=user.id)
        factor.created_at, factor.last_step = utcnow(), -1
        factor.forgive()
        session.add(factor)
        return enrolment(secret, user.email)

    @classmethod
    def confirm(
        cls, session: Session, seal: Seal, user: User, code: str, origin: Origin
    ) -> list[str]:
        """Make the factor count, and give the recovery codes; all other tokens are ended.

        Raises:
            SecondFactorInactive: none was begun.
            SecondFactorActive: it counts already.
            WrongCode: the authenticator would have shown another code.
        """
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
        seal: Seal,
        user_id: int,
        code: str,
        origin: Origin,
        *,
        action: AuditAction = "sign-in.second-factor",
    ) -> None:
        """Insist on a code of the authenticator, or a recovery code, and use it up.

        Raises:
            WrongCode: it is none, was used, or too many were tried; that is written down as a
                failure of the action.
        """
        factor = cls._held(session, user_id)
        if factor is None or factor.confirmed_at is None or not factor.takes(session, seal, code):
            _refuse(session, action, origin, user_id)

    @classmethod
    def replace_recovery_codes(
        cls, session: Session, seal: Seal, user: User, code: str, origin: Origin
    ) -> list[str]:
        """Make new recovery codes; the earlier ones are void.

        Raises:
            SecondFactorInactive: the account has no second factor.
            WrongCode: as in `verify`.
        """
        cls._require_active(session, user.id)
        action: AuditAction = "second-factor.recovery-codes"
        cls.verify(session, seal, user.id, code, origin, action=action)
        AuditEvent.record(session, action, origin, user_id=user.id)
        return RecoveryCode.replace(session, user.id)

    @classmethod
    def disable(cls, session: Session, seal: Seal, user: User, code: str, origin: Origin) -> None:
        """Let the account do without; all other tokens are ended.

        Raises:
            SecondFactorInactive: it does already.
            WrongCode: as in `verify`.
        """
        cls._require_active(session, user.id)
        action: AuditAction = "second-factor.disable"
        cls.verify(session, seal, user.id, code, origin, action=action)
        cls.forget(session, user.id)
        AuditEvent.record(session, action, origin, user_id=user.id)
        _end_other_tokens(session, user, origin)

    @classmethod
    def take_away(cls, session: Session, user: User) -> None:
        """Let an account whose owner lost the app and the codes do without; end all its tokens."""
        cls.forget(session, user.id)
        user.end_tokens(session)
        AuditEvent.record(session, "second-factor.disable", Origin(), user_id=user.id)

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Remove an account's second factor and its recovery codes."""
        RecoveryCode.forget(session, user_id)
        session.execute(delete(cls).where(cls.user_id == user_id))

    def takes(self, session: Session, seal: Seal, code: str) -> bool:
        """Use up a code of either kind; tell whether it was good."""
        text = compact(code)
        if _TOTP.fullmatch(text):
            return self.takes_shown(seal, text)
        if not RecoveryCode.redeem(session, self.user_id, text):
            return False
        self.forgive()
        return True

    def takes_shown(self, seal: Seal, code: str) -> bool:
        """Use up a code that the app shows; tell whether it was good. Wrong ones are counted."""
        now = utcnow()
        if self.locked_until is not None and now < self.locked_until:
            return False
        secret = seal.open(self.sealed_secret, owner=self.user_id)
        step = None if secret is None else step_of(secret, code, now)
        if step is None:
            self._count_failure(now)
            return False
        # A code that was used is refused, and is not counted: its sender need not have guessed.
        if step <= self.last_step:
            return False
        self.last_step = step
        self.forgive()
        return True

    def forgive(self) -> None:
        """Begin to count failures anew."""
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
        """Read the row as it is when others who try a code are kept waiting."""
        query = select(cls).where(cls.user_id == user_id).with_for_update()
        return session.scalar(query.execution_options(populate_existing=True))

    def _count_failure(self, now: datetime) -> None:
        self.failures += 1
        beyond = self.failures - _FREE_FAILURES
        if beyond >= 0:
            self.locked_until = now + _LOCKS[min(beyond, len(_LOCKS) - 1)]


def _refuse(session: Session, action: AuditAction, origin: Origin, user_id: int) -> NoReturn:
    AuditEvent.record(session, action, origin, user_id=user_id, succeeded=False)
    raise WrongCode


def _end_other_tokens(session: Session, user: User, origin: Origin) -> None:
    user.end_tokens(session)
    if origin.token_id is not None:
        Token.keep(session, origin.token_id, user)
