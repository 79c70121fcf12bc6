"""DESIGN's dependency rule: app → api → models → SQLAlchemy, and never back."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.our_document import our_document

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts): ast.parse(file.read_text())
    for file in [ROOT / "app.py", *ROOT.glob("api/**/*.py"), *ROOT.glob("models/**/*.py")]
}
LARGEST_FOLDER = 16
LARGEST_FOLDER_OF_TESTS = 22
"""Modules that one folder may have."""
LONGEST_TEST_NAME = 70
TAGS = {tag["name"] for tag in our_document().bundle["tags"]}
WEB = {
    *("flask", "werkzeug", "connexion", "starlette", "uvicorn", "uvloop", "httptools", "jinja2"),
    *("httpx", "jwt", "limits", "redis", "itsdangerous", "prometheus_client", "click", "http"),
    *("openapi_spec_validator", "jsonschema_rs", "jiter"),
}
OPENAPI_KEYS = {
    *("operationId", "requestBody", "securitySchemes", "additionalProperties", "nullable"),
    *("$ref", "x-rate-limit", "x-engine-pool", "x-engine-transaction", "x-engine-log"),
    *(
        "x-transitions",
        "x-engine-attribute",
        "x-engine-wait",
        "x-engine-staleness",
        "x-message",
        "x-property-names",
        "x-requires-scopes",
        "x-requires-session",
        "x-engine-pool-when-given",
    ),
}


def imports(module: str) -> set[str]:
    """Every module that a module imports, wherever in it the import stands."""
    return set(_imports(MODULES[module]))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out"
            yield str(node.module)
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def is_part(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def offenders(where: str, *forbidden: str) -> list[tuple[str, str]]:
    """Pairs of module and import, of the modules below `where`, that should not be."""
    return [
        (module, name)
        for module in sorted(MODULES)
        if is_part(module, where)
        for name in sorted(imports(module))
        if is_part(name, *forbidden)
    ]


def test_models_import_neither_the_api_nor_the_web() -> None:
    assert offenders("models", "api", "app", "tests", *WEB) == []


def test_the_api_does_not_import_the_application() -> None:
    assert offenders("api", "app", "tests") == []


def test_the_engine_imports_nothing_of_concord() -> None:
    used = offenders("api.contract", "api", "models", "app", "tests", "sqlalchemy")
    assert [pair for pair in used if not is_part(pair[1], "api.contract")] == []
    # Nor by a name that is put together, or by the package that it stands in.
    strings = {
        (module, node.value)
        for module, tree in MODULES.items()
        if is_part(module, "api.contract")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and is_part(str(node.value), "api", "models")
    }
    assert strings == set()


def in_circles(below: dict[str, set[str]]) -> set[str]:
    """What is left when all that uses nothing of the rest is taken away, over and over."""
    while bottom := {each for each, used in below.items() if not used & below.keys()}:
        below = {each: used for each, used in below.items() if each not in bottom}
    return set(below)


def test_modules_form_no_circle() -> None:
    assert in_circles({each: imports(each) & MODULES.keys() - {each} for each in MODULES}) == set()


@pytest.mark.parametrize("place", ["api", "models", "api.contract"])
def test_folders_form_no_circle(place: str) -> None:
    def folder(module: str) -> str | None:
        """The folder of the place that has a module, however deep."""
        inside = module.removeprefix(f"{place}.").split(".")
        return (
            inside[0]
            if is_part(module, place) and (ROOT / place.replace(".", "/") / inside[0]).is_dir()
            else None
        )

    below: dict[str, set[str]] = defaultdict(set)
    for module in MODULES:
        if here := folder(module):
            used = {folder(name) for name in imports(module) & MODULES.keys()}
            below[here] |= {each for each in used if each not in (None, here)}
    assert len(below) > 1
    assert in_circles(below) == set()


def test_every_file_directly_in_the_api_is_a_tag() -> None:
    files = {file.stem for file in (ROOT / "api").glob("*.py")} - {"__init__"}
    assert files == TAGS


def test_folders_stay_small() -> None:
    """The contract's tags determine the modules of `api`, and migrations are only ever added."""
    folders = Counter(module.rpartition(".")[0] for module in MODULES)
    del folders["api"], folders["models.migrations.versions"]
    assert {folder: number for folder, number in folders.items() if number > LARGEST_FOLDER} == {}


def test_folders_of_tests_stay_small() -> None:
    """The bench has one program for each measurement."""
    files = [each for each in (ROOT / "tests").rglob("*.py") if "node_modules" not in each.parts]
    folders = Counter(file.relative_to(ROOT).parent for file in files)
    crowded = {folder for folder, number in folders.items() if number > LARGEST_FOLDER_OF_TESTS}
    assert {folder for folder in crowded if "bench" not in folder.parts} == set()


def test_only_models_use_sql() -> None:
    # A handler names the session or the connection that it hands on to a model, and nothing else
    # of SQLAlchemy.
    used = offenders("api", "sqlalchemy", "alembic", "psycopg", "sqlite3")
    assert {name for _, name in used} <= {
        *("sqlalchemy", "sqlalchemy.Connection"),
        *("sqlalchemy.orm", "sqlalchemy.orm.Session"),
    }
    used_by_app = offenders("app", "sqlalchemy", "alembic", "psycopg", "sqlite3")
    assert {name for _, name in used_by_app} <= {
        *("sqlalchemy", "sqlalchemy.Connection"),
        *("sqlalchemy.orm", "sqlalchemy.orm.Session"),
    }


def test_handlers_never_import_each_other() -> None:
    handlers = {f"api.{tag}" for tag in TAGS}
    assert handlers <= set(MODULES)
    for handler in handlers:
        assert not [name for name in imports(handler) if is_part(name, *(handlers - {handler}))]


def test_only_the_binding_imports_connexion() -> None:
    users = {module for module, _ in offenders("api", "connexion")}
    assert users == {"api.contract.binding"}
    assert offenders("app", "connexion") == []


def test_only_the_engine_reads_the_contract() -> None:
    for module, tree in MODULES.items():
        if is_part(module, "api.contract"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript):
                assert not ast.unparse(node.value).endswith(("bundle", "document.public")), module
            if isinstance(node, ast.Constant):
                assert node.value not in OPENAPI_KEYS, module


def test_only_the_binding_imports_flask() -> None:
    users = {module for module in MODULES if any(is_part(n, "flask") for n in imports(module))}
    assert users == {"api.contract.binding"}


def test_test_names_are_short() -> None:
    names = re.findall(
        r"def (test_\w+)", "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    )
    assert [name for name in names if len(name) > LONGEST_TEST_NAME] == []


def test_module_names_are_unique() -> None:
    names = Counter(module.rpartition(".")[2] for module in MODULES)
    assert {name for name, number in names.items() if number > 1} == {"__init__"}


def test_class_names_are_unique() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(module)
    # What the engine declares as a port has the name of what implements it.
    ports = {"api.contract.ports", "api.contract.serve.request"}
    twice = {
        name: modules
        for name, modules in places.items()
        if len(modules) > 2 or (len(modules) == 2 and not modules & ports)
    }
    assert twice == {}


def test_migrations_are_numbered_in_one_line() -> None:
    files = (ROOT / "models/migrations/versions").glob("[0-9]*.py")
    numbers = sorted(file.name[:4] for file in files)
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
