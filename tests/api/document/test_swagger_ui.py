"""The pages in a browser, with no network except the service itself (MISSION M8, M27)."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, FilePayload, expect

from tests.api.browsing import Visit, chromium, visiting
from tests.live import LiveServer, running_server
from tests.our_document import our_document
from tests.pictures import make_picture

ROOT = Path(__file__).parents[3]
CREDENTIALS = {"email": "ada@concord.example", "password": "seven green bicycles sing"}
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running_server(tmp_path_factory.mktemp("browser"), METRICS_PORT="0") as server:
        yield server


@pytest.fixture(scope="module")
def token(server: LiveServer) -> str:
    """The access token of a new user."""
    account = {"name": "Ada Lovelace", **CREDENTIALS}
    httpx.post(f"{server.url}/v1/users", json=account).raise_for_status()
    answer = httpx.post(f"{server.url}/v1/auth/token", json=CREDENTIALS).raise_for_status()
    token: str = answer.json()["access_token"]
    return token


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


IN_BOTH_COLOURS = pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
"""What a test needs if it is about how a page looks."""


@pytest.fixture
def visit(
    request: pytest.FixtureRequest, browser: Browser, server: LiveServer, token: str
) -> Iterator[Visit]:
    with visiting(browser, server.url, getattr(request, "param", "dark"), token) as visit:
        yield visit


def operations() -> set[str]:
    """The ids that Swagger UI gives to the operations of the contract."""
    return {
        f"operations-{operation['tags'][0]}-{operation['operationId']}"
        for item in our_document().public["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict) and "operationId" in operation
    }


@pytest.mark.mission("M27")
@IN_BOTH_COLOURS
def test_swagger_ui_lists_every_operation(visit: Visit, tmp_path: Path) -> None:
    visit.open("/")
    blocks = visit.page.locator(".opblock")
    expect(blocks).to_have_count(len(operations()))
    assert set(blocks.evaluate_all("all => all.map((one) => one.id)")) == operations()
    assert visit.page.url == f"{visit.home}/docs"
    visit.picture("docs", tmp_path)


@pytest.mark.mission("M16", "M27")
@IN_BOTH_COLOURS
def test_swagger_ui_shows_the_states_of_an_order(visit: Visit, tmp_path: Path) -> None:
    visit.open("/docs")
    picture = visit.page.locator("#operations-tag-orders img")
    expect(picture).to_be_visible()
    visit.page.wait_for_function(
        "document.querySelector('#operations-tag-orders img').naturalWidth > 500"
    )
    picture.scroll_into_view_if_needed()
    visit.picture("order-states", tmp_path, whole=False)


@pytest.mark.mission("M27")
def test_swagger_ui_fills_in_required_members_and_defaults(visit: Visit) -> None:
    visit.open("/docs")
    key = "Idempotency-Key"
    wanted = {
        "divide-divide": {"a": "10", "b": "2", "X-Request-ID": ""},
        "users-list_users": {"role": "", "cursor": "", "limit": "25"},
        "orders-list_orders": {"user_id": "", "sort": "-created_at"},
    }
    for operation, values in wanted.items():
        assert entered(visit, operation).items() >= values.items()
    # A key for each operation, so that one does not stand in the way of the other.
    keys = {entered(visit, f"orders-{name}")[key] for name in ("create_order", "pay_order")}
    assert [len(each) for each in keys] == [32, 32]


def entered(visit: Visit, operation: str) -> dict[str, str]:
    """What the fields of an operation hold when it is opened."""
    block = visit.page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary-control").click()
    fields = block.locator("tr[data-param-name]")
    expect(fields.first).to_be_visible()
    values: dict[str, str] = fields.evaluate_all(
        "rows => Object.fromEntries(rows.map((row) =>"
        " [row.dataset.paramName, row.querySelector('input, select').value]))"
    )
    return values


@pytest.mark.mission("M12", "M27")
@IN_BOTH_COLOURS
def test_swagger_ui_reads_the_profile_with_a_token(visit: Visit, tmp_path: Path) -> None:
    visit.open("/docs")
    page = visit.page
    page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".modal-ux")
    dialog.locator("input").fill(visit.token)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").last.click()
    operation = page.locator("#operations-profile-get_profile")
    operation.locator(".opblock-summary-control").click()
    expect(operation.get_by_text("Scope: profile:read")).to_be_visible()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status")).to_have_text("200")
    expect(answer).to_contain_text(CREDENTIALS["email"])
    operation.evaluate("one => one.scrollIntoView()")
    visit.picture("profile", tmp_path, whole=False)


@pytest.mark.mission("M15", "M27")
def test_swagger_ui_uploads_a_picture(visit: Visit, tmp_path: Path) -> None:
    visit.open("/docs")
    page = visit.page
    page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".modal-ux")
    dialog.locator("input").fill(visit.token)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").last.click()
    operation = page.locator("#operations-profile-set_avatar")
    operation.locator(".opblock-summary-control").click()
    picture = FilePayload(name="ada.png", mimeType="image/png", buffer=make_picture())
    operation.locator("input[type=file]").set_input_files(picture)
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status")).to_have_text("200")
    expect(answer).to_contain_text("128x64.webp")
    operation.locator(".live-responses-table").evaluate("one => one.scrollIntoView()")
    visit.picture("avatar", tmp_path, whole=False)


@pytest.mark.mission("M18", "M27")
def test_swagger_ui_says_where_a_session_is_required(visit: Visit) -> None:
    visit.open("/docs")
    for name, terms in {
        "users-delete_user": "any change, signed in within 900 seconds",
        "profile-update_profile": "#/password",
    }.items():
        operation = visit.page.locator(f"#operations-{name}")
        operation.locator(".opblock-summary-control").click()
        said = operation.get_by_text(f"Session required, not an API key: {terms}")
        expect(said).to_be_visible()


@pytest.mark.mission("M12", "M27")
def test_swagger_ui_shows_the_problem_without_a_token(visit: Visit) -> None:
    visit.open("/docs")
    operation = visit.page.locator("#operations-profile-get_profile")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status")).to_contain_text("401")
    expect(answer).to_contain_text("/problems/not-authenticated")
    # The browser itself writes to its console that an answer was 401.
    assert [fault for fault in visit.faults if "status of 401" not in fault] == []
    visit.faults.clear()


@pytest.mark.mission("M27")
@IN_BOTH_COLOURS
def test_an_open_operation_fits_the_screen(visit: Visit, tmp_path: Path) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.open("/docs")
    introduction = visit.page.locator(".information-container")
    expect(introduction).to_be_visible()
    assert introduction.evaluate("one => one.offsetHeight") < 844
    operation = visit.page.locator("#operations-orders-create_order")
    operation.locator(".opblock-summary-control").click()
    problem = operation.get_by_role("link", name="out-of-stock", exact=True)
    expect(problem).to_have_attribute("href", "/problems/out-of-stock")
    # The response of a success is shown whole, and each error in one line until it is opened.
    expect(operation.locator("tr.response:not(.folded)")).to_have_count(1)
    operation.locator("tr.folded").filter(has_text="out-of-stock").get_by_role(
        "button", name="More"
    ).click()
    expect(operation.locator("tr.response:not(.folded)")).to_have_count(2)
    wide = "(all, width) => all.filter((one) => one.getBoundingClientRect().right > width).length"
    for width in (390, 1280):
        visit.page.set_viewport_size({"width": width, "height": 844})
        assert operation.locator("*").evaluate_all(wide, width) == 0
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width
        visit.picture(f"operation-{width}", tmp_path, whole=False)


@pytest.mark.mission("M27")
def test_a_guide_opens_from_swagger_ui(visit: Visit, tmp_path: Path) -> None:
    visit.open("/docs")
    link = visit.page.locator(".info").get_by_role("link", name="Errors", exact=True)
    expect(link).to_have_attribute("href", "/docs/guides/errors")
    visit.open("/docs/guides/errors")
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Errors")
    visit.picture("guide", tmp_path)


@pytest.mark.mission("M8")
@IN_BOTH_COLOURS
def test_the_pages_of_problems_open_in_a_browser(visit: Visit, tmp_path: Path) -> None:
    visit.open("/problems")
    links = visit.page.locator("th a")
    expect(links).to_have_text([kind.title for kind in our_document().problems.values()])
    visit.picture("problems", tmp_path)
    links.filter(has_text="Not found").click()
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Not found")
    assert visit.page.url == f"{visit.home}/problems/not-found"
    visit.picture("problem", tmp_path)
