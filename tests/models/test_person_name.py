import pytest

from models.errors import InvalidName
from models.identity.person_name import person_name


@pytest.mark.parametrize(
    "name",
    [
        "X",
        "Alice Adams",
        "Seán O'Connor-Ní Bhriain",
        "María José Núñez",
        "Nguyễn Thị Minh Khai",
        "山田 太郎",
        "김민준",
        "محمد بن سلمان",
        "امیر\u200cحسین",  # spelled with a zero-width non-joiner
        "ක්\u200dෂේම",  # spelled with a zero-width joiner
        "Владимир",
        "Jay-Z",
        "Robert'); DROP TABLE users;--",
        "<b>Bob</b>",
        "3Jane",
        "😀",
        "A" * 100,
    ],
)
def test_a_human_name_is_kept(name: str) -> None:
    assert person_name(name) == name


def test_a_name_is_trimmed_and_composed() -> None:
    assert person_name("  Rene\u0301e \u3000") == "Ren\u00e9e"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "\u3000",
        "\u200d",
        "\u3164",  # a letter that shows nothing
        "\u0301",
        "A" * 101,
        "Alice\x00",
        "Alice\nAdams",
        "\nAlice",
        "Alice\r",
        "Alice\tAdams",
        "Alice\x1b[31m",
        "Alice\x85",
        "Alice\u2028Adams",
        "Alice\u202eAdams",  # right-to-left override
        "Alice\u2066Adams",
        "Al\u200bice",
        "\ufeffAlice",
        "Al\u00adice",  # soft hyphen
        "Alice\ud800",
        "Alice\ue000",  # private use
        "Alice\U000e0041",  # a tag that nobody sees
    ],
)
def test_an_unprintable_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        person_name(name)
