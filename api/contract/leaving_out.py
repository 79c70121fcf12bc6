"""Imports of a package without the modules that only its unused features need."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class _Unused(type):
    """A class that is also its own attributes, members, instances and results."""

    importing: list[None]
    """Empty after the imports."""

    # Otherwise, a loop over such a class would read one member after another and never end.
    __iter__: None = None

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unused(name, (), {"importing": cls.importing})

    def __getitem__(cls, key: object) -> type:
        return cls.__getattr__(str(key))

    def __call__(cls, *_: object, **__: object) -> type:
        # A function must not pretend to do something.
        if not cls.importing and not cls.__name__[:1].isupper():
            raise RuntimeError(f"{cls.__name__} was left out of the imports")
        return cls


@contextmanager
def leaving_out(*names: str) -> Iterator[None]:
    """Replace these modules, for imports in the block, with empty ones.

    Every name in an empty module is a class, from which other classes may be derived, and whose
    members may be read. After the block, classes can still be called, but functions raise an error.
    Modules that were imported before the block are not replaced.
    """
    empty = {name: ModuleType(name) for name in names if name not in sys.modules}
    importing = [None]
    for name, module in empty.items():
        vars(module)["__getattr__"] = _Unused(name, (), {"importing": importing}).__getattr__
    sys.modules.update(empty)
    try:
        yield
    finally:
        importing.clear()
        for name in empty:
            del sys.modules[name]
