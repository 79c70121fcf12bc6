"""A state machine is drawn as it is: as a Mermaid diagram, and as a picture at /docs."""

import re
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest

from api.contract.compile.transitions import compile_state_machine
from api.pages.diagrams import mermaid
from api.pages.drawing import draw
from models.lifecycle import Lifecycle
from tests.our_document import our_document

ROOT = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"
ORDERS = Lifecycle(*compile_state_machine(our_document().bundle, "OrderStatus"))
TITLE = "The states of an order"
# Back to the start, back by one, from a lower row up, straight down, and one that is not reached.
TANGLED = Lifecycle(
    {
        "new": {"go": ("on",), "drop": ("gone",)},
        "on": {"go": ("over",), "back": ("new",), "drop": ("gone",), "park": ("parked",)},
        "over": {"again": ("new", "on"), "stay": ("over",)},
        "gone": {"revive": ("new",)},
        "parked": {"go": ("over",)},
        "lost & <found>": {},
    },
    {"new": {"lapse": ("gone",)}},
)


def texts(svg: Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def boxes(svg: Element) -> list[tuple[float, float, float, float]]:
    """The left, upper, right and lower edges of the boxes."""
    found = []
    for rect in svg.findall(f"{SVG}rect[@x]"):
        left, top, width, height = (
            float(rect.attrib[each]) for each in ("x", "y", "width", "height")
        )
        found.append((left, top, left + width, top + height))
    return found


def test_mermaid_shows_transitions_final_states_and_actors() -> None:
    lines = [line.strip() for line in mermaid(TANGLED).splitlines()]
    assert lines[:3] == ["stateDiagram-v2", "direction LR", "[*] --> new"]
    wanted = {
        *("over --> on: again", "new --> gone: drop", "new --> gone: lapse (by itself)"),
        *("over: over", "over: \N{CLOCKWISE OPEN CIRCLE ARROW} stay"),
    }
    assert wanted <= set(lines)
    assert [line for line in lines if line.endswith("[*]")] == ["lost & <found> --> [*]"]


@pytest.mark.parametrize("lifecycle", [ORDERS, TANGLED])
def test_the_diagram_shows_every_state_and_action(lifecycle: Lifecycle) -> None:
    svg = fromstring(draw(lifecycle, TITLE))  # noqa: S314 - it is ours.
    shown = texts(svg)
    assert set(lifecycle.actions) <= set(shown)
    arrows = [path for path in svg.iter(f"{SVG}path") if "marker-end" in path.attrib]
    moves = {
        (state, target, table is lifecycle.automatic)
        for table in (lifecycle.actions, lifecycle.automatic)
        for state, choices in table.items()
        for targets in choices.values()
        for target in targets
        if state != target
    }
    # One arrow more is that to the first state.
    assert len(arrows) == len(moves) + 1
    actions = {action for choices in lifecycle.actions.values() for action in choices}
    assert all(any(action in text for text in shown) for action in actions)


@pytest.mark.parametrize("lifecycle", [ORDERS, TANGLED])
def test_nothing_in_the_diagram_overlaps(lifecycle: Lifecycle) -> None:
    svg = fromstring(draw(lifecycle, TITLE))  # noqa: S314 - it is ours.
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    placed = boxes(svg)
    assert len(placed) == len(lifecycle.actions)
    for index, (left, top, right, bottom) in enumerate(placed):
        for other_left, other_top, other_right, other_bottom in placed[:index]:
            assert (
                left > other_right or other_left > right or top > other_bottom or other_top > bottom
            )
    for path in svg.findall(f"{SVG}path"):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.attrib["d"])]
        assert all(0 < x < width for x in numbers[::2])
        assert all(0 < y < height for y in numbers[1::2])


def test_the_diagram_can_be_read_aloud() -> None:
    svg = fromstring(draw(ORDERS, TITLE))  # noqa: S314 - it is ours.
    assert svg.attrib["role"] == "img"
    assert svg.findtext(f"{SVG}title") == TITLE
    words = svg.findtext(f"{SVG}desc") or ""
    assert "paid: ship leads to shipped." in words
    assert "pending: by itself expire leads to expired." in words


@pytest.mark.mission("M27")
def test_the_diagram_is_inert_and_reproducible() -> None:
    """Nothing in it runs or loads, and every process serves the same bytes under one entity tag."""
    picture = draw(TANGLED, TITLE)
    assert picture == draw(TANGLED, TITLE)
    assert b"lost &amp; &lt;found&gt;" in picture
    allowed = {"svg", "title", "desc", "defs", "marker", "path", "rect", "circle", "text"}
    elements = list(fromstring(picture).iter())  # noqa: S314 - it is ours.
    assert {element.tag.removeprefix(SVG) for element in elements} == allowed
    assert not [key for element in elements for key in element.attrib if key.startswith("on")]
    assert b"href" not in picture
