"""The rules of second factors, without HTTP: timed codes, recovery codes, and encryption."""

import secrets
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from models.access.authenticator_app import SecondFactor
from models.access.recovery_code import RecoveryCode, compact
from models.access.secret_box import SecretBox
from models.access.totp import enrolment, new_secret, step_of
from models.accounts.account import erase_account
from models.errors import AccessEnded, SecondFactorActive, WrongCode
from models.identity.audit_event import RequestOrigin
from models.identity.user import User
from models.storage.database import Database
from tests.factories import LIFECYCLE, ROOT, make_user
from tests.models.together import together

pytestmark = [pytest.mark.mission("M12"), pytest.mark.mission("M25")]

SEAL = SecretBox(secrets.token_bytes(32))
ISSUER = "shop.example"
# RFC 6238, appendix B, for SHA-1: the last six of the eight digits.
VECTORS = {
    59: "287082",
    1111111109: "081804",
    1111111111: "050471",
    1234567890: "005924",
    2000000000: "279037",
    20000000000: "353130",
}
RFC_SECRET = b"12345678901234567890"


@pytest.mark.parametrize(("seconds", "code"), VECTORS.items())
def test_codes_are_those_of_the_rfc(seconds: int, code: str) -> None:
    assert step_of(RFC_SECRET, code, datetime.fromtimestamp(seconds, UTC)) == seconds // 30


@given(
    st.binary(min_size=20, max_size=20),
    st.integers(min_value=0, max_value=2**31),
    st.text(alphabet="0123456789", min_size=6, max_size=6),
)
def test_a_code_matches_a_step_near_now_or_none(secret: bytes, seconds: int, code: str) -> None:
    now = datetime.fromtimestamp(seconds + 60, UTC)
    step = step_of(secret, code, now)
    assert step is None or abs(step - (seconds + 60) // 30) <= 1


@given(st.emails())
def test_the_uri_is_printable_and_bounded_for_any_address(email: str) -> None:
    secret, uri = enrolment(new_secret(), email, ISSUER)
    assert uri.startswith("otpauth://totp/shop.example:")
    assert uri.isascii()
    assert uri.isprintable()
    assert " " not in uri
    assert len(enrolment(new_secret(), email, f"{'a' * 247}:65535").otpauth_uri) <= 1536
    assert len(uri) <= 1024
    assert f"?secret={secret}&issuer={ISSUER}" in uri


@given(st.binary(max_size=64), st.integers(min_value=1))
def test_an_encrypted_secret_opens_for_its_owner_only(secret: bytes, owner: int) -> None:
    sealed = SEAL.seal(secret, owner=owner)
    assert SEAL.open(sealed, owner=owner) == secret
    assert SEAL.seal(secret, owner=owner) != sealed
    assert SEAL.open(sealed, owner=owner + 1) is None
    assert SecretBox(secrets.token_bytes(32)).open(sealed, owner=owner) is None


@given(st.data())
def test_a_modified_secret_is_detected(data: st.DataObject) -> None:
    sealed = bytearray(SEAL.seal(b"a secret of some length", owner=1))
    bit = data.draw(st.integers(min_value=0, max_value=8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    assert SEAL.open(bytes(sealed), owner=1) is None


def test_an_encrypted_secret_fits_into_its_column() -> None:
    assert len(SEAL.seal(new_secret(), owner=2**63 - 1)) <= 128


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567", min_size=28, max_size=28), st.data())
def test_spaces_dashes_and_case_do_not_matter(code: str, data: st.DataObject) -> None:
    ignored = st.sampled_from(["", *" -\t\xa0\u3000\u2011\u2013\u2014\u2212\uff0d\u200b"])
    marks = data.draw(st.lists(ignored, min_size=28, max_size=28))
    upper = data.draw(st.lists(st.booleans(), min_size=28, max_size=28))
    wide = data.draw(st.booleans())
    typed = "".join(
        mark + (letter.upper() if is_upper else letter)
        for mark, letter, is_upper in zip(marks, code, upper, strict=True)
    )
    if wide:
        typed = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in typed)
    assert compact(typed) == code


def test_a_set_has_ten_distinct_codes(database: Database) -> None:
    user = make_user(database)
    codes = database.transact(lambda s: RecoveryCode.replace(s, user.id), write=True)
    assert len(set(codes)) == 10
    for code in codes:
        groups = code.split("-")
        assert [len(group) for group in groups] == [4] * 7
        assert set("".join(groups)) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_a_new_set_replaces_the_previous_one(database: Database) -> None:
    user = make_user(database)
    first, _ = (
        database.transact(lambda s: RecoveryCode.replace(s, user.id), write=True) for _ in range(2)
    )
    for code in first:
        redeem = partial(RecoveryCode.redeem, user_id=user.id, code=compact(code))
        assert not database.transact(redeem, write=True)
    assert database.transact(lambda s: RecoveryCode.count(s, user.id), write=False) == 10


def test_concurrent_enrolments_leave_one_secret(database: Database) -> None:
    user = make_user(database, verified=True)

    def enrol() -> str:
        def work(session: Session) -> str:
            return SecondFactor.enrol(session, SEAL, session.get_one(User, user.id), ISSUER).secret

        return database.transact(work, write=True)

    made = together(*[enrol] * 4)
    assert all(isinstance(secret, str) for secret in made), made
    assert not database.transact(lambda s: SecondFactor.is_active(s, user.id), write=False)


def test_a_confirmed_secret_is_not_replaced(database: Database) -> None:
    user = make_user(database, verified=True)

    def work(session: Session) -> None:
        SecondFactor.enrol(session, SEAL, user, ISSUER)
        session.get_one(SecondFactor, user.id).confirmed_at = datetime.now(UTC)
        with pytest.raises(SecondFactorActive):
            SecondFactor.enrol(session, SEAL, user, ISSUER)

    database.transact(work, write=True)


def test_an_account_that_was_erased_meanwhile_gets_no_secret(database: Database) -> None:
    user = make_user(database, verified=True)

    def erase(session: Session) -> None:
        account = User.visible_to(session, ROOT, user.id)
        erase_account(session, LIFECYCLE, account, by=ROOT, origin=RequestOrigin())

    database.transact(erase)
    with pytest.raises(AccessEnded):
        database.transact(lambda session: SecondFactor.enrol(session, SEAL, user, ISSUER))


def test_every_code_is_wrong_without_a_second_factor(database: Database) -> None:
    user = make_user(database)

    def work(session: Session) -> None:
        for code in ("000000", "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaa"):
            with pytest.raises(WrongCode):
                SecondFactor.verify(session, SEAL, user.id, code, RequestOrigin())

    database.transact(work, write=True)
