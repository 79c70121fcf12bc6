"""Files that the service stores: the pictures of accounts and products."""

from api.contract.ports import Content
from models.files.store import FileStore


def get_file(store: FileStore, path: str) -> Content:
    """Return a stored file, which is sent in pieces."""
    return Content("image/webp", source=store.find(path))
