"""Authenticator apps, which pyotp plays, enrolled straight in the database."""

from dataclasses import dataclass, field
from datetime import datetime

import pyotp
from sqlalchemy import update
from sqlalchemy.orm import Session

from api.credentials.signing import KeyRing
from models.access import authenticator_app as second_factor
from models.access.authenticator_app import SecondFactor
from models.access.recovery_code import RecoveryCode
from models.access.secret_box import SecretBox
from models.identity.user import User
from models.storage.base import utcnow
from models.storage.database import Database


@dataclass
class Authenticator:
    """An app that was told a secret, and the recovery codes that its owner wrote down."""

    secret: str
    recovery_codes: list[str] = field(default_factory=list)

    def code(self, *, steps: int = 0) -> str:
        """What it shows when its clock is so many steps of 30 seconds ahead of the service's."""
        return pyotp.TOTP(self.secret).at(_now(), counter_offset=steps)

    def wrong_code(self) -> str:
        """A code that it does not show anywhere near now."""
        near = {self.code(steps=steps) for steps in range(-50, 51)}
        return next(code for code in (f"{n:06}" for n in range(1000)) if code not in near)


def enrol_app(
    database: Database, keys: KeyRing, user: User, *, confirmed: bool = True
) -> Authenticator:
    """Give an account an authenticator, none of whose codes was used, in place of any other.

    The account's address is verified, as it has to be.
    """
    seal = SecretBox(keys.derive("second-factors"))

    def work(session: Session) -> Authenticator:
        SecondFactor.forget(session, user.id)
        verify_address(session, user)
        owner = session.get_one(User, user.id)
        app = Authenticator(SecondFactor.enrol(session, seal, owner, "shop.example").secret)
        if confirmed:
            session.get_one(SecondFactor, user.id).confirmed_at = utcnow()
            app.recovery_codes = RecoveryCode.replace(session, user.id)
        return app

    return database.transact(work, write=True)


def verify_address(session: Session, user: User) -> None:
    """Verify an account's address, without another version of the account."""
    session.execute(update(User).where(User.id == user.id).values(email_verified=True))


def _now() -> datetime:
    """What second factors take for the present, which a test can set."""
    now: datetime = vars(second_factor)["utcnow"]()
    return now
