"""What every test may use: a service on either database, and the books kept over the whole run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from httpx import create_ssl_context

from tests import seen
from tests.databases import KINDS, make_database_url
from tests.our_document import load_compiled, load_once
from tests.service import Service, running


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """Read once in a process what takes most of the time of making an application or a client.

    That is the contract, which nothing changes once it is compiled, and the certificates that a
    client trusts. The tests of reading the contract do without this.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.contract.contract.load_document", load_once)
        patch.setattr("app.load", load_compiled)
        patch.setattr("httpx._transports.default.create_ssl_context", cache(create_ssl_context))
        yield


@pytest.fixture(scope="module", params=KINDS)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that the tests of one module share, once on each database."""
    folder = tmp_path_factory.mktemp("service")
    with make_database_url(request.param, folder) as url, running(folder, url) as service:
        yield service


@pytest.fixture
def fresh_service(tmp_path: Path) -> Iterator[Service]:
    """A service that no other test has touched, on the embedded database."""
    with make_database_url("sqlite", tmp_path) as url, running(tmp_path, url) as service:
        yield service


def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores, as many tests wait for somebody now and then."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes of this run keep what they saw, and Unicode's tables, in one place each."""
    if not hasattr(config, "workerinput"):
        os.environ[seen.FOLDER] = tempfile.mkdtemp(prefix="concord-seen-")
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(config.rootpath / "var/cache/hypothesis")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start files whose tests have the longest time limits, so that none runs alone at the end."""
    default = float(config.getini("timeout"))
    longest: dict[Path, float] = {}
    for item in items:
        own = item.get_closest_marker("timeout")
        limit = own.args[0] if own else default
        longest[item.path] = max(limit, longest.get(item.path, 0))
    items.sort(key=lambda item: -longest[item.path])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a whole run that saw an undeclared answer, or did not see a declared one."""
    if hasattr(session.config, "workerinput") or not _is_whole(session.config):
        return
    declared, pairs = seen.declared_pairs(), seen.seen_pairs(Path(os.environ[seen.FOLDER]))
    unseen = {pair for pair in declared - pairs if pair[1] not in seen.PROVOKED_ELSEWHERE}
    if session.exitstatus == pytest.ExitCode.OK and (unseen or pairs - declared):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what the fuzzer did, and which declared answers were seen; others are in brackets."""
    for line in _counted(terminalreporter):
        terminalreporter.write_line(line)
    if hasattr(config, "workerinput") or not _is_whole(config):
        return
    declared, pairs = seen.declared_pairs(), seen.seen_pairs(Path(os.environ[seen.FOLDER]))
    terminalreporter.section("contract coverage")
    for line in seen.table(declared, pairs):
        terminalreporter.write_line(line)
    terminalreporter.write_line(
        f"{len(declared & pairs)} of {len(declared)} declared pairs of operation and status seen, "
        f"{len(pairs - declared)} undeclared: {sorted(pairs - declared)}"
    )
    unseen = {pair for pair in declared - pairs if pair[1] not in seen.PROVOKED_ELSEWHERE}
    if unseen:
        terminalreporter.write_line(f"declared and not seen, which fails the run: {sorted(unseen)}")
    shutil.rmtree(os.environ[seen.FOLDER], ignore_errors=True)


def _counted(terminalreporter: pytest.TerminalReporter) -> Iterator[str]:
    """Yield the lines that tests asked to be shown (`record_property("counted", ...)`)."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    if name == "counted":
                        yield str(value)


def _is_whole(config: pytest.Config) -> bool:
    chosen = config.option.keyword or config.option.markexpr or getattr(config.option, "lf", False)
    return not chosen and config.args == config.getini("testpaths")
