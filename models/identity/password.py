"""Password rules and password hashing (NIST SP 800-63B, OWASP ASVS 6.2)."""

import importlib.util
import runpy
import secrets
import string
import unicodedata
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import argon2
from argon2.exceptions import VerifyMismatchError

from models.errors import WeakPassword

MIN_LENGTH = 8
MAX_LENGTH = 128

OWASP = argon2.Parameters(
    type=argon2.Type.ID,
    version=argon2.low_level.ARGON2_VERSION,
    salt_len=16,
    hash_len=32,
    time_cost=2,
    memory_cost=19 * 1024,
    parallelism=1,
)
"""Argon2id with 19 MiB, two passes and one lane: the minimum in OWASP's Password Storage Cheat
Sheet. Memory is in KiB, lengths are in bytes."""

_DECORATION = string.digits + string.punctuation + string.whitespace
_SHORTEST_KNOWN = 4


class Passwords:
    """Checks, hashes and verifies passwords. An instance is thread-safe.

    Hashing deliberately takes about 20 ms of CPU time and 19 MiB of memory, so callers must limit
    how many hashes run at once.
    """

    def __init__(
        self, *, service_name: str = "Concord", parameters: argon2.Parameters = OWASP
    ) -> None:
        self._service_name = _fold(service_name)
        self._argon2 = argon2.PasswordHasher.from_parameters(parameters)
        self._nobodys_hash = _unmatched_hash(parameters)

    def hash(self, password: str, *, email: str) -> str:
        """Check a new password and return its hash.

        Raises:
            WeakPassword: The password is too short, too long or widely used, or it contains the
                email address or the name of the service.
        """
        self._judge(password, email)
        return self._argon2.hash(_normalise(password))

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Return whether a password matches a hash.

        If there is no hash, return `False` after the same time as for an account that has one.
        """
        try:
            self._argon2.verify(password_hash or self._nobodys_hash, _normalise(password))
        except VerifyMismatchError:
            return False
        return password_hash is not None

    def rehash(self, password: str) -> str:
        """Hash an existing password with the current parameters, without checking its strength."""
        return self._argon2.hash(_normalise(password))

    def needs_rehash(self, password_hash: str) -> bool:
        """Return whether a hash was made with parameters other than the current ones."""
        return self._argon2.check_needs_rehash(password_hash)

    def _judge(self, password: str, email: str) -> None:
        # A keyboard may send an accented letter as two code points.
        length = len(unicodedata.normalize("NFC", password))
        if length < MIN_LENGTH:
            raise WeakPassword(f"A password must have at least {MIN_LENGTH} characters.")
        if length > MAX_LENGTH:
            raise WeakPassword(f"A password must have at most {MAX_LENGTH} characters.")
        text = _fold(password)
        core, known_texts = text.strip(_DECORATION), _load_known()
        # Attackers try common passwords with a few digits or symbols added. If the additions are
        # longer than the common password itself, the password is strong enough.
        decorated = 2 * len(core) >= len(text) and _stands_in(known_texts.passwords, core)
        if decorated or _stands_in(known_texts.words, text) or _is_pattern(text):
            raise WeakPassword("This password is widely used.")
        address = _fold(email)
        for known in (address, address.rpartition("@")[0], self._service_name):
            if core == known or (len(known) >= _SHORTEST_KNOWN and known in text):
                raise WeakPassword(
                    "A password cannot contain your email address or the name of this service."
                )


class _Known(NamedTuple):
    """Common passwords and words, one per line.

    A string of 90,000 lines takes one megabyte, and a set would take ten. A search takes a fifth of
    a millisecond, a hundredth of the time of the hash that follows.
    """

    passwords: str
    words: str


@cache
def _load_known() -> _Known:
    """Return the lists, which the first new password loads in about 50 ms."""
    # Importing the lists would import zxcvbn, which keeps two more copies in memory.
    package = importlib.util.find_spec("zxcvbn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'zxcvbn'", name="zxcvbn")
    file = Path(package.origin).with_name("frequency_lists.py")
    lists: dict[str, list[str]] = runpy.run_path(str(file))["FREQUENCY_LISTS"]
    return _Known(_lines(lists["passwords"]), _lines(chain.from_iterable(lists.values())))


def _unmatched_hash(parameters: argon2.Parameters) -> str:
    """Return a hash that no password is known to match, in the format of PHC strings."""
    salt, digest = (
        b64encode(secrets.token_bytes(length)).decode().rstrip("=")
        for length in (parameters.salt_len, parameters.hash_len)
    )
    costs = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    return f"$argon2id$v={parameters.version}${costs}${salt}${digest}"


def _lines(words: Iterable[str]) -> str:
    return "\n".join(["", *words, ""])


def _stands_in(lines: str, word: str) -> bool:
    return "\n" not in word and f"\n{word}\n" in lines


def _normalise(password: str) -> bytes:
    """Return the bytes to hash, which do not depend on how a keyboard composes characters.

    NIST SP 800-63B recommends NFKC. Lengths are counted in code points of NFC. A lone
    surrogate counts as an ordinary character.
    """
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _is_pattern(text: str) -> bool:
    """Return whether a text is a repeated part ("abcabcabc") or a sequence ("23456789")."""
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    return text in (text + text)[1:-1] or steps in ({1}, {-1})
