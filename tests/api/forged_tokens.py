"""The catalogue of forged tokens: each is valid except for the fault in its name."""

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey

from tests.api.token_forger import Forger, encode, without

Forge: TypeAlias = Callable[[Forger], str]


def _with_header(**changes: object) -> Forge:
    return lambda forger: forger.signed(header=forger.header(**changes))


def _with_strangers_header(make: Callable[[Forger], dict[str, object]]) -> Forge:
    return lambda forger: forger.signed_by_stranger(header=forger.header(**make(forger)))


def _with_claims(**changes: object) -> Forge:
    return lambda forger: forger.signed(claims=forger.claims(**changes))


def _without_claim(name: str) -> Forge:
    return lambda forger: forger.signed(claims=without(name, forger.claims()))


def _at(**offsets: float) -> Forge:
    """Claims of time, in seconds from now."""
    return lambda forger: forger.signed(
        claims=forger.claims(
            **{name: int(time.time() + offset) for name, offset in offsets.items()}
        )
    )


def _twice_alg(forger: Forger) -> str:
    header = json.dumps(forger.header())
    return forger.signed(header=f'{header[:-1]}, "alg": "none"}}'.encode())


def _of_ed448(forger: Forger) -> str:
    key = Ed448PrivateKey.generate()
    signed = f"{encode(forger.header())}.{encode(forger.claims())}"
    return f"{signed}.{encode(key.sign(signed.encode()))}"


def _in_standard_base64(forger: Forger) -> str:
    parts = forger.signed().split(".")
    octets = [base64.urlsafe_b64decode(part + "==") for part in parts]
    return ".".join(base64.b64encode(each).decode() for each in octets)


def _as_json_serialization(forger: Forger) -> str:
    head, payload, signature = forger.signed().split(".")
    return json.dumps({"protected": head, "payload": payload, "signature": signature})


KEYS: Mapping[str, Forge] = {
    "another key": lambda forger: forger.signed_by_stranger(),
    "another key without kid": lambda forger: forger.signed_by_stranger(
        without("kid", forger.header())
    ),
    "another key in jwk": _with_strangers_header(lambda forger: {"jwk": forger.own_jwk()}),
    "another key behind jku": _with_strangers_header(
        lambda _: {"jku": "https://evil.example/keys.json", "kid": "1"}
    ),
    "another key behind x5u": _with_strangers_header(lambda _: {"x5u": "https://evil.example/x"}),
    "another key in x5c": _with_strangers_header(lambda _: {"x5c": ["MIIB"]}),
    "a key of Ed448": _of_ed448,
    "kid that is a path": lambda forger: forger.shared(b"", kid="../../../../dev/null"),
    "kid that is SQL": lambda forger: forger.shared(b"key", kid="x' UNION SELECT 'key' -- "),
    "HS256 with the public key in PEM": lambda forger: forger.shared(forger.public_pem),
    "HS256 with the public key in DER": lambda forger: forger.shared(forger.public_der),
    "HS256 with the public key's bytes": lambda forger: forger.shared(
        forger.key.public.public_bytes_raw()
    ),
    "HS256 with the kid": lambda forger: forger.shared(forger.key.id.encode()),
    "HS256 without a secret": lambda forger: forger.shared(b""),
    "HS512 with the public key in PEM": lambda forger: forger.shared(forger.public_pem, bits=512),
    "no algorithm": lambda forger: forger.unsigned("none"),
    "no algorithm, in capitals": lambda forger: forger.unsigned("NONE"),
    "no algorithm, in both": lambda forger: forger.unsigned("nOnE"),
    "no algorithm, with a signature": lambda forger: forger.unsigned(
        "none", forger.signed().rpartition(".")[2]
    ),
    "a signature of zeros": lambda forger: forger.unsigned("EdDSA", encode(bytes(64))),
    "no signature": lambda forger: forger.unsigned("EdDSA"),
    "another token's signature": lambda forger: forger.unsigned(
        "EdDSA", forger.signed().rpartition(".")[2]
    ),
}

