"""DESIGN's dependency rule: app → api → models → SQLAlchemy, and never back."""

import ast
from collections.abc import Iterator
from pathlib import Path

from api.contract.document import load_document

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts): ast.parse(file.read_text())
    for file in [ROOT / "app.py", *ROOT.glob("api/**/*.py"), *ROOT.glob("models/**/*.py")]
}
TAGS = {tag["name"] for tag in load_document(ROOT / "openapi").bundle["tags"]}
WEB = {
    *("flask", "werkzeug", "connexion", "starlette", "uvicorn", "uvloop", "httptools", "jinja2"),
    *("httpx", "jwt", "limits", "redis", "itsdangerous", "prometheus_client", "click", "http"),
    *("openapi_spec_validator", "jsonschema_rs", "jiter"),
}
OPENAPI_KEYS = {
    *("operationId", "requestBody", "securitySchemes", "additionalProperties", "nullable"),
    *("$ref", "x-rate-limit", "x-engine-pool", "x-engine-transaction", "x-transitions"),
    *("x-engine-attribute", "x-property-names"),
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


def test_models_know_neither_the_api_nor_the_web() -> None:
    assert offenders("models", "api", "app", "tests", *WEB) == []


def test_the_api_does_not_know_the_application() -> None:
    assert offenders("api", "app", "tests") == []


def test_only_models_speak_sql() -> None:
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


def test_only_the_binding_knows_connexion() -> None:
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


def test_flask_is_met_only_where_it_is_bound_and_where_pages_are_rendered() -> None:
    users = {module for module in MODULES if any(is_part(n, "flask") for n in imports(module))}
    assert users == {"api.contract.binding", "app"}
