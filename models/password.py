"""Passwords: which are accepted, and how they are kept (NIST SP 800-63B, OWASP ASVS 6.2)."""

import importlib.util
import runpy
import string
import unicodedata
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
"""Argon2id with 19 MiB, two passes, one lane: the least that OWASP's cheat sheet on password
storage advises. Memory is in KiB, lengths are in bytes."""

_DECORATION = string.digits + string.punctuation + string.whitespace
_SHORTEST_KNOWN = 4


class Passwords:
    """Judges, hashes and verifies passwords. It may be shared by threads.

    Hashing takes about 20 ms of a core and 19 MiB, by intent: whoever calls must bound how many
    run at once.
    """

    def __init__(
        self, *, service_name: str = "Concord", parameters: argon2.Parameters = OWASP
    ) -> None:
        self._known = _load_known()
        self._service_name = _fold(service_name)
        self._argon2 = argon2.PasswordHasher.from_parameters(parameters)
        self._nobodys_hash = self._argon2.hash("")

    def hash(self, password: str, *, email: str) -> str:
        """Hash a new password, or refuse it.

        Raises:
            WeakPassword: it is too short or too long, widely used, or made of what everybody
                knows about the account.
        """
        self._judge(password, email)
        return self._argon2.hash(_normalise(password))

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Tell whether the password is the one that was hashed.

        Without a hash the answer is no, and takes as long as for an account that has one.
        """
        try:
            self._argon2.verify(password_hash or self._nobodys_hash, _normalise(password))
        except VerifyMismatchError:
            return False
        return password_hash is not None

    def rehash(self, password: str) -> str:
        """Hash a password that is in use already with today's parameters, unjudged."""
        return self._argon2.hash(_normalise(password))

    def needs_rehash(self, password_hash: str) -> bool:
        """Tell whether it was hashed with other parameters than today's."""
        return self._argon2.check_needs_rehash(password_hash)

    def _judge(self, password: str, email: str) -> None:
        if len(password) < MIN_LENGTH:
            raise WeakPassword(f"A password has at least {MIN_LENGTH} characters.")
        if len(password) > MAX_LENGTH:
            raise WeakPassword(f"A password has at most {MAX_LENGTH} characters.")
        text = _fold(password)
        core = text.strip(_DECORATION)
        # Digits and signs around a common password are what everybody tries next; beside many of
        # them the password itself no longer matters.
        decorated = 2 * len(core) >= len(text) and _stands_in(self._known.passwords, core)
        if decorated or _stands_in(self._known.words, text) or _is_pattern(text):
            raise WeakPassword("This password is widely used.")
        address = _fold(email)
        for known in (address, address.rpartition("@")[0], self._service_name):
            if core == known or (len(known) >= _SHORTEST_KNOWN and known in text):
                raise WeakPassword(
                    "A password cannot contain your email address or the name of this service."
                )


class _Known(NamedTuple):
    """What everybody tries first: each word on a line of its own.

    A text of 90,000 lines takes one megabyte, where a set of them takes ten. It is searched in
    a fifth of a millisecond, which is a hundredth of what the hash takes then.
    """

    passwords: str
    words: str


@cache
def _load_known() -> _Known:
    # To import the lists is to import zxcvbn, which keeps them in memory twice more.
    package = importlib.util.find_spec("zxcvbn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'zxcvbn'", name="zxcvbn")
    file = Path(package.origin).with_name("frequency_lists.py")
    lists: dict[str, list[str]] = runpy.run_path(str(file))["FREQUENCY_LISTS"]
    return _Known(_lines(lists["passwords"]), _lines(chain.from_iterable(lists.values())))


def _lines(words: Iterable[str]) -> str:
    return "\n".join(["", *words, ""])


def _stands_in(lines: str, word: str) -> bool:
    return "\n" not in word and f"\n{word}\n" in lines


def _normalise(password: str) -> bytes:
    """Give the bytes to hash: the same however a keyboard composes the characters.

    NFKC is the form that NIST SP 800-63B asks for. Lengths are counted before it, in code points
    as sent, so that they mean what the contract says. A lone surrogate is just another character.
    """
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _is_pattern(text: str) -> bool:
    """Tell whether it is one part repeated ("abcabcabc") or a row of neighbours ("23456789")."""
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    return text in (text + text)[1:-1] or steps in ({1}, {-1})
