"""Cross-origin requests (Fetch standard, section 3.2), answered from the contract.

Nothing is allowed unless the settings name the origin. A preflight learns the methods that the
path really has and the headers that the contract really reads.
"""

from collections.abc import Iterable

from api.contract.request import HeaderList, Request
from api.contract.routing import Resource

_MAX_AGE = "600"
_READ = ("Authorization", "Content-Type")


class Cors:
    """Says to browsers which origins may read the answers."""

    def __init__(self, origins: Iterable[str], resources: Iterable[Resource]) -> None:
        self._origins = frozenset(origins)
        exposed: set[str] = set()
        for resource in resources:
            for operation in resource.operations.values():
                for response in operation.responses.values():
                    exposed.update(response.headers)
        self._exposed = ", ".join(sorted(exposed))

    def headers(self, request: Request) -> HeaderList:
        """Return what an answer to this request carries for the browser."""
        if not self._origins:
            return []
        origin = request.fields.get("origin")
        if origin not in self._origins:
            return [("Vary", "Origin")]
        return [
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", self._exposed),
        ]

    def preflight(self, request: Request, resource: Resource) -> HeaderList:
        """Return what the answer to an OPTIONS request says of the resource."""
        if (
            request.fields.get("origin") not in self._origins
            or "access-control-request-method" not in request.fields
        ):
            return []
        parameters = {
            parameter.name
            for operation in resource.operations.values()
            for parameter in operation.headers.values()
        }
        return [
            ("Access-Control-Allow-Methods", resource.allow),
            ("Access-Control-Allow-Headers", ", ".join(sorted({*_READ, *parameters}))),
            ("Access-Control-Max-Age", _MAX_AGE),
        ]
