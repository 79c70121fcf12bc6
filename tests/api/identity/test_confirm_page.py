"""The page of an emailed link, as a browser shows it (MISSION M24)."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.api.browsing import Visit, chromium, visiting
from tests.live import LiveServer, running_server
from tests.mailbox import MailedLink, link_in, messages, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.mission("M24")]

PASSWORD = "seven green bicycles sing"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running_server(tmp_path_factory.mktemp("browser"), METRICS_PORT="0") as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=["light", "dark"])
def visit(request: pytest.FixtureRequest, browser: Browser, server: LiveServer) -> Iterator[Visit]:
    with visiting(browser, server.url, request.param) as visit:
        yield visit


@pytest.fixture
def mail(server: LiveServer) -> Path:
    return server.log.parent / "var" / "mail"


def email_of(visit: Visit, number: int) -> str:
    return f"reader-{visit.scheme}-{number}@concord.example"


def welcomed(server: LiveServer, mail: Path, email: str, **members: str) -> MailedLink:
    """The link in the message that welcomes a new account."""
    body = {"name": "Ada Lovelace", "email": email, **members}
    httpx.post(f"{server.url}/v1/users", json=body).raise_for_status()
    return link_in(wait_for(mail, email, "welcome"))


def sign_in(server: LiveServer, email: str, password: str) -> int:
    credentials = {"email": email, "password": password}
    return httpx.post(f"{server.url}/v1/auth/token", json=credentials).status_code


def follow(visit: Visit, link: MailedLink) -> None:
    """Open a link, as from the mail program: the page is a new one."""
    visit.open("about:blank")
    visit.open(link.url)


def confirm_with(visit: Visit, password: str) -> None:
    """Enter the account's password, and confirm."""
    visit.page.get_by_label("Password", exact=True).fill(password)
    visit.page.get_by_role("button", name="Confirm").click()


def forgive_refusals(visit: Visit, status: int) -> None:
    """The browser itself writes to its console that an answer was none of success."""
    assert [fault for fault in visit.faults if f"status of {status}" not in fault] == []
    visit.faults.clear()


def test_the_pages_work_below_a_path(browser: Browser, tmp_path: Path) -> None:
    with running_server(
        tmp_path, PUBLIC_URL="https://shop.example/api/", METRICS_PORT="0"
    ) as server:

        def pass_on(route: Route) -> None:
            """Do what a proxy does that serves the path of the public URL."""
            below = route.request.url.removeprefix("https://shop.example/api/")
            route.fulfill(response=route.fetch(url=f"{server.url}/{below}"))

        link = welcomed(server, tmp_path / "var" / "mail", "below@concord.example")
        assert link.url.startswith("https://shop.example/api/confirm#")
        page = browser.new_page()
        page.route("https://shop.example/api/**", pass_on)
        page.goto(link.url)
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_label("Repeat the password").fill(PASSWORD)
        page.get_by_role("button").click()
        expect(page.get_by_role("status")).to_contain_text("The password is set.")
        page.goto("https://shop.example/api/docs/")
        expect(page.locator("#operations-documents-get_root")).to_be_visible()
        expect(page.locator(".servers option")).to_contain_text(
            ["https://shop.example/api", "/api"]
        )
        page.close()


def test_opening_the_link_alone_does_not_confirm_an_address(
    visit: Visit, server: LiveServer, mail: Path, tmp_path: Path
) -> None:
    link = welcomed(server, mail, email_of(visit, 1), password=PASSWORD)
    follow(visit, link)
    heading = visit.page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Confirm your email address")
    # Whoever looks at the history of the browser does not find the secret.
    assert visit.page.url == f"{visit.home}/confirm"
    visit.picture("confirm-email", tmp_path)
    outcome = visit.page.get_by_role("status")
    # Whoever did not open the account does not know its password, and sets one.
    confirm_with(visit, "not the password")
    expect(outcome).to_have_text("The current password is incorrect.")
    expect(visit.page.get_by_role("link", name="Reset your password")).to_be_visible()
    forgive_refusals(visit, 403)
    confirm_with(visit, PASSWORD)
    expect(outcome).to_have_text("Thank you. Your email address is confirmed.")
    expect(visit.page.get_by_role("button")).to_be_hidden()
    expect(visit.page.get_by_role("link", name="Reset your password")).to_be_hidden()
    follow(visit, link)
    confirm_with(visit, PASSWORD)
    expect(outcome).to_contain_text("This link is invalid, already used or expired")
    expect(outcome).to_be_focused()
    visit.picture("confirm-used", tmp_path)
    forgive_refusals(visit, 422)


