"""Secrets in files, which some settings may name instead of a value."""

from collections.abc import Mapping
from pathlib import Path


class SettingsError(Exception):
    """The settings are invalid.

    `str` has one line per problem: the variable and what to change. No line contains a value,
    because it may be a password.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def read_secret(environ: Mapping[str, str], name: str) -> str:
    """Return a variable, or the text of the file that the variable `NAME_FILE` names.

    An unset variable is an empty text. A line break at the end is not part of the text.

    Raises:
        SettingsError: both variables are set, or the file cannot be read or is empty.
    """
    value, file = environ.get(name, ""), environ.get(f"{name}_FILE", "").strip()
    if not file:
        # `read -r -d ''` and some secret stores leave a line break at the end.
        return value.rstrip("\r\n")
    if value.strip():
        raise SettingsError((f"{name}_FILE is set beside {name}: remove one of them",))
    try:
        text = Path(file).read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError((f"{name}_FILE cannot be read: {error.strerror}",)) from None
    except UnicodeDecodeError:
        raise SettingsError((f"{name}_FILE does not contain UTF-8 text",)) from None
    if not text.strip():
        raise SettingsError((f"{name}_FILE is empty",))
    return text
