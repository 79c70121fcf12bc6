"""Pages of a service as Chromium shows them, with no network except the service itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Route,
    ViewportSize,
    sync_playwright,
)

from tests.tools import find_tool

Scheme: TypeAlias = Literal["light", "dark"]

PICTURES = Path(__file__).parents[2] / "var" / "screenshots"
MILLISECONDS = 20_000.0
WINDOW = ViewportSize(width=1280, height=1150)
# Chromium resolves no name, so that what it might ask for by itself has nowhere to go.
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# Runs before the scripts of the page; the policy of the page does not hold for it.
KEEP_VIOLATIONS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
        window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""


@dataclass
class Visit:
    """A page of the service in a browser, and what went wrong with it."""

    page: Page
    home: str
    scheme: Scheme
    token: str = ""
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Let the page reach its service only, and note everything that should not be."""
        self.page.route("**/*", self._let_home_only)
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.add_init_script(KEEP_VIOLATIONS)

    def _let_home_only(self, route: Route) -> None:
        if route.request.url.startswith(f"{self.home}/"):
            route.continue_()
        else:
            self.faults.append(f"asked elsewhere: {route.request.url}")
            route.abort()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"console: {message.text}")

    def open(self, path: str) -> None:
        """Go to a page, after looking at what the one before left behind."""
        self.check()
        self.page.goto(path)

    def check(self) -> None:
        """Nothing was asked of others, stopped by the policy, or said to the console."""
        violations: list[str] = self.page.evaluate("window.violations ?? []")
        assert [*self.faults, *violations] == []

    def picture(self, name: str, folder: Path, *, whole: bool = True) -> None:
        """Keep what the page looks like, for people: the whole of it, or what the window shows."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        picture = self.page.screenshot(path=folder / f"{name}.png", full_page=whole)
        (PICTURES / f"{name}-{self.scheme}.png").write_bytes(picture)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium until the block ends."""
    with sync_playwright() as playwright:
        path = find_tool("chromium", "chromium-browser", "google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_OPTIONS))
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Browser, home: str, scheme: Scheme, token: str = "") -> Iterator[Visit]:
    """Look at pages of the service at `home`, on which nothing may go wrong."""
    page = browser.new_page(base_url=home, color_scheme=scheme, viewport=WINDOW)
    page.set_default_timeout(MILLISECONDS)
    visit = Visit(page, home, scheme, token)
    visit.watch()
    yield visit
    visit.check()
    page.close()
