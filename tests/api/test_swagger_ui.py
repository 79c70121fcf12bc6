"""The pages as a browser shows them, with no network but the service itself (MISSION M8, M27)."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from api.contract.document import load_document
from api.problem_types import KINDS
from tests.live import LiveServer, running_server
from tests.tools import find_tool

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "var" / "screenshots"
CREDENTIALS = {"email": "ada@concord.example", "password": "seven green bicycles sing"}
SECONDS = 20.0
# Chromium finds no host by name, so what it might ask for by itself has nowhere to go.
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# Runs before the page's own scripts; the policy of the page does not apply to it.
KEEP_VIOLATIONS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
        window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""

pytestmark = pytest.mark.browser


class Visit:
    """A page of the service in a browser, and everything that went wrong with it."""

    def __init__(self, browser: Browser, server: LiveServer, scheme: str) -> None:
        self.errors: list[str] = []
        self._home = server.url
        dark = scheme == "dark"
        context = browser.new_context(
            base_url=server.url,
            color_scheme="dark" if dark else "light",
            viewport={"width": 1280, "height": 900},
        )
        context.set_default_timeout(SECONDS * 1000)
        context.route("**/*", self._let_home_only)
        self.page: Page = context.new_page()
        self.page.add_init_script(KEEP_VIOLATIONS)
        self.page.on("pageerror", lambda error: self.errors.append(f"script: {error}"))
        self.page.on(
            "console",
            lambda message: (
                self.errors.append(message.text) if message.type in {"error", "warning"} else None
            ),
        )

    def _let_home_only(self, route: Route) -> None:
        if route.request.url.startswith(f"{self._home}/"):
            route.continue_()
        else:
            self.errors.append(f"asked elsewhere: {route.request.url}")
            route.abort()

    def check(self) -> None:
        """Nothing was asked of others, stopped by the policy, or said to the console."""
        violations: list[str] = self.page.evaluate("window.violations")
        assert [*self.errors, *violations] == []

    def picture(self, name: str) -> None:
        """Keep what the page looks like, for people."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running_server(tmp_path_factory.mktemp("browser"), METRICS_PORT="0") as server:
        send(server, "/v1/users", {"name": "Ada Lovelace", **CREDENTIALS})
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_tool("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=list(CHROMIUM_OPTIONS)
        )
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def visit(
    request: pytest.FixtureRequest, browser: Browser, server: LiveServer
) -> Iterator[Visit]:
    visit = Visit(browser, server, request.param)
    yield visit
    visit.check()
    visit.page.context.close()


def send(server: LiveServer, path: str, body: dict[str, str]) -> dict[str, object]:
    request = Request(  # noqa: S310 - the address is the test's own server.
        f"{server.url}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - as above.
        found: dict[str, object] = json.load(answer)
        return found


def operation(page: Page, tag: str, name: str) -> Locator:
    return page.locator(f"#operations-{tag}-{name}")
