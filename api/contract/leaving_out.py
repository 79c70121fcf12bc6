"""Imports of a package without the modules that only its unused features need."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class _Unused(type):
    """A class that is also its own attributes, members, instances and results."""

    # Otherwise, a loop over such a class would read one member after another and never end.
    __iter__: None = None

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __getitem__(cls, _key: object) -> type:
        return cls

    def __call__(cls, *_: object, **__: object) -> type:
        return cls


@contextmanager
def leaving_out(*names: str) -> Iterator[None]:
    """Replace these modules, for imports in the block, with empty ones.

    Every name in an empty module is a class, from which other classes may be derived, and whose
    members may be read and called. Modules that were imported before the block are not replaced.
    """
    empty = {name: ModuleType(name) for name in names if name not in sys.modules}
    for module in empty.values():
        vars(module)["__getattr__"] = lambda _name: _Unused("Unused", (), {})
    sys.modules.update(empty)
    try:
        yield
    finally:
        for name in empty:
            del sys.modules[name]