HEADERS: Mapping[str, Forge] = {
    **{f"alg {alg!r}": _with_header(alg=alg) for alg in ("Ed25519", "eddsa", "RS256", "", None, 1)},
    "alg that is a list": _with_header(alg=["EdDSA"]),
    "alg twice": _twice_alg,
    "no alg": lambda forger: forger.signed(header=without("alg", forger.header())),
    **{f"typ {typ!r}": _with_header(typ=typ) for typ in ("JWT", "rt+jwt", "logout+jwt", "", None)},
    "no typ": lambda forger: forger.signed(header=without("typ", forger.header())),
    **{f"kid {kid!r}": _with_header(kid=kid) for kid in ("other", "", None, 1)},
    "no kid": lambda forger: forger.signed(header=without("kid", forger.header())),
    "unknown crit": _with_header(crit=["http://example.com/UNDEFINED"]),
    "crit of an unknown member": _with_header(crit=["exp2"], exp2=True),
    "empty crit": _with_header(crit=[]),
    "crit that is a text": _with_header(crit="exp"),
    "crit of b64": _with_header(crit=["b64"], b64=True),
    "payload that is not encoded": _with_header(crit=["b64"], b64=False),
    "jku of ours": lambda forger: forger.signed(header=forger.header(jku=forger.url)),
    "jwk": lambda forger: forger.signed(header=forger.header(jwk=forger.own_jwk())),
    "x5u": _with_header(x5u="https://evil.example/x"),
    "zip": _with_header(zip="DEF"),
    "cty": _with_header(cty="JWT"),
    "header that is a list": lambda forger: forger.signed(header=[forger.header()]),
    "header that is a text": lambda forger: forger.signed(header="EdDSA"),
    "header that is no JSON": lambda forger: forger.signed(header=b"{"),
    "header that is deeply nested": lambda forger: forger.signed(header=b"[" * 900),
    "header that is no UTF-8": lambda forger: forger.signed(header=b'{"alg":"\xff"}'),
}

NOBODYS = "0198c1a4-52d0-7c3e-8b1f-2a6d70819304"
_NAMES = ("iss", "aud", "sub", "iat", "nbf", "exp", "jti", "scope", "sid")
_FUTURE = 4_102_444_800  # The first of January 2100, in seconds since 1970.
_WRONG: Mapping[str, tuple[object, ...]] = {
    "iss": ("https://other.example", "", "http://concord.example/", None),
    "aud": ("https://other.example", "", None, 1, [], ["https://other.example"], {}),
    "sub": (1, None, "", "0", "-1", "x", "1.0", "+1", " 1", "\u0661", "9" * 18, "9" * 30, {}),
    "scope": (None, 1, ["profile:read"], {}),
    "jti": (None, 1, "", []),
    "sid": (None, 1, "", "1", NOBODYS, NOBODYS.upper(), NOBODYS.replace("-", ""), [NOBODYS]),
    "exp": (str(_FUTURE), _FUTURE + 0.5, None, [], True, float("inf"), float("nan"), "x"),
    "nbf": ("0", None, float("inf"), float("nan"), []),
    "iat": ("0", None, float("inf"), float("nan"), []),
}

CLAIMS: Mapping[str, Forge] = {
    **{f"no {name}": _without_claim(name) for name in _NAMES},
    **{
        f"{name} {value!r}": _with_claims(**{name: value})
        for name, values in _WRONG.items()
        for value in values
    },
    "expired": _at(iat=-3600, nbf=-3600, exp=-1),
    "expiring now": _at(iat=-3600, nbf=-3600, exp=0),
    "expired before 1970": _with_claims(exp=-1),
    "not yet good": _at(nbf=60),
    "issued in the future": _at(iat=60),
    "claims that are a list": lambda forger: forger.signed(claims=[forger.claims()]),
    "claims that are null": lambda forger: forger.signed(claims=b"null"),
    "claims that are empty": lambda forger: forger.signed(claims=b"{}"),
    "claims that are no JSON": lambda forger: forger.signed(claims=b"{"),
    "claims that are no UTF-8": lambda forger: forger.signed(claims=b'{"sub":"\xff"}'),
}

FORMS: Mapping[str, Forge] = {
    "only dots": lambda _: "..",
    "one part": lambda forger: forger.signed().partition(".")[0],
    "two parts": lambda forger: forger.signed().rpartition(".")[0],
    "four parts": lambda forger: f"{forger.signed()}.x",
    "five parts, as if encrypted": lambda forger: f"{forger.signed()}.x.y",
    "a dot before": lambda forger: f".{forger.signed()}",
    "a dot after": lambda forger: f"{forger.signed()}.",
    "a comma after": lambda forger: f"{forger.signed()},",
    "another parameter after": lambda forger: f'{forger.signed()}, realm="x"',
    "padding after": lambda forger: f"{forger.signed()}==",
    "quotes around": lambda forger: f'"{forger.signed()}"',
    "a space inside": lambda forger: forger.signed().replace(".", ". ", 1),
    "a space in the signature": lambda forger: f"{forger.signed()[:-9]} {forger.signed()[-9:]}",
    "Bearer twice": lambda forger: f"Bearer {forger.signed()}",
    "two tokens": lambda forger: f"{forger.signed()} {forger.signed()}",
    "base64 of the other alphabet": _in_standard_base64,
    "JSON serialization": _as_json_serialization,
    "more than a token can hold": _with_claims(padding="x" * 4000),
    "ten thousand characters": lambda _: "x" * 10_000,
    "percent-encoded": lambda forger: forger.signed().replace(".", "%2E"),
}

FORGED: Mapping[str, Forge] = {**KEYS, **HEADERS, **CLAIMS, **FORMS}
