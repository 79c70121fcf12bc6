"""The rights of a session or an API key, with and without `ADMIN_SECOND_FACTOR`."""

import pytest

from models.access.authenticator_app import SecondFactor
from models.access.token_status import TokenStatus, TokenStatuses
from models.identity.permission import SCOPES_OF_ROLE
from models.identity.token import Token, TokenKind
from models.identity.user import User
from models.storage.database import Database
from tests.factories import make_token, make_user

pytestmark = [pytest.mark.mission("M14"), pytest.mark.mission("M18")]

ALL = list(SCOPES_OF_ROLE["admin"])
STRICT = TokenStatuses(strict_administrators=True)
LENIENT = TokenStatuses(strict_administrators=False)


def read(database: Database, statuses: TokenStatuses, token: Token, *, hold: bool) -> TokenStatus:
    """Read a status in a transaction, where it can be held."""
    credential = token.key_hash or token.id
    status = database.transact(lambda s: statuses.look_up(s, credential, hold=hold)())
    assert status is not None
    return status


def confirm(database: Database, user: User, *, confirmed: bool) -> None:
    """Give an account a second factor, which counts once it is confirmed."""
    factor = SecondFactor(user_id=user.id, sealed_secret=b"", last_step=-1, failures=0)
    factor.created_at = user.created_at
    factor.confirmed_at = user.created_at if confirmed else None
    database.transact(lambda session: session.add(factor), write=True)


@pytest.mark.parametrize("hold", [False, True], ids=["read", "held"])
@pytest.mark.parametrize("kind_of_token", ["session", "api_key"])
def test_only_a_confirmed_second_factor_gives_administrator_rights(
    database: Database, kind_of_token: TokenKind, *, hold: bool
) -> None:
    user = make_user(database, role="admin")
    token = make_token(database, user, kind=kind_of_token, scopes=ALL)
    expected = {False: list(SCOPES_OF_ROLE["user"]), True: ALL}
    assert read(database, LENIENT, token, hold=hold).scopes == ALL
    assert read(database, STRICT, token, hold=hold).scopes == expected[False]
    confirm(database, user, confirmed=False)
    assert read(database, STRICT, token, hold=hold).scopes == expected[False]
    database.transact(lambda session: SecondFactor.forget(session, user.id), write=True)
    confirm(database, user, confirmed=True)
    assert read(database, STRICT, token, hold=hold).scopes == expected[True]


@pytest.mark.parametrize("hold", [False, True], ids=["read", "held"])
@pytest.mark.parametrize("kind_of_token", ["session", "api_key"])
def test_a_user_has_no_scope_of_an_administrator(
    database: Database, kind_of_token: TokenKind, *, hold: bool
) -> None:
    user = make_user(database)
    token = make_token(database, user, kind=kind_of_token, scopes=ALL)
    for statuses in (LENIENT, STRICT):
        scopes = read(database, statuses, token, hold=hold).scopes
        assert scopes == list(SCOPES_OF_ROLE["user"])


def test_a_session_has_a_sign_in_time_and_a_key_has_none(database: Database) -> None:
    user = make_user(database)
    session, key = make_token(database, user), make_token(database, user, kind="api_key")
    for statuses in (LENIENT, STRICT):
        assert read(database, statuses, session, hold=False).signed_in_at == session.created_at
        assert read(database, statuses, key, hold=False).signed_in_at is None