def test_a_password_is_set(visit: Visit, server: LiveServer, mail: Path, tmp_path: Path) -> None:
    email = email_of(visit, 2)
    link = welcomed(server, mail, email)
    follow(visit, link)
    outcome = visit.page.get_by_role("status")
    for first, second, said in (
        ("password123", "password124", re.compile("do not match")),
        ("password123", "password123", re.compile("password", re.IGNORECASE)),
    ):
        visit.page.get_by_label("New password").fill(first)
        visit.page.get_by_label("Repeat the password").fill(second)
        visit.page.get_by_role("button").click()
        expect(outcome).to_have_text(said)
    visit.picture("confirm-password", tmp_path)
    forgive_refusals(visit, 422)
    visit.page.get_by_label("New password").fill(PASSWORD)
    visit.page.get_by_label("Repeat the password").fill(PASSWORD)
    visit.page.keyboard.press("Enter")
    expect(outcome).to_have_text("The password is set. You can sign in with it now.")
    assert sign_in(server, email, PASSWORD) == 200

    follow(visit, link)
    visit.page.get_by_label("New password").fill(PASSWORD)
    visit.page.get_by_label("Repeat the password").fill(PASSWORD)
    visit.page.get_by_role("button").click()
    expect(outcome).to_contain_text("This link is invalid")
    forgive_refusals(visit, 422)
    visit.page.get_by_role("link", name="Reset your password").click()
    expect(visit.page.get_by_label("Email address")).to_be_visible()
    expect(outcome).to_be_empty()


@pytest.mark.parametrize(
    "changed",
    [
        "/confirm?utm_source=mail&fbclid=a%2#set-password={secret}&utm_medium=mail",
        "/confirm/?fbclid=x#set-password%3D{secret}",
        "/confirm#%20set-password={secret}.",
    ],
)
def test_a_link_survives_what_mail_systems_do_to_it(
    browser: Browser, server: LiveServer, mail: Path, changed: str
) -> None:
    email = f"changed-{len(changed)}@concord.example"
    secret = welcomed(server, mail, email).secret
    with visiting(browser, server.url, "light") as visit:
        visit.open(changed.format(secret=secret))
        visit.page.get_by_label("New password").fill(PASSWORD)
        visit.page.get_by_label("Repeat the password").fill(PASSWORD)
        visit.page.get_by_role("button").click()
        expect(visit.page.get_by_role("status")).to_contain_text("The password is set.")
    assert sign_in(server, email, PASSWORD) == 200


def test_a_new_password_is_requested(
    visit: Visit, server: LiveServer, mail: Path, tmp_path: Path
) -> None:
    email = email_of(visit, 3)
    welcomed(server, mail, email, password=PASSWORD)
    for address, number in ((f"nobody-{visit.scheme}@concord.example", 0), (email, 1)):
        visit.open("/confirm#forgot-password")
        visit.page.reload()
        visit.page.get_by_label("Email address").fill(address)
        visit.page.get_by_role("button", name="Send message").click()
        expect(visit.page.get_by_role("status")).to_contain_text("a message is on its way")
        expect(visit.page.get_by_role("link", name="Reset your password")).to_be_hidden()
        if number:
            wait_for(mail, email, "set_password")
    visit.picture("confirm-forgotten", tmp_path)
    assert messages(mail, f"nobody-{visit.scheme}@concord.example", "set_password") == []


def test_the_page_is_sent_once(visit: Visit) -> None:
    page = httpx.get(f"{visit.home}/confirm")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    again = httpx.get(f"{visit.home}/confirm", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304
