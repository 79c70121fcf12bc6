"""Our own contract, which a process of the tests reads and compiles once."""

from dataclasses import replace
from functools import cache

from api.contract.compile.document import Document, load_document
from api.contract.contract import Contract, find_handlers
from api.contract.engine_errors import Mistake
from app import CONTRACT, load

load_once = cache(load_document)
_compile_once = cache(load)


def our_document() -> Document:
    """Read it, or give what was read: nobody changes it, as others have the same one."""
    return load_once(CONTRACT)


def load_compiled(public_url: str | None = None, *, is_tested: bool = False) -> Contract:
    """Compile it, or give what was compiled, with the handlers that there are now."""
    contract = _compile_once(public_url, is_tested=is_tested)
    try:
        handlers = find_handlers(contract.operations, contract.package)
    except Mistake as mistake:
        raise contract.document.error(mistake) from mistake
    return replace(contract, handlers=handlers)
