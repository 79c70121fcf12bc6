"""Money: whole minor units of a currency (ISO 4217), never a fraction of one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import iso4217

MAX_AMOUNT: Final = 2**53 - 1
"""The largest amount: every client holds it exactly, also one whose numbers are doubles."""


@dataclass(frozen=True, slots=True, init=False)
class Money:
    """An amount in minor units of a currency: 1999 USD are 19.99 dollars, 1999 JPY 1999 yen."""

    amount: int
    currency: str

    def __init__(self, amount: int, currency: str) -> None:
        # A page of orders has some two hundred of these, and the way in which a frozen class sets
        # its attributes by itself would take half as long again.
        _set_amount(self, amount)
        _set_currency(self, currency)


_set_amount: Final[Callable[[Money, int], None]] = Money.__dict__["amount"].__set__
_set_currency: Final[Callable[[Money, str], None]] = Money.__dict__["currency"].__set__


class CurrencyInfo(NamedTuple):
    """A currency; `minor_units` is how many decimal digits its minor unit stands for."""

    code: str
    name: str
    minor_units: int


CURRENCIES: Final[Mapping[str, CurrencyInfo]] = MappingProxyType(
    {
        currency.code: CurrencyInfo(currency.code, currency.currency_name, currency.exponent)
        for currency in sorted(iso4217.Currency, key=lambda currency: currency.code)
        # Metals, and what is for testing and bookkeeping, have no minor unit: no price is in them.
        if currency.exponent is not None
    }
)
"""The currencies that prices can be in, by their code."""
