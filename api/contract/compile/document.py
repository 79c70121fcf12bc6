"""The contract document: read from its files, bundled, checked and ready to serve.

Bundling keeps the names of components: a reference to `components/<kind>/<Name>.yaml` becomes
`#/components/<kind>/<Name>`, so that generated clients use the same names as the source.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.metadata import distribution
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urljoin, urlsplit

import jsonschema_rs
import orjson
import yaml
from typing_extensions import override

from api.contract.compile.implied import add_implied
from api.contract.compile.problem_kinds import PROBLEMS, ProblemKind, compile_kinds
from api.contract.compile.published import WEBHOOKS, narrow_webhooks, publish, upgrade
from api.contract.compile.schemas import SchemaNode
from api.contract.engine_errors import ContractError, Mistake

_ROOT: Final = "openapi.yaml"
_TEXT: Final = "tag:yaml.org,2002:str"
_OPENAPI: Final = "openapi_spec_validator/resources/schemas/v3.0/schema.json"
# libyaml reads the contract several times faster than Python does, but not every PyYAML build
# includes it.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_EMITTER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class Document:
    """A bundled and valid contract. `bundle` is for the engine and includes engine-only keys."""

    bundle: SchemaNode
    files: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """The source file of each path and component in the bundle."""

    def error(self, mistake: Mistake) -> ContractError:
        """Locate a mistake: its source file, and its position in that file."""
        return ContractError(*_origin(mistake.place, self.files), str(mistake))

    def served_at(self, url: str) -> "Document":
        """Return the contract with a server's URL before those that it declares.

        Declared URLs that are paths begin with the path of that URL. The URL of the external
        documentation becomes absolute, as OpenAPI 3.1 requires.
        """
        server = {"url": url, "description": "The public URL of the service."}
        prefix = urlsplit(url).path.rstrip("/")
        servers = [{**each, "url": _below(prefix, each["url"])} for each in self.bundle["servers"]]
        bundle = {**self.bundle, "servers": [server, *servers]}
        if docs := bundle.get("externalDocs"):
            bundle["externalDocs"] = {**docs, "url": urljoin(url, _below(prefix, docs["url"]))}
        return replace(self, bundle=bundle)

    @property
    def version(self) -> str:
        """The version of the contract."""
        version: str = self.bundle["info"]["version"]
        return version

    @cached_property
    def problems(self) -> Mapping[str, ProblemKind]:
        """Every kind of error by name, sorted by status."""
        return compile_kinds(self.bundle)

    @cached_property
    def public(self) -> SchemaNode:
        """The contract for clients, as OpenAPI 3.0.3."""
        return publish(self.bundle)

    @cached_property
    def json(self) -> bytes:
        """The public contract as UTF-8 JSON. Equal contracts give equal bytes."""
        return orjson.dumps(self.public)

    @cached_property
    def json_31(self) -> bytes:
        """The public contract as OpenAPI 3.1, in UTF-8 JSON."""
        return orjson.dumps(upgrade(self.public))

    @cached_property
    def yaml(self) -> bytes:
        """The public contract as UTF-8 YAML. Equal contracts give equal bytes."""
        text: str = yaml.dump(
            self.public, Dumper=_Emitter, sort_keys=False, allow_unicode=True, width=100
        )
        return text.encode()


def load_document(folder: Path) -> Document:
    """Read, bundle, check and complete the contract in a folder.

    Raises:
        ContractError: a file is missing or is not strict YAML, a reference cannot be resolved, the
            bundle is not valid OpenAPI 3.0, or a kind of error is invalid, unknown or unused.
    """
    bundle, files = _bundle(folder)
    for error in _openapi().iter_errors(bundle):
        raise ContractError(*_origin(error.instance_path, files), error.message)
    add_implied(bundle, files)
    narrow_webhooks(bundle)
    return Document(bundle, files)


@cache
def _openapi() -> jsonschema_rs.Draft4Validator:
    """Return the OpenAPI Initiative's schema of documents.

    The package that contains it checks more, which tests have checked before: its import and its
    checks would take a fifth of the start-up time, and 20 MB.
    """
    schema = distribution("openapi-spec-validator").locate_file(_OPENAPI)
    return jsonschema_rs.Draft4Validator(orjson.loads(Path(str(schema)).read_bytes()))


def _bundle(folder: Path) -> tuple[SchemaNode, Mapping[tuple[str, ...], str]]:
    """Return the contract as one document, and the file of each part of it."""
    root = _read(folder, _ROOT)
    files: dict[tuple[str, ...], str] = {}
    items: SchemaNode = {"paths": {}}
    for kind in ("paths", WEBHOOKS):
        for name, item in root.get(kind, {}).items():
            if not isinstance(item, dict) or set(item) != {"$ref"}:
                raise ContractError(
                    _ROOT, _pointer((kind, name)), "is not a $ref to a file of its own"
                )
            file = posixpath.normpath(str(item["$ref"]))
            items.setdefault(kind, {})[name] = _read(folder, file)
            files[kind, name] = file
    components: SchemaNode = {}
    for found in sorted(folder.glob("components/*/*.yaml")):
        kind, file = found.parent.name, found.relative_to(folder).as_posix()
        components.setdefault(kind, {})[found.stem] = _read(folder, file)
        files["components", kind, found.stem] = file
    problems: SchemaNode = {}
    for found in sorted(folder.glob("problems/*.yaml")):
        file = found.relative_to(folder).as_posix()
        problems[found.stem] = _read(folder, file)
        files[PROBLEMS, found.stem] = file
    bundle = {**root, **items, "components": components, PROBLEMS: problems}
    for place, file in files.items():
        part = bundle
        for key in place:
            part = part[key]
        _point_into_bundle(part, file, (), files)
    return bundle, files


def _point_into_bundle(
    node: object, file: str, place: tuple[str, ...], files: Mapping[tuple[str, ...], str]
) -> None:
    """Rewrite references to component files as references into the bundle."""
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
                    raise ContractError(file, _pointer(place), reason)
                node[key] = f"#/{'/'.join(name)}"
            else:
                _point_into_bundle(value, file, (*place, str(key)), files)


def _origin(place: Iterable[str | int], files: Mapping[tuple[str, ...], str]) -> tuple[str, str]:
    """Return the source file of a location in the bundle, and the JSON Pointer within that file."""
    parts = tuple(str(part) for part in place)
    for length in (3, 2):
        if parts[:length] in files:
            return files[parts[:length]], _pointer(parts[length:])
    return _ROOT, _pointer(parts)


def _pointer(place: Iterable[str]) -> str:
    """Format a JSON Pointer (RFC 6901)."""
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in place)


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


class _Loader(_PARSER):  # type: ignore[misc, valid-type]  # Chosen when the module is read.
    """Safe YAML with the scalars of YAML 1.2 and JSON: no dates, no `yes`, no `12:30` for 750.

    Other tools read the contract as YAML 1.2, while PyYAML on its own follows YAML 1.1.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    @override
    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        # Most nodes are strings. PyYAML's own method for strings would take half of the time that
        # reading the contract takes.
        if isinstance(node, yaml.ScalarNode) and node.tag == _TEXT:
            return node.value
        return super().construct_object(node, deep)

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, object]:
        pairs: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                reason = f"the key {key} is not a string; put it in quotes"
                raise yaml.MarkedYAMLError(problem=reason, problem_mark=key_node.start_mark)
            if key in pairs:
                reason = f"the key {key} is duplicated"
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
    """A YAML emitter that writes multi-line strings as blocks, to keep `/openapi.yaml` readable."""


def _write_text(emitter: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return emitter.represent_scalar(_TEXT, text, style=style)


_Emitter.add_representer(str, _write_text)


def _below(prefix: str, url: str) -> str:
    """Return a URL that is a path with a prefix, and any other URL unchanged."""
    return f"{prefix}{url}".rstrip("/") or "/" if url.startswith("/") else url
