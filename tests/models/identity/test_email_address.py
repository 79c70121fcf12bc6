# ruff: noqa: RUF001, RUF003 - twins look alike
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidEmail
from models.identity.email_address import EmailAddress

TWINS = [
    ("alice@example.com", "ALICE@EXAMPLE.COM"),
    ("alice@example.com", "Alice@Example.Com"),
    ("alice@example.com", "ａｌｉｃｅ@example.com"),  # full width
    ("alice@example.com", "alice@ｅｘａｍｐｌｅ.com"),
    ("alice@example.com", "alice@example。com"),  # ideographic full stop
    ("alice@example.com", "alıce@example.com"),  # dotless i
    ("alice@example.com", "alİce@example.com"),  # dotted capital I
    ("alice@example.com", "ALI\u0307CE@example.com"),  # the same in two characters
    ("alice@example.com", "ali\u0307ce@example.com"),  # what it leaves behind in lower case
    ("alice@example.com", "ⓐⓛⓘⓒⓔ@example.com"),  # circled
    ("alice@example.com", "𝒶𝓁𝒾𝒸ℯ@example.com"),  # mathematical
    ("alice@example.com", "al\ufe0fice@example.com"),  # variation selector
    ("alice@example.com", "al\u034fice@example.com"),  # combining grapheme joiner
    ("alice@example.com", "alice\U000e0100@example.com"),
    ("mike@example.com", "mi\u212ae@example.com"),  # Kelvin sign
    ("mike@github.com", "mike@gıthub.com"),
    ("mike@kite.com", "mike@\u212aite.com"),
    ("sue@example.com", "ſue@example.com"),  # long s
    ("sue@site.com", "sue@ſite.com"),
    ("fiona@example.com", "ﬁona@example.com"),  # ligature
    ("strasse@example.com", "straße@example.com"),
    ("strasse@example.com", "STRAẞE@example.com"),
    ("anna@strasse.de", "anna@straße.de"),
    ("anna@straße.de", "anna@xn--strae-oqa.de"),
    ("anna@bücher.example", "anna@xn--bcher-kva.example"),
    ("anna@bücher.example", "anna@BÜCHER.example"),
    ("anna@bücher.example", "anna@bu\u0308cher.example"),
    ("renée@example.com", "rene\u0301e@example.com"),  # NFC and NFD
    ("renée@example.com", "RENÉE@example.com"),
    ("åsa@example.com", "\u212bsa@example.com"),  # Ångström sign
    ("σοφος@example.com", "ΣΟΦΟΣ@example.com"),
    ("σοφοσ@example.com", "σοφος@example.com"),  # final sigma
    ("иван@example.com", "ИВАН@example.com"),
    ("がく@example.com", "か\u3099く@example.com"),
    ("カナ@example.com", "ｶﾅ@example.com"),  # half width
    ("각@example.com", "\u1100\u1161\u11a8@example.com"),
    ("henryiv@example.com", "henryⅣ@example.com"),
    ("x2@example.com", "x²@example.com"),
]

STRANGERS = [
    ("alice@example.com", "alice@example.org"),
    ("alice@example.com", "alice@mail.example.com"),
    ("alice@example.com", "alice+shop@example.com"),
    ("alice@example.com", "a.lice@example.com"),
    ("renee@example.com", "renée@example.com"),
    ("0scar@example.com", "oscar@example.com"),
    ("bill@example.com", "bil1@example.com"),
]

