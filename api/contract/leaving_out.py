"""Imports of a package without the modules that only its unused features need."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def leaving_out(*names: str) -> Iterator[None]:
    """Replace these modules, for imports in the block, with modules in which every name is None.

    Modules that were imported before the block are not replaced.
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
