"""Our own contract, which a process of the tests reads once."""

from functools import cache

from api.contract.compile.document import Document, load_document
from app import CONTRACT

load_once = cache(load_document)


def our_document() -> Document:
    """Read it, or give what was read: nobody changes it, as others have the same one."""
    return load_once(CONTRACT)
