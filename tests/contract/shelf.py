"""Which products the fuzzer finds; schemathesis.toml names them by their ids, from 1 on."""

SHELF = 24
"""Products of which there is plenty."""

SOLD = 12
"""The one in the orders that are made for the fuzzer: not among those that are soon archived, which
are the first and that of the contract's examples."""
