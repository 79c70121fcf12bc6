"""Importing a package without modules that it imports for features that are not used."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def leaving_out(*names: str) -> Iterator[None]:
    """Let imports of these modules in the block find modules in which every name is None.

    A module that was imported before the block is found as usual.
    """
    empty = {name: ModuleType(name) for name in names if name not in sys.modules}
    for module in empty.values():
        vars(module)["__getattr__"] = lambda _name: None
    sys.modules.update(empty)
    try:
        yield
    finally:
        for name in empty:
            del sys.modules[name]
