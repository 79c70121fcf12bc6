"""What programs and people need to know: the contract, Swagger UI, and the keys that verify."""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType

from api.contract.content import Content
from api.contract.document import Document
from api.key_file import Jwk
from api.signing import KeyRing
from models.errors import NotFound

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml; charset=utf-8",
}
_OWN = ("confirm.css", "confirm.js", "docs.css", "docs.js", "problems.css")
_SWAGGER_UI = ("favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css")


class Assets:
    """The files that the pages of this service load, held in memory.

    Swagger UI's own come from the flask-swagger-ui package, which carries its releases unchanged.
    """

    def __init__(self, drawn: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Read the files; `drawn` are those that are made from the contract, by their names."""
        self._files = {
            **_read(files("api") / "assets", _OWN),
            **_read(files("flask_swagger_ui") / "dist", _SWAGGER_UI),
            **{name: _content(name, body) for name, body in drawn.items()},
        }

    def get(self, name: str) -> Content:
        """The file of that name.

        Raises:
            NotFound: if the pages have no such file.
        """
        try:
            return self._files[name]
        except KeyError:
            raise NotFound from None


def _read(folder: Traversable, names: Iterable[str]) -> dict[str, Content]:
    return {name: _content(name, (folder / name).read_bytes()) for name in names}


def _content(name: str, body: bytes) -> Content:
    return Content(_MEDIA_TYPES[name.rpartition(".")[2]], body)


def get_root() -> None:
    """Lead a person to the documentation: the contract says where it is."""


def get_docs() -> None:
    """The page is the template of this name, and needs nothing else."""


def get_docs_asset(assets: Assets, file: str) -> Content:
    """One of the files that the pages load."""
    return assets.get(file)


def get_openapi_json(document: Document) -> Content:
    """The contract as clients see it, in JSON."""
    return Content("application/json", document.json)


def get_openapi_yaml(document: Document) -> Content:
    """The contract as clients see it, in YAML (RFC 9512)."""
    return Content("application/yaml", document.yaml)


def get_jwks(keys: KeyRing) -> dict[str, list[Jwk]]:
    """The public keys that verify access tokens."""
    return {"keys": keys.jwks()}
