"""Query plans of lists: which indexes they use, and what they sort."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session

from models.storage.database import Database

_BOUNDED = frozenset({"Append", "Merge Append", "Subquery Scan", "Sort", "Aggregate", "Unique"})
"""What reads no more rows than the nodes below it give."""

_BY_ID = r" USING (INTEGER PRIMARY KEY \(rowid=\?\)|INDEX \w+ \(id=\?\))"


@dataclass(frozen=True)
class Plan:
    """What matters of a plan; `text` is the whole, for whoever has to find out why."""

    text: str
    indexes: frozenset[str]
    """The indexes that are read, of whatever table."""
    whole_tables: bool
    """Whether a table is read from its beginning to its end, without an index."""
    unbounded_sorts: bool
    """Whether something is sorted that can be longer than some pages."""
    walks_beside_branches: bool
    """Whether, beside the branches of a union, another range of the table is gone through."""


def explain(
    database: Database, kind: str, work: Callable[[Session], object], *, may_sort: bool = False
) -> list[Plan]:
    """Return the plans of the queries that some work sends to the database.

    Left out is what fetches the lines of the orders of a page. With `may_sort`, PostgreSQL need not
    avoid to sort the single row of a page.
    """
    return database.transact(
        lambda session: explain_all(session, kind, _queries(session, work), may_sort=may_sort),
        write=False,
    )


def explain_all(
    session: Session, kind: str, queries: list[tuple[str, Any]], *, may_sort: bool = False
) -> list[Plan]:
    """Return the plans of queries, each with its parameters, as the driver gets them."""
    connection = session.connection()
    if kind == "sqlite":
        prefix = "EXPLAIN QUERY PLAN"
        explained = [connection.exec_driver_sql(f"{prefix} {sql}", own) for sql, own in queries]
        return [_of_sqlite([(row.parent, row.detail) for row in rows]) for rows in explained]
    # Small tables are best read as a whole and sorted. What can be asked is whether it must be.
    avoided = ["enable_seqscan", "enable_bitmapscan", *(["enable_sort"] if not may_sort else [])]
    for setting in avoided:
        session.execute(text(f"SET LOCAL {setting} = off"))
    prefix = "EXPLAIN (FORMAT JSON)"
    explained = [connection.exec_driver_sql(f"{prefix} {sql}", own) for sql, own in queries]
    return [_of_postgresql(rows.scalar_one()[0]["Plan"]) for rows in explained]


def _queries(session: Session, work: Callable[[Session], object]) -> list[tuple[str, Any]]:
    sent: list[tuple[str, Any]] = []

    def record(_connection: object, _cursor: object, sql: str, values: object, *_: object) -> None:
        if "FROM order_lines" not in sql:
            sent.append((sql, values))

    connection: Connection = session.connection()
    event.listen(connection, "before_cursor_execute", record)
    work(session)
    event.remove(connection, "before_cursor_execute", record)
    return sent


def _of_sqlite(rows: list[tuple[int, str]]) -> Plan:
    """Read EXPLAIN QUERY PLAN (https://sqlite.org/eqp.html): lines, and the line each belongs to.

    A branch with a limit is a co-routine, whose rows the line around it scans by its name.
    """
    details = [detail for _, detail in rows]
    sorted_parts = {parent for parent, detail in rows if "TEMP B-TREE" in detail}
    reads = [(parent, detail) for parent, detail in rows if _reads_table(detail)]
    branches = any("CO-ROUTINE" in detail for detail in details)
    return Plan(
        "\n".join(f"{parent:4} {detail}" for parent, detail in rows),
        frozenset(re.findall(r"INDEX (\w+)", "\n".join(details))),
        any(re.match(r"SCAN (?!anon_)\w+$", detail) for detail in details),
        any(parent in sorted_parts and not re.search(_BY_ID, detail) for parent, detail in reads),
        branches and any(not parent and not re.search(_BY_ID, detail) for parent, detail in reads),
    )


def _reads_table(detail: str) -> bool:
    return re.match(r"(SEARCH|SCAN) (?!anon_|CONSTANT ROW)", detail) is not None


def _of_postgresql(plan: dict[str, Any]) -> Plan:
    nodes = list(_nodes(plan))
    return Plan(
        json.dumps(plan, indent=1),
        frozenset(node["Index Name"] for node in nodes if "Index Name" in node),
        any(node["Node Type"] == "Seq Scan" for node in nodes),
        any("Sort" in node["Node Type"] and not _is_bounded(node) for node in nodes),
        # With sorting made dear it goes through another range in any case.
        walks_beside_branches=False,
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _is_bounded(node: dict[str, Any]) -> bool:
    """Tell whether a node gives no more rows than some pages have."""
    children = node.get("Plans", [])
    if node["Node Type"] == "Nested Loop":
        return _is_bounded(children[0]) and "(id = " in json.dumps(children[1])
    return node["Node Type"] == "Limit" or (
        node["Node Type"] in _BOUNDED and all(_is_bounded(child) for child in children)
    )
