"""The service's folders on disk."""

from pathlib import Path


def make_private_folder(path: Path) -> None:
    """Create a folder and its missing parents, accessible only to the current user.

    `Path.mkdir` applies a mode to the last folder only.
    """
    if not path.exists():
        make_private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
