"""The paths of the contract with their declared methods, and raw requests."""

from urllib.parse import urlsplit

from api.contract.compile.schemas import SchemaNode, resolve
from tests.faults.http1.wire import Answer, Delivery, exchange
from tests.our_document import our_document
from tests.service import Service

METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "PATCH"})
BUNDLE: SchemaNode = our_document().bundle


def _filled(path: str, item: SchemaNode) -> str:
    """Put the examples of its parameters into a path."""
    for node in item.get("parameters", []):
        parameter = resolve(BUNDLE, node)
        path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    return path


DECLARED: dict[str, frozenset[str]] = {
    _filled(path, item): frozenset(method.upper() for method in item) & METHODS
    for path, item in BUNDLE["paths"].items()
}
"""Every path, with an example for each parameter, and its methods."""

ALLOW: dict[str, str] = {
    path: ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}))
    for path, methods in DECLARED.items()
}
"""What `Allow` says of each path."""


def send_raw(service: Service, request: bytes, delivery: Delivery | None = None) -> Answer:
    """Send bytes as they are and return the first answer."""
    url = urlsplit(service.url)
    assert url.hostname is not None
    assert url.port is not None
    return exchange(url.hostname, url.port, request, delivery or Delivery()).answers[0]


def get_raw(service: Service, target: str, *fields: str) -> Answer:
    """Ask for a target exactly as it is written."""
    head = "".join(f"{field}\r\n" for field in ("Host: a", *fields))
    return send_raw(service, f"GET {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1"))
