"""The contract document: read from its files, bundled into one, checked, and ready to be served.

Bundling keeps the names of components: a reference to `components/<kind>/<Name>.yaml` becomes
`#/components/<kind>/<Name>`, so that what clients generate from the document is named as here.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

import orjson
import yaml
from openapi_spec_validator import OpenAPIV30SpecValidator
from typing_extensions import override

from api.contract.schemas import SchemaNode

ENGINE_PREFIX: Final = "x-engine-"
"""Keys that begin so tell the engine what no client can use; they are not served."""

_ROOT: Final = "openapi.yaml"
_REASON_LENGTH: Final = 300
# libyaml reads the contract several times as fast as Python does, and not every PyYAML has it.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_EMITTER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class ContractError(Exception):
    """The contract cannot be used; the message names the file and the place, in one line."""

    def __init__(self, file: str, place: str, reason: str) -> None:
        line = reason.strip().partition("\n")[0]
        if len(line) > _REASON_LENGTH:
            line = f"{line[:_REASON_LENGTH]} ..."
        super().__init__(": ".join(part for part in (file, place, line) if part))


@dataclass(frozen=True)
class Document:
    """A contract that is bundled and valid; `bundle` has everything and is for the engine."""

    bundle: SchemaNode

    @cached_property
    def public(self) -> SchemaNode:
        """The contract without engine-only keys, for clients."""
        return {
            key: _without_engine_keys(value)
            for key, value in self.bundle.items()
            if not key.startswith(ENGINE_PREFIX)
        }

    @cached_property
    def json(self) -> bytes:
        """The public contract as JSON in UTF-8: the same bytes for the same contract."""
        return orjson.dumps(self.public)

    @cached_property
    def yaml(self) -> bytes:
        """The public contract as YAML in UTF-8: the same bytes for the same contract."""
        text: str = yaml.dump(
            self.public, Dumper=_Emitter, sort_keys=False, allow_unicode=True, width=100
        )
        return text.encode()


def load_document(folder: Path) -> Document:
    """Read, bundle and check the contract in a folder.

    Raises:
        ContractError: a file is missing or is not strict YAML, a reference leads nowhere, or the
            whole is not valid OpenAPI 3.0.
    """
    bundle, files = _bundle(folder)
    for error in OpenAPIV30SpecValidator(bundle).iter_errors():
        raise ContractError(*_origin(list(error.absolute_path), files), error.message)
    return Document(bundle)


def _bundle(folder: Path) -> tuple[SchemaNode, Mapping[tuple[str, ...], str]]:
    """Return the contract as one document, and which file each path and component is from."""
    root = _read(folder, _ROOT)
    files: dict[tuple[str, ...], str] = {}
    paths: SchemaNode = {}
    for url, item in root.get("paths", {}).items():
        if not isinstance(item, dict) or set(item) != {"$ref"}:
            raise ContractError(_ROOT, f"paths: {url}", "is not a $ref to a file of its own")
        file = posixpath.normpath(str(item["$ref"]))
        paths[url] = _read(folder, file)
        files["paths", url] = file
    components: SchemaNode = {}
    for found in sorted(folder.glob("components/*/*.yaml")):
        kind, file = found.parent.name, found.relative_to(folder).as_posix()
        components.setdefault(kind, {})[found.stem] = _read(folder, file)
        files["components", kind, found.stem] = file
    bundle = {**root, "paths": paths, "components": components}
    for place, file in files.items():
        part = bundle
        for key in place:
            part = part[key]
        _point_into_bundle(part, file, (), files)
    return bundle, files


def _point_into_bundle(
    node: object, file: str, place: tuple[str, ...], files: Mapping[tuple[str, ...], str]
) -> None:
    """Turn each reference to a component's file into one to the component in the bundle."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            _point_into_bundle(item, file, (*place, str(index)), files)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                target = posixpath.join(posixpath.dirname(file), str(value))
                name = tuple(posixpath.normpath(target).removesuffix(".yaml").split("/"))
                if name not in files or not target.endswith(".yaml"):
                    reason = f"$ref {value} is not the file of a component"
                    raise ContractError(file, ": ".join(place), reason)
                node[key] = f"#/{'/'.join(name)}"
            else:
                _point_into_bundle(value, file, (*place, str(key)), files)


def _origin(place: Iterable[str | int], files: Mapping[tuple[str, ...], str]) -> tuple[str, str]:
    """Return the file that a place in the bundle is from, and the place in that file."""
    parts = tuple(str(part) for part in place)
    for length in (3, 2):
        if parts[:length] in files:
            return files[parts[:length]], ": ".join(parts[length:])
    return _ROOT, ": ".join(parts)


def _read(folder: Path, file: str) -> SchemaNode:
    try:
        content = yaml.load((folder / file).read_bytes(), _Loader)  # noqa: S506  # It is a safe one.
    except OSError as error:
        raise ContractError(file, "", error.strerror or "cannot be read") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ContractError(file, place, error.problem or "is not YAML") from None
    except yaml.YAMLError as error:
        raise ContractError(file, "", str(error)) from None
    if not isinstance(content, dict):
        raise ContractError(file, "", "is not a YAML mapping")
    return content


def _without_engine_keys(node: object) -> object:
    if isinstance(node, dict):
        return {
            key: _without_engine_keys(value)
            for key, value in node.items()
            if not key.startswith(ENGINE_PREFIX)
        }
    if isinstance(node, list):
        return [_without_engine_keys(item) for item in node]
    return node


class _Loader(_PARSER):  # type: ignore[misc, valid-type]  # Chosen when the module is read.
    """Safe YAML with the scalars of YAML 1.2 and JSON: no dates, no `yes`, no `12:30` for 750.

    Other tools that read the contract follow YAML 1.2, while PyYAML by itself follows 1.1.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, object]:
        pairs: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                reason = f"the key {key} is not a string; put it in quotes"
                raise yaml.MarkedYAMLError(problem=reason, problem_mark=key_node.start_mark)
            if key in pairs:
                reason = f"the key {key} stands here a second time"
                raise yaml.MarkedYAMLError(problem=reason, problem_mark=key_node.start_mark)
            pairs[key] = self.construct_object(value_node, deep=deep)
        return pairs


for _tag, _pattern, _first in (
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("bool", r"^(?:true|false)$", list("tf")),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", list("-0123456789")),
    ("float", r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$", list("-0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


class _Emitter(_EMITTER):  # type: ignore[misc, valid-type]  # Chosen when the module is read.
    """Writes texts of several lines as such, for people who read `/openapi.yaml`."""


def _write_text(emitter: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return emitter.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Emitter.add_representer(str, _write_text)
