import statistics
import subprocess
import sys
import time
import unicodedata
from dataclasses import replace

import argon2
import pytest

from models.errors import WeakPassword
from models.identity.password import OWASP, Passwords

CHEAP = replace(OWASP, time_cost=1, memory_cost=8)
EMAIL = "walter.white@example.com"


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    return Passwords(parameters=CHEAP)


@pytest.mark.parametrize(
    "password",
    [
        "vk39-teal",
        "correct horse battery staple",
        "ohne Gewähr & Zweifel",
        "пароль-для-входа",
        "🦭🎹🏮🧊🪁🧲🪴🛶",  # eight code points
        "pass\x00word-with-nul",
        "\ud83d lone surrogate",
        "word " * 25 + "123",  # 128
        " 7 leading spaces",
    ],
)
def test_any_characters_are_allowed_in_a_password(passwords: Passwords, password: str) -> None:
    password_hash = passwords.hash(password, email=EMAIL)

    assert passwords.verify(password_hash, password)
    assert not passwords.verify(password_hash, password + " ")
    assert not passwords.verify(password_hash, password.swapcase() + "x")


@pytest.mark.parametrize("password", ["", "vk39-te", "🦭🎹🏮🧊🪁🧲🪴", "x9" + "word " * 25 + "é7"])
def test_length_is_8_to_128_code_points(passwords: Passwords, password: str) -> None:
    assert not 8 <= len(password) <= 128
    with pytest.raises(WeakPassword, match="characters"):
        passwords.hash(password, email=EMAIL)


def test_length_is_counted_in_composed_characters(passwords: Passwords) -> None:
    composed = "ÄöÜéñôß" + "x" * 121
    assert passwords.hash(unicodedata.normalize("NFD", composed), email=EMAIL)
    with pytest.raises(WeakPassword, match="at least 8"):
        passwords.hash(unicodedata.normalize("NFD", "ÄöÜéñô7"), email=EMAIL)


def test_a_password_is_never_cut(passwords: Passwords) -> None:
    longest = "é-long.way/" * 11 + "to go.."
    assert len(longest) == 128
    password_hash = passwords.hash(longest, email=EMAIL)

    assert passwords.verify(password_hash, longest)
    assert not passwords.verify(password_hash, longest[:-1])
    assert not passwords.verify(password_hash, longest[:-1] + "!")


@pytest.mark.parametrize(
    "password",
    [
        "password",
        "PASSWORD",
        "Password1",
        "passw0rd",
        "12345678",
        "123456789",
        "qwertyuiop",
        "QwertyUiop",
        "iloveyou1",
        "sunshine",
        "Sunshine-2024",
        "!!letmein!!",
        "trustno1",
        "ｐａｓｓｗｏｒｄ",  # noqa: RUF001 - full width
        "constitution",
        "aaaaaaaa",
        "00000000",
        "abcdefgh",
        "87654321",
        "xyzxyzxyz",
    ],
)
def test_a_common_password_is_refused(passwords: Passwords, password: str) -> None:
    with pytest.raises(WeakPassword, match="widely used"):
        passwords.hash(password, email=EMAIL)


@pytest.mark.parametrize(
    ("password", "email"),
    [
        ("walter.white.1958", EMAIL),
        ("xxWALTER.WHITExx", EMAIL),
        ("my walter.white@example.com!", EMAIL),
        ("my Walter.White@Example.com!", EMAIL),
        ("bob-1234", "bob@example.com"),
        ("renée-2024", "rene\u0301e@example.com"),
        ("i-love-concord-api", EMAIL),
        ("CONCORD-x93k", EMAIL),
    ],
)
def test_a_password_with_personal_words_is_refused(
    passwords: Passwords, password: str, email: str
) -> None:
    with pytest.raises(WeakPassword, match="email address or the name"):
        passwords.hash(password, email=email)


def test_a_short_local_part_may_occur_by_chance(passwords: Passwords) -> None:
    assert passwords.hash("bobsled over tin", email="bob@example.com")


def test_no_composition_rules_apply(passwords: Passwords) -> None:
    password_hash = passwords.hash("caf\u00e9 au lait", email=EMAIL)

    assert passwords.verify(password_hash, "cafe\u0301 au lait")


def test_the_default_is_argon2id_as_recommended_by_owasp() -> None:
    passwords = Passwords()

    password_hash = passwords.hash("vk39-teal", email=EMAIL)

    parameters = argon2.extract_parameters(password_hash)
    assert parameters.type is argon2.Type.ID
    assert parameters.memory_cost >= 19 * 1024
    assert parameters.time_cost >= 2
    assert parameters.salt_len >= 16


def test_equal_passwords_have_different_hashes(passwords: Passwords) -> None:
    first, second = (passwords.hash("vk39-teal", email=EMAIL) for _ in range(2))

    assert first != second


def test_a_hash_with_other_parameters_needs_an_upgrade(passwords: Passwords) -> None:
    stronger = Passwords(parameters=replace(CHEAP, time_cost=2))
    password_hash = passwords.hash("vk39-teal", email=EMAIL)

    assert stronger.verify(password_hash, "vk39-teal")
    assert stronger.needs_rehash(password_hash)
    assert not passwords.needs_rehash(password_hash)


def test_an_upgrade_does_not_check_the_password_rules(passwords: Passwords) -> None:
    assert passwords.verify(passwords.rehash("password"), "password")


def test_nothing_verifies_without_a_hash(passwords: Passwords) -> None:
    assert not passwords.verify(None, "")
    assert not passwords.verify(None, "vk39-teal")


def test_verifying_without_a_hash_costs_the_same() -> None:
    passwords = Passwords()
    password_hash = passwords.hash("vk39-teal", email=EMAIL)

    def seconds(password_hash: str | None) -> float:
        start = time.thread_time()
        passwords.verify(password_hash, "something else")
        return time.thread_time() - start

    pairs = [(seconds(password_hash), seconds(None)) for _ in range(9)]
    known, unknown = (statistics.median(times) for times in zip(*pairs, strict=True))
    # Without the second hash the ratio would be about a thousand.
    assert 0.5 < known / unknown < 2


def test_importing_does_not_load_the_lists() -> None:
    code = "import sys, models.identity.password; sys.exit('zxcvbn' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own interpreter
