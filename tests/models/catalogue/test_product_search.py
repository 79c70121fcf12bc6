import pytest
from sqlalchemy import text

from models.catalogue.product_list import ProductFilter
from models.storage.database import Database
from models.storage.migrating import migrate
from models.text import collation_key
from models.word_index import MAX_WORDS
from tests.factories import make_product
from tests.models.actions import change_product
from tests.models.reading import read_product, read_products

pytestmark = pytest.mark.mission("M16")


def finds(database: Database, question: str) -> list[str]:
    """Give the names of what a question finds, in the order of age."""
    wanted = ProductFilter(question=question)
    return [product.name for product in read_products(database, wanted=wanted).items]


def test_each_word_matches_the_beginning_of_a_word(database: Database) -> None:
    make_product(database, name="A red shirt", sku="0")

    for question in ("red", "r", "shi", "shi red", "red  red", "shirt, red!", "RED SHIRT"):
        assert finds(database, question) == ["A red shirt"]
    for question in ("ed", "hirt", "shirts", "red mug", "redshirt"):
        assert finds(database, question) == []


TWINS = [
    ("Stra\u00dfe", "strasse"),
    ("GASSE", "ga\u00dfe"),
    ("Gro\u00df", "GRO\u1e9e"),
    ("Caf\u00e9", "cafe\u0301"),
    ("The\u0301", "TH\u00c9"),
    ("\u00c5ngstr\u00f6m", "\u212bngstro\u0308m"),
    ("\ufb01ligree", "fi"),
    ("\uff34\uff33", "ts"),
    ("\u03a3\u03a9\u03a3", "\u03c3\u03c9\u03c2"),
    ("\u0416\u0443\u043a", "\u0436\u0443"),
    ("\uff76\uff85", "\u30ab\u30ca"),
    ("q\U00020000", "q"),
    ("\U00020000b", "\U00020000"),
]


def test_case_and_composition_do_not_matter(database: Database) -> None:
    make_product(database, name="Mug", sku="0")
    for number, (name, _) in enumerate(TWINS, start=1):
        make_product(database, name=name, sku=str(number))

    for name, question in TWINS:
        assert finds(database, question) == [name]


ACCENTS = [
    ("Caf\u00e9", "cafe"),
    ("Phở bò", "pho bo"),
    ("Łóżko", "lozko"),
    ("Smørrebrød", "smorrebrod"),
    ("Æble", "aeble"),
    ("İSTANBUL", "istanbul"),
    ("DI\u015eI", "d\u0131\u015f\u0131"),
    ("שָׁלוֹם", "שלום"),
    ("\u0645\u064f\u062d\u064e\u0645\u064e\u0651\u062f", "\u0645\u062d\u0645\u062f"),
    ("Ελλάδα", "ελλαδα"),
]


def test_accents_do_not_matter(database: Database) -> None:
    make_product(database, name="Mug", sku="0")
    for number, (name, _) in enumerate(ACCENTS, start=1):
        make_product(database, name=name, sku=str(number))

    for name, question in ACCENTS:
        for asked in (question, question.upper(), name, name[:-1]):
            assert finds(database, asked) == [name]


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("हिन्दी", ["हलवा नया दही", "ह न द", "हन्दी"]),
        ("ไทย กุ้ง", ["กง", "ทย"]),
        ("がく", ["かく"]),
        ("தமிழ்", ["தமழ"]),
        ("A\ufe0fb 1\ufe0f\u20e3", ["\ufe0f", "\u0301"]),
    ],
)
def test_marks_that_form_other_letters_belong_to_words(
    database: Database, name: str, others: list[str]
) -> None:
    make_product(database, name=name, sku="0")

    for word in name.split():
        assert finds(database, word) == [name]
    for other in others:
        assert finds(database, other) == []


def test_invisible_characters_do_not_matter(database: Database) -> None:
    make_product(database, name="\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", sku="0")

    assert (
        finds(database, "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645")
        == finds(database, "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")
        != []
    )


def test_a_product_is_found_by_the_parts_of_its_sku(database: Database) -> None:
    make_product(database, sku="TS-RED/42_b", name="Shirt")
    make_product(database, sku="0", name="Mug")

    for question in ("TS-RED/42_b", "ts", "red", "42", "B", "t 4", "ts_4"):
        assert finds(database, question) == ["Shirt"]


def test_a_query_without_words_finds_nothing(database: Database) -> None:
    make_product(database, name="100% wool_mix \U0001f600 'x'", sku="A-1")

    for question in ("", " ", "-", "!?", "%", "_", "\u3000", "\U0001f600", "'"):
        assert finds(database, question) == []


def test_there_are_no_wildcards(database: Database) -> None:
    make_product(database, name="red", sku="0")

    for question in ("r%d", "r_d", "r*d", "r?d", "[r]ed"):
        assert finds(database, question) == []


def test_words_beyond_the_eighth_are_ignored(database: Database) -> None:
    make_product(database, name="a b c d e f g h", sku="0")
    make_product(database, name="a b c d e f g", sku="1")
    assert MAX_WORDS == 8

    assert finds(database, "a b c d e f g h nothing like it") == ["a b c d e f g h"]
    assert finds(database, "a a a a a a a a a z") == []


def test_long_words_match_by_their_first_32_characters(database: Database) -> None:
    word = "abcdefgh" * 5
    make_product(database, name=word, sku="0")

    for length in (31, 32, 33, 40, 200):
        assert finds(database, (word * 5)[:length]) == [word]
    assert finds(database, "b" + word) == []
    assert finds(database, word[:31] + "x") == []


def test_a_product_is_found_by_its_current_name_and_sku(database: Database) -> None:
    product = make_product(database, name="Red mug", sku="RM-1")

    change_product(database, product, name="Blue mug")
    assert (finds(database, "red"), finds(database, "blue rm")) == ([], ["Blue mug"])

    change_product(database, product, sku="BM-2")
    assert (finds(database, "rm"), finds(database, "blue bm")) == ([], ["Blue mug"])

    change_product(database, product, description="A gift.", metadata={"colour": "green"})
    assert (finds(database, "blue bm"), finds(database, "gift")) == (["Blue mug"], [])


def test_a_repeated_word_finds_a_product_once(database: Database) -> None:
    make_product(database, name="Red red REDDISH", sku="red")

    assert finds(database, "red re r") == ["Red red REDDISH"]


def test_the_longest_names_are_found_by_any_word(database: Database) -> None:
    words = [f"{number:x}" for number in range(16, 80)]
    name = " ".join(words)[:200].strip()
    make_product(database, name=name, sku="X" * 64)

    assert finds(database, name.split()[-1]) == [name]
    assert finds(database, "x" * 64) == [name]


def test_a_migration_indexes_existing_products(database: Database) -> None:
    product = make_product(database, name="Caf\u00e9", sku="0")
    migrate(database, to="0006")
    keys = text("UPDATE products SET name_key = 'old'")
    words = text("UPDATE product_terms SET term = 'old' WHERE term = 'cafe'")
    database.transact(lambda session: (session.execute(keys), session.execute(words)))
    migrate(database)

    assert finds(database, "cafe 0") == ["Caf\u00e9"]
    assert finds(database, "old") == []
    assert read_product(database, product).name_key == collation_key("Caf\u00e9")
