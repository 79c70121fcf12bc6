"""Forged tokens, assembled part by part as an attacker would do it."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from models.identity.user import User
from tests.api.accounts import grant_for, keys_of
from tests.service import Service

Members: TypeAlias = dict[str, object]


def encode(value: object) -> str:
    """Write a part of a token: bytes as they are, anything else as JSON, in unpadded base64url."""
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def without(name: str, members: Members) -> Members:
    """The members but for one."""
    return {each: value for each, value in members.items() if each != name}


def ed25519(key: Ed25519PrivateKey, header: object, claims: object) -> str:
    """Sign a header and claims, whatever they say."""
    signed = f"{encode(header)}.{encode(claims)}"
    return f"{signed}.{encode(key.sign(signed.encode()))}"


def hmac_sha(bits: int, secret: bytes, header: object, claims: object) -> str:
    """Sign with a shared secret (RFC 7518, section 3.2)."""
    signed = f"{encode(header)}.{encode(claims)}"
    digest = hmac.digest(secret, signed.encode(), getattr(hashlib, f"sha{bits}"))
    return f"{signed}.{encode(digest)}"


@dataclass
class Forger:
    """Knows how the service makes a token for an account, and holds two keys: its and another."""

    service: Service
    user: User
    stranger: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def __post_init__(self) -> None:
        settings = self.service.app.settings
        self.key = keys_of(self.service).signing
        self.session = grant_for(self.service, self.user).session
        self.url = settings.public_url
        self.public_pem = self.key.public.public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        self.public_der = self.key.public.public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )

    def header(self, **changes: object) -> Members:
        """The header of a good token, changed."""
        return {"alg": "EdDSA", "typ": "at+jwt", "kid": self.key.id, **changes}

    def claims(self, **changes: object) -> Members:
        """The claims of a good token, changed."""
        now = int(time.time())
        return {
            "iss": self.url,
            "aud": f"{self.url}/v1",
            "sub": str(self.user.id),
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "jti": uuid.uuid4().hex,
            "scope": "profile:read profile:write users:read users:write",
            "sid": str(self.session.id),
            **changes,
        }

    def signed(self, header: object = None, claims: object = None) -> str:
        """Sign with the service's own key, so that only what is signed can be wrong."""
        return ed25519(self.key.private, header or self.header(), claims or self.claims())

    def signed_by_stranger(self, header: object = None, claims: object = None) -> str:
        """Sign with a key that the service does not know."""
        return ed25519(self.stranger, header or self.header(), claims or self.claims())

    def shared(self, secret: bytes, *, bits: int = 256, **header: object) -> str:
        """Sign with a shared secret that the attacker knows: the public key, for example."""
        head = self.header(**{"alg": f"HS{bits}", **header})
        return hmac_sha(bits, secret, head, self.claims())

    def unsigned(self, algorithm: object, signature: str = "") -> str:
        """Write a token that says how it is signed and is not."""
        return f"{encode(self.header(alg=algorithm))}.{encode(self.claims())}.{signature}"

    def own_jwk(self) -> Members:
        """The stranger's public key, as a token could bring it along (RFC 8037)."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": encode(self.stranger.public_key().public_bytes_raw()),
        }