INVALID = [
    "",
    "@",
    "alice",
    "alice@",
    "@example.com",
    "alice @example.com",
    f"{'a' * 65}@example.com",
    f"{'é' * 33}@example.com",
    "alice@example.com\n",
    "alice@example.com\r\nBcc: bob@example.com",
    "alice@example.com\x00",
    "alice@example.com)bob@evil.com",
    "alice@example.com,bob@example.com",
    "alice@bob@example.com",
    "alice＠bob@example.com",  # a full-width at sign
    "Alice <alice@example.com>",
    '"alice smith"@example.com',
    "alice@[127.0.0.1]",
    "alice@127.0.0.1",
    "alice@localhost",
    "alice@server.local",
    "alice@example.invalid",
    "alice@example..com",
    "alice@-example.com",
    "alice@example.com.",
    ".alice@example.com",
    "alice..adams@example.com",
    "al ice@example.com",
    "al\u200bice@example.com",  # zero-width space
    "al\u200dice@example.com",  # zero-width joiner
    "alice\u202e@example.com",  # right-to-left override
    "alice\u00a0@example.com",
    "\ud800@example.com",
    "alice@\udfff.com",
    "ﷺ@example.com",  # stands for words with spaces between them
    "\u0301alice@example.com",
    "a" * 65 + "@" + "b" * 190 + ".com",
    "alice@" + "b" * 64 + ".com",
    "аlice@example.com",  # Cyrillic а
    "alicе@example.com",  # Cyrillic е
    "alice@exаmple.com",
    "αlice@example.com",  # Greek alpha
]


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_twins_have_one_key(one: str, other: str) -> None:
    assert one != other
    assert EmailAddress.parse(one).key == EmailAddress.parse(other).key


@pytest.mark.parametrize(("one", "other"), STRANGERS)
def test_different_mailboxes_have_different_keys(one: str, other: str) -> None:
    assert EmailAddress.parse(one).key != EmailAddress.parse(other).key


@pytest.mark.parametrize("text", INVALID)
def test_an_invalid_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidEmail) as refusal:
        EmailAddress.parse(text)
    assert len(text) < 5 or text not in refusal.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "Alice.Adams+news@Example.COM",
        "o'connor@example.com",
        "иван.smith@example.com",  # each word is of one alphabet
        "用户@例子.广告",
        "उपयोगकर्ता@उदाहरण.कॉम",
        "alice@shop.test",
        "a@b.co",
    ],
)
def test_an_address_is_kept_as_given(text: str) -> None:
    assert EmailAddress.parse(text).given == text


def test_the_normal_form_of_an_invalid_address_is_itself() -> None:
    assert EmailAddress.normal_form("Alice@Example.com") == "alice@example.com"
    assert EmailAddress.normal_form("No Address") == "No Address"


def test_a_key_is_its_own_key() -> None:
    for address in {address for pair in TWINS for address in pair}:
        key = EmailAddress.parse(address).key
        assert EmailAddress.parse(key).key == key


@given(st.text(st.characters(categories=("L", "N", "M")), min_size=1, max_size=12))
def test_no_change_of_case_or_composition_changes_the_key(local: str) -> None:
    try:
        key = EmailAddress.parse(f"{local}@example.com").key
    except InvalidEmail:
        return
    spellings = {local.upper(), local.lower(), local.casefold(), local.title(), local.swapcase()}
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        spellings |= {unicodedata.normalize(form, spelling) for spelling in set(spellings)}
    for spelling in spellings:
        try:
            assert EmailAddress.parse(f"{spelling}@example.com").key == key
        except InvalidEmail:
            # Some spellings begin with a mark or grow too long, so nobody can register them.
            continue


@pytest.mark.parametrize(
    "typed",
    [
        *(" alice@example.com", "alice@example.com\t", "\u3000\xa0alice@example.com "),
        *("\ufeffalice@example.com", "\u202a\u200balice@example.com\u2060\u202c"),
    ],
)
def test_blanks_around_an_address_are_trimmed(typed: str) -> None:
    assert EmailAddress.parse(typed) == EmailAddress.parse("alice@example.com")


@pytest.mark.parametrize("local", ["a" * 64, "é" * 32])
def test_a_local_part_has_up_to_64_bytes(local: str) -> None:
    assert EmailAddress.parse(f"{local}@example.com").given == f"{local}@example.com"


def test_addresses_below_local_are_valid_if_allowed() -> None:
    with pytest.raises(InvalidEmail):
        EmailAddress.parse("ada@corp.local")
    parsed = EmailAddress.parse("Ada@Corp.LOCAL", local=True)
    assert parsed == EmailAddress("Ada@Corp.LOCAL", "ada@corp.local")
    assert EmailAddress.normal_form("ADA@corp.local") == "ada@corp.local"
    assert EmailAddress.parse("ada@corp.test", local=True).key == "ada@corp.test"
    for text in ("ada@local", "ada@corp.localhost", "ada@.local"):
        with pytest.raises(InvalidEmail):
            EmailAddress.parse(text, local=True)
