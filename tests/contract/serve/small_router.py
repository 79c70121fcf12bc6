"""Routers of contracts that consist of nothing but paths."""

from collections.abc import Iterable

from api.contract.compile.operations import compile_operations
from api.contract.compile.schemas import SchemaNode, Validators
from api.contract.serve.routing import Router


def router_of(paths: Iterable[str]) -> Router:
    """A router in which each path has a GET, its parameters being any text."""
    bundle: SchemaNode = {
        "paths": {path: _readable(f"operation{number}", path) for number, path in enumerate(paths)}
    }
    return Router(compile_operations(bundle, Validators(bundle)))


def _schema(part: str) -> SchemaNode:
    """The schema of a parameter; one that is called `rest` is a path."""
    return {"type": "string", "format": "path"} if part == "{rest}" else {"type": "string"}


def _readable(name: str, path: str) -> SchemaNode:
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": _schema(part)}
        for part in path.split("/")
        if part.startswith("{")
    ]
    return {
        "get": {
            "operationId": name,
            "tags": ["things"],
            "security": [],
            "parameters": parameters,
            "responses": {"204": {"description": "Nothing."}},
        }
    }
