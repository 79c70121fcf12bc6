"""Contracts of any size, made for `scaling.py` out of Concord's components, and their handlers.

The handlers do nothing, so that what is measured is the engine.
"""

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

import app
from api.server.application import Application
from api.server.settings import Settings

_TAG = "bench"
_ITEM = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "name", "price"],
    "properties": {
        "id": {"type": "integer", "format": "int64", "minimum": 1, "maximum": 2**53},
        "name": {"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[ -~]+$"},
        "price": {"$ref": "../components/schemas/Money.yaml"},
    },
}
_BODY = {
    "type": "object",
    "additionalProperties": False,
    "required": ["items"],
    "properties": {"items": {"type": "array", "minItems": 1, "maxItems": 20_000, "items": _ITEM}},
}


def make_application(folder: Path, operations: int, settings: Settings) -> Application:
    """Make Concord's application with a contract of so many operations.

    The first one takes a body at `POST /v1/bench/bodies`, the others are
    `GET /v1/bench/<number>/things/{thing_id}`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(app.CONTRACT / "components", folder / "components")
    shutil.copytree(app.CONTRACT / "problems", folder / "problems", ignore=_named)
    root = yaml.safe_load((app.CONTRACT / "openapi.yaml").read_text())
    paths = {"/v1/bench/bodies": _taking()}
    for number in range(1, operations):
        paths[f"/v1/bench/{number}/things/{{thing_id}}"] = _reading(number)
    root["tags"] = [{"name": _TAG, "description": "Made for the bench."}]
    root["paths"] = {}
    del root["x-webhooks"]
    (folder / "paths").mkdir()
    for number, (path, item) in enumerate(paths.items()):
        (folder / "paths" / f"{number}.yaml").write_text(yaml.safe_dump(item))
        root["paths"][path] = {"$ref": f"paths/{number}.yaml"}
    (folder / "openapi.yaml").write_text(yaml.safe_dump(root))
    _install_handlers(operations)
    contract = app.CONTRACT
    app.CONTRACT = folder
    try:
        return app.create_app(settings)
    finally:
        app.CONTRACT = contract


def _named(folder: str, files: list[str]) -> list[str]:
    """Return the kinds of error that operations have to name, which these do not."""
    return [file for file in files if "\nimplied-by: " not in (Path(folder) / file).read_text()]


def _install_handlers(operations: int) -> None:
    """Give the tag a module of its own, as it has for the contract's own tags."""
    module = ModuleType(f"api.{_TAG}")

    def take_body(body: dict[str, list[object]]) -> dict[str, int]:
        return {"id": len(body["items"])}

    def read_thing(thing_id: int) -> dict[str, int]:
        return {"id": thing_id}

    vars(module)["take_body"] = take_body
    for number in range(1, operations):
        vars(module)[f"read_thing_{number}"] = read_thing
    sys.modules[module.__name__] = module


def _reading(number: int) -> dict[str, Any]:
    thing = {"name": "thing_id", "in": "path", "required": True, "schema": _id()}
    limit = {"$ref": "../components/parameters/Limit.yaml"}
    return {"get": _operation(f"read_thing_{number}") | {"parameters": [thing, limit]}}


def _taking() -> dict[str, Any]:
    content = {"application/json": {"schema": _BODY}}
    body = {"required": True, "content": content}
    return {"post": _operation("take_body") | {"requestBody": body}}


def _operation(name: str) -> dict[str, Any]:
    answer = {"type": "object", "required": ["id"], "properties": {"id": _id()}}
    return {
        "operationId": name,
        "tags": [_TAG],
        "security": [],
        "x-engine-pool": "inline",
        "x-engine-transaction": "none",
        "responses": {
            "200": {
                "description": "Done.",
                "content": {"application/json": {"schema": answer}},
            },
        },
    }


def _id() -> dict[str, Any]:
    return {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**53}
