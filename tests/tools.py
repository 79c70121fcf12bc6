"""Programs that some tests need and that pip does not install."""

import os
import shutil

import pytest


def find_tool(*names: str) -> str:
    """Where the first of these programs is.

    Where none is, the test is skipped, or fails if CI is set to "true".
    """
    for name in names:
        if found := shutil.which(name):
            return found
    return without(f"there is no {' or '.join(names)} on this machine")


def without(reason: str) -> str:
    """End a test that cannot run here: a skip, or a failure if CI is set to "true"."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
