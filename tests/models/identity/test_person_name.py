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


@pytest.mark.parametrize(
    "edge", [*"\u200b\u200e\u200f\u202a\u2060\u2069\ufeff\xad \u3000", "\ufeff \u200b"]
)
def test_invisible_marks_around_a_name_are_trimmed(edge: str) -> None:
    assert person_name(f"{edge}Alice{edge}") == "Alice"


def test_flags_of_regions_are_allowed_in_names() -> None:
    scotland = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
    assert person_name(f"Ada {scotland}") == f"Ada {scotland}"
    assert person_name(scotland) == scotland


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
        "\ufeff",
        "Al\ufeffice",
        "Alice\U0001f3f4\U000e0067",  # a flag that does not end
        "Al\u00adice",  # soft hyphen
        "Alice\ud800",
        "Alice\ue000",  # private use
        "Alice\U000e0041",  # a tag that nobody sees
    ],
)
def test_an_unprintable_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        person_name(name)
