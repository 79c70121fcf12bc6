"""Imports of a package without the modules that only its unused features need."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class _Unused(type):
    """A class whose attributes and items are such classes too, and whose calls return itself."""

    importing: list[None]
    """A list that is emptied when the imports are complete."""

    # Otherwise, a loop over such a class would read one item after another and never end.
    __iter__: None = None

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unused(name, (), {"importing": cls.importing})

    def __getitem__(cls, key: object) -> type:
        return cls.__getattr__(str(key))

    def __call__(cls, *_: object, **__: object) -> type:
        # A function that does nothing must not seem to work. A capital letter marks a class.
        if not cls.importing and not cls.__name__[:1].isupper():
            raise RuntimeError(f"{cls.__name__} was left out of the imports")
        return cls


@contextmanager
def leaving_out(*names: str) -> Iterator[None]:
    """Replace these modules, for imports in the block, with empty modules.

    Every name in an empty module is a class, from which other classes can be derived, and whose
    attributes and items can be read. After the block, a name that begins with a capital letter can
    still be called, as a class; calling any other name, as a function, raises RuntimeError.
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
