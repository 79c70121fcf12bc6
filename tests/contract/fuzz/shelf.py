"""Things for the fuzzer: accounts, products that schemathesis.toml names, and a URL."""

NOBODY = "http://127.0.0.1:9/"
"""A URL at which no events are received."""

OTHERS = 30
"""Accounts that are there first: the small ids that fuzzers like are theirs, and fill two pages."""

SHELF = 24
"""Products of which there is plenty, with the ids from 1 on."""

SOLD = 12
"""The one in the orders that are made for the fuzzer: not among those that are soon archived, which
are the first and that of the contract's examples."""
