from pathlib import Path

from sqlalchemy import make_url, select, text
from sqlalchemy.orm import Session

from models.identity.user import User
from models.identity.user_list import find_users
from models.storage.database import Database
from tests.databases import make_database_url
from tests.factories import ROOT, make_user
from tests.models.actions import erase_user
from tests.models.reading import read_page, read_user

SECRETS = ("Zebedee Quill", "Zebedee.Quill@example.com", "zebedee.quill@example.com", "$zq-hash$")


def make_zebedee(database: Database) -> User:
    return make_user(database, name=SECRETS[0], email=SECRETS[1], password_hash=SECRETS[3])


def test_nothing_identifying_is_left(database: Database) -> None:
    zebedee = make_zebedee(database)
    erase_user(database, zebedee.id)

    rows = database.transact(lambda s: s.execute(text("SELECT * FROM users")).all(), write=False)

    assert len(rows) == 1
    assert not any(secret in repr(rows) for secret in SECRETS)


def test_an_erased_account_is_inactive_and_its_tokens_have_ended(database: Database) -> None:
    zebedee = make_zebedee(database)
    erase_user(database, zebedee.id)

    def read(session: Session) -> User:
        return session.scalars(select(User)).one()

    erased = database.transact(read, write=False)
    assert not erased.active
    assert not erased.email_verified
    assert erased.password_hash is None
    assert erased.token_version == 2
    assert erased.erased_at is not None
    assert erased.erased_at >= zebedee.created_at


def test_an_erased_account_is_not_visible(database: Database) -> None:
    zebedee = make_zebedee(database)
    erase_user(database, zebedee.id)

    def seen(session: Session) -> list[object]:
        return [
            User.by_email(session, SECRETS[1]),
            *find_users(session, limit=10).items,
            *session.scalars(select(User).where(User.seen_by(ROOT))),
        ]

    assert database.transact(seen, write=False) == [None]


def test_the_address_of_an_erased_account_can_be_registered_again(database: Database) -> None:
    first = make_zebedee(database)
    erase_user(database, first.id)

    second = make_zebedee(database)
    erase_user(database, second.id)
    third = make_zebedee(database)

    assert [user.id for user in read_page(database).items] == [third.id]
    assert read_user(database, third.id).email == SECRETS[1]


def test_nothing_is_left_in_the_sqlite_file(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        database = Database(url)
        for _ in range(20):
            make_user(database)
        zebedee = make_zebedee(database)
        for _ in range(20):
            make_user(database)
        erase_user(database, zebedee.id)
        database.dispose()

        (file,) = Path(str(make_url(url).database)).parent.iterdir()
        content = file.read_bytes()

    assert not any(secret.encode() in content for secret in SECRETS)
