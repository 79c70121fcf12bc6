"""Documents for clients: the contract, Swagger UI, guides and the keys that verify tokens."""

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from api.contract.compile.document import Document
from api.contract.ports import Content
from api.credentials.key_file import Jwk
from api.credentials.signing import KeyRing
from api.pages.guides import Guide, Guides
from models.errors import NotFound

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml; charset=utf-8",
}
_OWN = ("confirm.css", "confirm.js", "docs.css", "docs.js", "problems.css")
_SWAGGER_UI = ("favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css")

GUIDES = (
    "tour",
    "requests",
    "errors",
    "sign-in",
    "orders",
    "payments",
    "events",
    "webhooks",
    "idempotency",
    "sdks",
    "versions",
    "glossary",
)
"""The pages of `docs/` for clients, in reading order."""


class Assets:
    """The files that the service's pages load; each is kept in memory after its first request.

    The files of Swagger UI come from the package flask-swagger-ui, which contains unmodified
    releases.
    """

    def __init__(self, drawn: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Locate the files; `drawn` maps file names to images generated from the contract."""
        own, swagger_ui = files("api.pages") / "assets", files("flask_swagger_ui") / "dist"
        self._found = dict.fromkeys(_OWN, own) | dict.fromkeys(_SWAGGER_UI, swagger_ui)
        self._read = {name: _content(name, body) for name, body in drawn.items()}

    def get(self, name: str) -> Content:
        """Return the file with this name.

        Raises:
            NotFound: the pages have no such file.
        """
        if name in self._found and name not in self._read:
            self._read[name] = _content(name, (self._found[name] / name).read_bytes())
        try:
            return self._read[name]
        except KeyError:
            raise NotFound from None


def _content(name: str, body: bytes) -> Content:
    return Content(_MEDIA_TYPES[name.rpartition(".")[2]], body)


def get_root() -> None:
    """Redirect to the documentation; the contract declares where it is."""


def get_docs() -> None:
    """Return the documentation page, which is a template without data."""


def get_docs_asset(assets: Assets, name: str) -> Content:
    """Return a file that the pages load."""
    return assets.get(name)


def get_guide(guides: Guides, guide: str) -> Guide:
    """Return a guide, which is rendered as a web page."""
    try:
        return guides.by_name[guide]
    except KeyError:
        raise NotFound from None


def get_openapi_json(document: Document) -> Content:
    """Return the public contract as JSON."""
    return Content("application/json", document.json)


def get_openapi_31(document: Document) -> Content:
    """Return the public contract as OpenAPI 3.1."""
    return Content("application/json", document.json_31)


def get_openapi_yaml(document: Document) -> Content:
    """Return the public contract as YAML (RFC 9512)."""
    return Content("application/yaml", document.yaml)


def get_jwks(keys: KeyRing) -> dict[str, list[Jwk]]:
    """Return the public keys that verify access tokens."""
    return {"keys": keys.jwks()}
