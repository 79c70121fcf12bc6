"""What the bench tells a peer, and the token check that all of them share.

An idiomatic peer asks the database about the session in every request, as the examples of its
documentation do about the account. The tuned ones keep the answer for half a second, as Concord.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

DATABASE_URL: Final = os.environ["BENCH_DATABASE_URL"]
"""`sqlite:///file` or `postgresql://…`."""

RESERVATION: Final = timedelta(days=30)
"""How long an order that is not paid keeps its stock."""

THREADS: Final = int(os.environ.get("BENCH_THREADS", "8"))
"""Threads of the servers that are told how many they have, as Concord is."""

_ISSUER = os.environ["BENCH_ISSUER"]
_PUBLIC_KEY = load_pem_private_key(
    Path(os.environ["BENCH_SIGNING_KEY_FILE"]).read_bytes(), None
).public_key()


def read_claims(token: str) -> dict[str, Any]:
    """What a token says that was signed and has not expired.

    Raises:
        jwt.InvalidTokenError: it is another one.
    """
    return jwt.decode(
        token,
        _PUBLIC_KEY,  # type: ignore[arg-type]  # PyJWT's types leave out kinds that are no key of its own.
        algorithms=["EdDSA"],
        audience=f"{_ISSUER}/v1",
        issuer=_ISSUER,
        options={"require": ["exp", "iat", "sub", "scope", "sid"]},
    )


def read_token(token: str) -> tuple[int, UUID, frozenset[str]]:
    """The account, the session and the scopes of a token.

    Raises:
        jwt.InvalidTokenError: as in `read_claims`.
    """
    claims = read_claims(token)
    return int(claims["sub"]), UUID(claims["sid"]), frozenset(claims["scope"].split())
