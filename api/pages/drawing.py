"""A state machine as an SVG image, for the page at /docs.

The states of the longest path are in the first row, in columns by their distance from the start;
every other state has a row of its own below. Arrows that pass over states of the first row run in
a lane above it, one lane per target; arrows to another row turn once. Actions that do not change a
state are listed in its box.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree.ElementTree import Element, SubElement, tostring

from api.pages.diagrams import STAYS, Arrow, arrows
from models.lifecycle import Lifecycle

_INK, _LINE, _PAPER = "#1f2933", "#52606d", "#ffffff"
_FIRST, _BETWEEN, _LAST = "#dbeafe", "#edf1f5", "#dff3e1"
_FONT = "system-ui, Roboto, 'DejaVu Sans', sans-serif"
_NAME, _SMALL = 15, 12.5
"""Font sizes of state names, and of all other text."""
_HEIGHT, _LANE, _ROW, _EDGE, _CORNER, _START = 50.0, 26.0, 74.0, 20.0, 9.0, 36.0
_KEY = f"{STAYS} The state stays as it is. A dashed arrow is taken by the service itself."

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Box:
    """The box of a state; `x` and `y` are its centre."""

    x: float
    y: float
    width: float
    column: int
    row: int

    @property
    def top(self) -> float:
        return self.y - _HEIGHT / 2

    @property
    def bottom(self) -> float:
        return self.y + _HEIGHT / 2

    def side(self, towards: "_Box") -> Point:
        """Return the midpoint of the side that faces another box."""
        return (self.x + self.width / 2 * (1 if towards.x >= self.x else -1), self.y)


def draw(lifecycle: Lifecycle, title: str) -> bytes:
    """Draw a state machine as SVG; the first state is the initial one."""
    drawn = arrows(lifecycle)
    moves = [arrow for arrow in drawn if arrow.source != arrow.target]
    stays = {
        arrow.source: f"{STAYS} {arrow.label}" for arrow in drawn if arrow.source == arrow.target
    }
    boxes = _place(list(lifecycle.actions), moves, stays)
    svg = _sheet(boxes, title, [*map(_in_words, drawn)])
    for arrow, points, label in _routes(moves, boxes):
        _line(svg, points, stroke_dasharray="5 4" if arrow.automatic else "none")
        (x, y), left = label, label[0] < boxes[arrow.source].x
        place = (x - 6, y) if left else (x + 6, y)
        _write(svg, arrow.label, place, _SMALL, text_anchor="end" if left else "start")
    for state, box in boxes.items():
        last = all(arrow.source != state for arrow in moves)
        color = _LAST if last else _BETWEEN if box.column else _FIRST
        _draw_box(svg, box, color, state, stays.get(state))
    return str(tostring(svg, encoding="unicode")).encode()


def _place(
    states: Sequence[str], moves: Sequence[Arrow], stays: Mapping[str, str]
) -> dict[str, _Box]:
    ways = sorted(_ways((states[0],), moves), key=len)
    columns = dict.fromkeys(states, 0) | {way[-1]: len(way) - 1 for way in ways}
    # Arrows down cross the rows between, so states further to the right go higher.
    lower = sorted(set(states) - set(ways[-1]), key=lambda each: (-columns[each], each))
    rows = dict.fromkeys(ways[-1], 0) | {state: row for row, state in enumerate(lower, 1)}
    widths = {
        state: max(112, 24 + _length(state, _NAME), 24 + _length(stays.get(state, ""), _SMALL))
        for state in states
    }
    gap = 32 + max((_length(arrow.label, _SMALL) for arrow in moves), default=0)
    middles, left = {}, _EDGE + _START
    for column in sorted(set(columns.values())):
        width = max(widths[state] for state in states if columns[state] == column)
        middles[column], left = left + width / 2, left + width + gap
    flat = {
        state: _Box(middles[columns[state]], 0, widths[state], columns[state], rows[state])
        for state in states
    }
    lanes = {arrow.target for arrow in moves if _is_over(flat[arrow.source], flat[arrow.target])}
    top = _EDGE + (_LANE * (len(lanes) + 1) if lanes else 0) + _HEIGHT / 2
    return {
        state: _Box(box.x, top + box.row * _ROW, box.width, box.column, box.row)
        for state, box in flat.items()
    }


def _ways(way: tuple[str, ...], moves: Sequence[Arrow]) -> Iterator[tuple[str, ...]]:
    """Yield every path that extends this one without visiting a state twice."""
    yield way
    for arrow in moves:
        if arrow.source == way[-1] and arrow.target not in way:
            yield from _ways((*way, arrow.target), moves)


def _is_over(source: _Box, target: _Box) -> bool:
    """Return whether an arrow runs in a lane: along a row, but not to the next column."""
    return source.row == target.row and target.column - source.column != 1


def _routes(
    moves: Sequence[Arrow], boxes: Mapping[str, _Box]
) -> Iterator[tuple[Arrow, Sequence[Point], Point]]:
    """Yield each arrow with its points and the position of its label.

    A label is to the right of its arrow, unless the arrow starts left of its box's centre.
    """
    lanes = _lanes(moves, boxes)
    ports = _ports(moves, boxes, lanes)
    for arrow in moves:
        source, target = boxes[arrow.source], boxes[arrow.target]
        if _is_over(source, target):
            x, end, lane = ports[arrow], ports[arrow.target], lanes[arrow.target]
            way = [(x, source.top), (x, lane), (end, lane), (end, target.top)]
            yield arrow, way, (x, source.top - 9)
        elif source.row == target.row:
            x, y = source.side(target)
            yield arrow, [(x, y), target.side(source)], (x + 2, y - 8)
        else:
            upper, lower = sorted((source, target), key=lambda box: box.row)
            x = ports[arrow]
            way = [(x, upper.bottom), (x, lower.y), lower.side(upper)]
            if upper.column == lower.column:
                way[1:] = [(x, lower.top)]
            yield arrow, way if upper is source else way[::-1], (x, upper.bottom + 18)


def _lanes(moves: Sequence[Arrow], boxes: Mapping[str, _Box]) -> Mapping[str, float]:
    """Return the height of each lane by its target state, the longest lanes outermost."""
    lengths: dict[str, int] = {}
    for arrow in moves:
        source, target = boxes[arrow.source], boxes[arrow.target]
        if _is_over(source, target):
            length = abs(target.column - source.column)
            lengths[arrow.target] = max(length, lengths.get(arrow.target, 0))
    ordered = sorted(lengths, key=lambda state: lengths[state])
    return {state: boxes[state].top - _LANE * (i + 1.3) for i, state in enumerate(ordered)}


def _ports(
    moves: Sequence[Arrow], boxes: Mapping[str, _Box], lanes: Mapping[str, float]
) -> Mapping[Arrow | str, float]:
    """Return where arrows touch the top and bottom edges of boxes, ordered so that none cross.

    All arrows that arrive from a lane share one port, named by the state.
    """
    edges: dict[tuple[str, bool], dict[Arrow | str, float]] = {}
    for arrow in moves:
        source, target = boxes[arrow.source], boxes[arrow.target]
        if _is_over(source, target):
            edges.setdefault((arrow.source, True), {})[arrow] = lanes[arrow.target]
            edges.setdefault((arrow.target, True), {})[arrow.target] = 0
        elif source.row != target.row:
            upper = arrow.source if source.row < target.row else arrow.target
            edges.setdefault((upper, False), {})[arrow] = -max(source.row, target.row)
    return {
        name: boxes[state].x + boxes[state].width * (i / (len(found) + 1) - 0.5)
        for (state, _), found in edges.items()
        for i, name in enumerate(sorted(found, key=found.__getitem__), 1)
    }


def _add(parent: Element, tag: str, **attributes: str | float) -> Element:
    """Add an element; numbers are written in short form, and `_` in names becomes `-`."""
    texts = {
        name.replace("_", "-"): value if isinstance(value, str) else f"{value:g}"
        for name, value in attributes.items()
    }
    return SubElement(parent, tag, texts)


def _sheet(boxes: Mapping[str, _Box], title: str, words: Sequence[str]) -> Element:
    width = max(box.x + box.width / 2 for box in boxes.values()) + _EDGE
    height = max(box.bottom for box in boxes.values()) + _EDGE + 30
    svg = Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
    svg.attrib |= {"width": f"{width:g}", "height": f"{height:g}"}
    svg.attrib["viewBox"] = f"0 0 {width:g} {height:g}"
    svg.attrib |= {"aria-labelledby": "title", "aria-describedby": "words"}
    _add(svg, "title", id="title").text = title
    _add(svg, "desc", id="words").text = " ".join(words)
    head = _add(_add(svg, "defs"), "marker", id="head", viewBox="0 0 8 8", refX=7, refY=4)
    head.attrib |= {"orient": "auto", "markerUnits": "userSpaceOnUse"}
    head.attrib |= {"markerWidth": "9", "markerHeight": "9"}
    _add(head, "path", d="M0 0L8 4L0 8z", fill=_LINE)
    _add(svg, "rect", width="100%", height="100%", rx=8, fill=_PAPER)
    first = next(iter(boxes.values()))
    _line(svg, [(_EDGE + 6, first.y), (first.x - first.width / 2, first.y)])
    _add(svg, "circle", cx=_EDGE + 6, cy=first.y, r=6, fill=_LINE)
    _write(svg, _KEY, (_EDGE, height - _EDGE + 3), _SMALL)
    return svg


def _draw_box(svg: Element, box: _Box, color: str, state: str, stay: str | None) -> None:
    left = box.x - box.width / 2
    rect = _add(svg, "rect", x=left, y=box.top, width=box.width, height=_HEIGHT, rx=10)
    rect.attrib |= {"fill": color, "stroke": _LINE}
    middle = box.y + (-2 if stay else 5)
    _write(svg, state, (box.x, middle), _NAME, text_anchor="middle", font_weight="600")
    if stay:
        _write(svg, stay, (box.x, box.y + 17), _SMALL, text_anchor="middle")


def _line(svg: Element, points: Sequence[Point], **style: str) -> None:
    """Draw a line through points, with rounded corners and an arrowhead."""
    parts = ["M{:g} {:g}".format(*points[0])]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        parts.append("L{:g} {:g}".format(*_near(corner, before)))
        parts.append("Q{:g} {:g} {:g} {:g}".format(*corner, *_near(corner, after)))
    parts.append("L{:g} {:g}".format(*points[-1]))
    path = _add(svg, "path", d="".join(parts), fill="none", stroke=_LINE, stroke_width=1.5)
    path.attrib["marker-end"] = "url(#head)"
    path.attrib |= {name.replace("_", "-"): value for name, value in style.items()}


def _near(corner: Point, other: Point) -> Point:
    (x, y), (to_x, to_y) = corner, other
    length = abs(to_x - x) + abs(to_y - y)
    part = min(_CORNER / length, 0.5) if length else 0
    return (x + (to_x - x) * part, y + (to_y - y) * part)


def _write(svg: Element, text: str, place: Point, size: float, **style: str) -> None:
    font = {"font_family": _FONT, "font_size": f"{size:g}"}
    _add(svg, "text", x=place[0], y=place[1], fill=_INK, **font, **style).text = text


def _length(text: str, size: float) -> float:
    """Estimate the width of a text; the viewer's font is unknown."""
    return len(text) * size * 0.58


def _in_words(arrow: Arrow) -> str:
    who = "by itself " if arrow.automatic else ""
    return f"{arrow.source}: {who}{arrow.label} leads to {arrow.target}."
