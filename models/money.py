"""Money: integer amounts in minor units of a currency (ISO 4217)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple

MAX_AMOUNT: Final = 2**53 - 1
"""The largest amount, which clients can represent exactly even as a double."""


@dataclass(frozen=True, slots=True, init=False)
class Money:
    """An amount in minor units of a currency: 1999 USD is 19.99 dollars, 1999 JPY is 1999 yen."""

    amount: int
    currency: str

    def __init__(self, amount: int, currency: str) -> None:
        # A page of orders creates about two hundred of these, and the default constructor of a
        # frozen dataclass would take half as long again.
        _set_amount(self, amount)
        _set_currency(self, currency)


_set_amount: Final[Callable[[Money, int], None]] = Money.__dict__["amount"].__set__
_set_currency: Final[Callable[[Money, str], None]] = Money.__dict__["currency"].__set__


class CurrencyInfo(NamedTuple):
    """A currency. `minor_units` is the number of decimal digits of its minor unit."""

    code: str
    name: str
    minor_units: int


@cache
def currencies() -> Mapping[str, CurrencyInfo]:
    """Return the currencies available for prices, by code."""
    import iso4217  # noqa: PLC0415 - loading it parses XML, which takes 20 ms and 2 MB.

    return MappingProxyType(
        {
            currency.code: CurrencyInfo(currency.code, currency.currency_name, currency.exponent)
            for currency in sorted(iso4217.Currency, key=lambda currency: currency.code)
            # Precious metals and the codes for testing and accounting have no minor unit, so they
            # cannot be used for prices.
            if currency.exponent is not None
        }
    )
