"""Writes the generated parts of the documentation: `python tests/generate_docs.py`, or `make docs`.

A generated part stands between `<!-- name -->` and `<!-- /name -->`. `file` takes the path of the
file that it shows.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, starmap
from operator import itemgetter
from pathlib import Path
from typing import Final

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from api.contract.compile.document import load_document
from api.contract.compile.published import WEBHOOKS
from api.contract.compile.transitions import compile_state_machine
from api.pages.diagrams import mermaid
from api.server.commands import cli
from api.server.settings import Settings
from app import CONTRACT
from models.lifecycle import Lifecycle

PAGES: Final = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
EXAMPLE: Final = ROOT / "tests" / "contract" / "worked_example"
REQUIRED_IN_PRODUCTION: Final[Mapping[str, str]] = {
    "DATABASE_URL": "postgresql://database.example/concord",
    "SIGNING_KEY_FILE": "signing-key.pem",
}
DEFAULTS_IN_WORDS: Final[Mapping[str, str]] = {
    "hashing_threads": "number of processor cores",
    "mail_from": "`concord@` and the host of `PUBLIC_URL`",
    "public_url": "`http://HOST:PORT`",
}
"""Defaults that depend on the machine or on other settings."""

_REGION = re.compile(r"(?ms)^<!-- ([a-z-]+)(?: (\S+))? -->\n(.*?)^<!-- /\1 -->$")
_LANGUAGES: Final[Mapping[str, str]] = {".py": "python", ".yaml": "yaml"}


def generate(text: str) -> str:
    """Return a page with its generated parts as they should be.

    Raises:
        KeyError: a part has an unknown name.
    """
    return _REGION.sub(_region, text)


def _region(found: re.Match[str]) -> str:
    name, argument, _ = found.groups()
    content = _file(argument) if name == "file" else PARTS[name]()
    begin = f"<!-- {name} {argument} -->" if argument else f"<!-- {name} -->"
    return f"{begin}\n{content}<!-- /{name} -->"


def _table(head: str, rows: Iterable[str]) -> str:
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows, ""])


def _commands() -> Iterator[str]:
    for name, command in cli.commands.items():
        options = "".join(f" {option.opts[0]}" for option in command.params if option.required)
        yield f"| `{name}{options}` | {(command.help or '').splitlines()[0]} |"


def _settings() -> Iterator[str]:
    development = Settings.from_environment({})
    production = Settings.from_environment({"APP_ENV": "production", **REQUIRED_IN_PRODUCTION})
    for name, field in Settings.model_fields.items():
        default, there = _default(name, development), _default(name, production)
        if name.upper() in REQUIRED_IN_PRODUCTION:
            there = "required"
        elif name == "app_env" or there == default:
            there = ""
        yield f"| `{name.upper()}` | {default} | {there} | {field.description} |"


def _default(name: str, settings: Settings) -> str:
    value = getattr(settings, name)
    if name in DEFAULTS_IN_WORDS:
        return DEFAULTS_IN_WORDS[name]
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _order_states() -> str:
    bundle = load_document(CONTRACT).bundle
    return _block("mermaid", mermaid(Lifecycle(*compile_state_machine(bundle, "OrderStatus"))))


def _event_types() -> Iterator[str]:
    bundle = load_document(CONTRACT).bundle
    for name in bundle["components"]["schemas"]["EventType"]["enum"]:
        content = bundle[WEBHOOKS][name]["post"]["requestBody"]["content"]
        body = content["application/json"]["schema"]
        subject = body["properties"]["subject"]["example"].partition("/")[0]
        member = name.partition(".")[0]
        facts = body["properties"]["data"]["properties"][member]["properties"]
        told = "; ".join(filter(None, starmap(_told, facts.items())))
        yield f"| `{name}` | `{subject}/…` | `{member}` | {told} |"


def _told(name: str, schema: Mapping[str, object]) -> str:
    """Describe the values of a member of an event's data, if its schema is not a component."""
    values = schema.get("enum")
    if values == [None]:
        return f"`{name}` is null"
    if isinstance(values, list):
        shown = [f"`{each if isinstance(each, str) else json.dumps(each)}`" for each in values]
        *others, last = shown
        listed = f"{', '.join(others)} or {last}" if others else last
        return f"`{name}` is {listed}"
    return ""


def _edits() -> str:
    edits = yaml.safe_load((EXAMPLE / "edits.yaml").read_text("utf-8"))
    shown = []
    for file, group in groupby(edits, key=itemgetter("file")):
        diffs = " …\n".join(_diff(edit) for edit in group)
        shown.append(f"`{file}`:\n\n{_block('diff', diffs)}")
    return "\n".join(shown)


def _diff(edit: Mapping[str, str]) -> str:
    kept = "".join(f" {line}".rstrip() + "\n" for line in edit["after"].split("\n"))
    return kept + "".join(f"+{line}\n" for line in edit["insert"].splitlines())


def _file(path: str) -> str:
    file = EXAMPLE / path
    return f"`{path}`:\n\n" + _block(_LANGUAGES[file.suffix], file.read_text())


def _block(language: str, content: str) -> str:
    return f"```{language}\n{content}```\n"


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "commands": lambda: _table("| command | effect |", _commands()),
    "settings": lambda: _table(
        "| variable | default | in production | meaning |",
        _settings(),
    ),
    "order-states": _order_states,
    "event-types": lambda: _table(
        "| type | `subject` | member of `data` | particulars |", _event_types()
    ),
    "edits": _edits,
}
"""How each part is generated, by its name."""


def main() -> None:
    """Write the pages that are out of date."""
    for page in PAGES:
        before = page.read_text("utf-8")
        after = generate(before)
        if after != before:
            page.write_text(after, "utf-8")
            sys.stdout.write(f"{page.relative_to(ROOT)} written\n")


if __name__ == "__main__":
    main()
