"""Cross-origin requests (Fetch standard, section 3.2), derived from the contract.

No origin is allowed unless the settings name it. A preflight response lists the path's actual
methods and the headers that its operations read.
"""

from collections.abc import Iterable

from api.contract.serve.request import HeaderList, Request
from api.contract.serve.routing import Resource

_MAX_AGE = "600"
_READ = ("Authorization", "Content-Type")


class Cors:
    """Tells browsers which origins may read responses."""

    def __init__(self, origins: Iterable[str], resources: Iterable[Resource]) -> None:
        self._origins = frozenset(origins)
        exposed: set[str] = set()
        for resource in resources:
            for operation in resource.operations.values():
                for response in operation.responses.values():
                    exposed.update(response.headers)
        self._exposed = ", ".join(sorted(exposed))

    @property
    def varies(self) -> HeaderList:
        """The header that tells caches that responses depend on the origin, if they do."""
        return [("Vary", "Origin")] if self._origins else []

    def headers(self, request: Request) -> HeaderList:
        """Return the CORS headers of a response to this request."""
        origin = request.fields.get("origin")
        if origin not in self._origins:
            return []
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", self._exposed),
        ]

    def preflight(self, request: Request, resource: Resource) -> HeaderList:
        """Return the CORS headers of a response to an OPTIONS request for the resource."""
        if (
            request.fields.get("origin") not in self._origins
            or "access-control-request-method" not in request.fields
        ):
            return []
        operations = resource.operations.values()
        parameters = {each.name for operation in operations for each in operation.headers.values()}
        parameters |= {each.security.header for each in operations if each.security}
        return [
            ("Access-Control-Allow-Methods", resource.allow),
            ("Access-Control-Allow-Headers", ", ".join(sorted({*_READ, *parameters}))),
            ("Access-Control-Max-Age", _MAX_AGE),
        ]
