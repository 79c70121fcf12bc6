"""The contract for people and for programs: Swagger UI, and the document as JSON and as YAML."""

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable

from api.contract.content import Content
from api.contract.document import Document
from models.errors import NotFound

_MEDIA_TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "png": "image/png",
}
_OWN = ("docs.css", "docs.js", "problems.css")
_SWAGGER_UI = ("favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css")


class Assets:
    """The files that the pages of this service load, held in memory.

    Swagger UI's own come from the flask-swagger-ui package, which carries its releases unchanged.
    """

    def __init__(self) -> None:
        self._files = {
            **_read(files("api") / "assets", _OWN),
            **_read(files("flask_swagger_ui") / "dist", _SWAGGER_UI),
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
    return {
        name: Content(_MEDIA_TYPES[name.rpartition(".")[2]], (folder / name).read_bytes())
        for name in names
    }


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
