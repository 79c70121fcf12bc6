from dataclasses import FrozenInstanceError

import iso4217
import pytest

from models.money import MAX_AMOUNT, Money, currencies

pytestmark = pytest.mark.mission("M16")


@pytest.mark.parametrize(
    ("code", "name", "digits"),
    [
        ("EUR", "Euro", 2),
        ("JPY", "Yen", 0),
        ("KWD", "Kuwaiti Dinar", 3),
        ("CLF", "Unidad de Fomento", 4),
        ("MRU", "Ouguiya", 2),
    ],
)
def test_every_currency_has_its_own_minor_unit(code: str, name: str, digits: int) -> None:
    assert currencies()[code] == (code, name, digits)


@pytest.mark.parametrize("code", ["XAU", "XDR", "XTS", "XXX", "eur", "DEM", ""])
def test_currencies_without_a_minor_unit_are_left_out(code: str) -> None:
    assert code not in currencies()


def test_all_other_currencies_are_listed_by_code() -> None:
    with_minor_units = {each.code: each for each in iso4217.Currency if each.exponent is not None}

    assert list(currencies()) == sorted(with_minor_units)
    assert len(currencies()) > 150
    for code, currency in currencies().items():
        assert currency.code == code
        assert currency.name == with_minor_units[code].currency_name
        assert currency.minor_units == with_minor_units[code].exponent
        assert isinstance(currency.minor_units, int)


def test_the_largest_amount_is_exact_in_a_double() -> None:
    assert int(float(MAX_AMOUNT)) == MAX_AMOUNT
    assert float(MAX_AMOUNT + 1) == float(MAX_AMOUNT + 2)


def test_money_is_a_value() -> None:
    money = Money(1999, "USD")

    assert money == Money(1999, "USD")
    assert money != Money(1999, "EUR")
    assert len({money, Money(1999, "USD")}) == 1
    with pytest.raises(FrozenInstanceError):
        money.amount = 1  # type: ignore[misc]  # which is what is tried
