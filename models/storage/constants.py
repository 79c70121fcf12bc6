"""Statements that never change: compiled once, then sent straight to the driver.

SQLAlchemy takes longer to prepare each execution of a short statement than the database takes to
run it. A constant statement keeps its SQL, and the functions of its types that convert parameters
and columns. The driver, the connection, the rows and the errors are those of SQLAlchemy.

These parts of SQLAlchemy are not documented. `tests/models/storage/test_constants.py` fails if they
change (in brackets): the argument `_processors` of `SimpleResultMetaData`, and `_result_columns`
and `binds` of a compiled statement (do_what_sqlalchemy_does), its `insert_prefetch`,
`update_prefetch` and `effective_returning` (default_value), `BindParameter.callable`
(called_each_time), `Connection.dispatch` (listeners), and `DBAPIError.instance` (errors).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect, Insert, Result, Select, Update
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.selectable import TypedReturnsRows

S = TypeVar("S", bound="Select[*tuple[Any, ...]] | Insert | Update")
Ts = TypeVarTuple("Ts")

Parameters: TypeAlias = Mapping[str, Any]

SETTLE = "concord_settle"
"""Execution option of pipelined connections, which send statements without waiting for results.

Its value is a function that waits for the results of all statements sent on a connection.
"""

_MOST_ROWS = 8
"""Maximum number of rows in one INSERT; each number of rows is compiled for itself."""

_CURSORS = "concord_cursors"
"""Key of a connection's cursors by statement. A cursor keeps its converters between uses."""


class _Compiled:
    """The SQL of a statement for a dialect, the names of its parameters, and their conversions."""

    def __init__(self, statement: Any, dialect: Dialect, rows: Sequence[Parameters]) -> None:  # noqa: ANN401 - TypeVar S.
        """Compile a statement for rows of parameters like these: with as many values in each list.

        Raises:
            ValueError: A column has a default value, which only SQLAlchemy would supply.
        """
        self.has_rows: bool = statement.is_select
        self.rows, example = len(rows), _joined(rows)
        if self.rows > 1:
            compiled = statement.values(list(rows)).compile(dialect=dialect)
        else:
            names = None if self.has_rows else list(example)
            compiled = statement.compile(dialect=dialect, column_keys=names)
        if compiled.insert_prefetch or compiled.update_prefetch or compiled.effective_returning:
            raise ValueError(f"a value is missing for a column: {compiled}")
        state, binds = compiled.construct_expanded_state(dict(example)), compiled.binds
        self.sql: str = state.statement
        self._positional: bool = compiled.positional
        self._names = list(state.positiontup or state.parameters)
        self.lists = {
            name: names for name, names in state.parameter_expansion.items() if name in example
        }
        given = {*example, *chain.from_iterable(self.lists.values())}
        self._fixed = {name: state.parameters[name] for name in self._names if name not in given}
        self._calls = {
            name: binds[name].callable
            for name in self._fixed
            if name in binds and binds[name].callable is not None
        }
        # Values of lists have names of their own, which are not in `binds`.
        self._conversions = [
            binds[name].type.dialect_impl(dialect).bind_processor(dialect)
            if name in binds
            else state.processors.get(name)
            for name in self._names
        ]
        columns = compiled._result_columns  # noqa: SLF001 - nothing documented tells the names.
        kinds = [column.type.dialect_impl(dialect) for column in columns]
        conversions = [kind.result_processor(dialect, None) for kind in kinds]
        names = [column.keyname for column in columns]
        self.metadata = SimpleResultMetaData(names, _processors=conversions)

    def convert(self, parameters: Parameters) -> Any:  # noqa: ANN401 - a sequence or a mapping.
        """Return the parameters as the driver expects them."""
        values = {**self._fixed, **parameters}
        for name, call in self._calls.items():
            values[name] = call()
        for name, names in self.lists.items():
            values.update(zip(names, parameters[name], strict=True))
        converted = [
            values[name] if convert is None else convert(values[name])
            for name, convert in zip(self._names, self._conversions, strict=True)
        ]
        return converted if self._positional else dict(zip(self._names, converted, strict=True))


_Shapes: TypeAlias = dict[tuple[object, ...], _Compiled]
_constants: WeakKeyDictionary[Any, WeakKeyDictionary[Dialect, _Shapes]] = WeakKeyDictionary()


def constant(statement: S) -> S:
    """Return the same statement, marked to be compiled once. Keep it as long as it is used."""
    _constants[statement] = WeakKeyDictionary()
    return statement


def read_rows(
    connection: Connection, query: TypedReturnsRows[*Ts], parameters: Parameters | None
) -> Result[*Ts]:
    """Return the rows of a query, on a connection that is in a transaction.

    On a pipelined connection, reading the first row waits for the results. Queries that are not
    constant, and all queries while anybody listens to statements, go through SQLAlchemy.

    Raises:
        DBAPIError: The driver failed.
    """
    given = parameters or {}
    lengths = tuple([len(each) for each in given.values() if type(each) is list])
    compiled = _find(connection, query, [given], lengths)
    if compiled is None:
        return connection.execute(query, parameters)
    return IteratorResult(compiled.metadata, _send(connection, compiled, [given]))


def write_rows(
    connection: Connection, statement: Insert | Update, rows: Sequence[Parameters]
) -> None:
    """Run a statement once for each row, as in `read_rows`. All rows have the same keys.

    A few rows are inserted with one statement, if the dialect is set to do so.
    On a pipelined connection, the next wait for rows, or the commit, also waits for the results.

    Raises:
        DBAPIError: The driver failed.
    """
    joins = statement.is_insert and connection.dialect.use_insertmanyvalues_wo_returning
    at_once = rows if joins and len(rows) <= _MOST_ROWS else rows[:1]
    compiled = _find(connection, statement, at_once, (len(at_once), *rows[0]))
    if compiled is None:
        connection.execute(statement, rows)
    else:
        _send(connection, compiled, rows)


def _joined(rows: Sequence[Parameters]) -> Parameters:
    """Return the parameters of an INSERT of these rows, with the names that SQLAlchemy uses."""
    if len(rows) == 1:
        return rows[0]
    return {f"{name}_m{i}": value for i, row in enumerate(rows) for name, value in row.items()}


def _find(
    connection: Connection,
    statement: object,
    rows: Sequence[Parameters],
    shape: tuple[object, ...],
) -> _Compiled | None:
    """Return a constant statement, compiled for rows of a shape; `None` for any other."""
    dialects = _constants.get(statement)
    if dialects is None or connection.dispatch.before_cursor_execute:
        return None
    shapes = dialects.setdefault(connection.dialect, {})
    if shape not in shapes:
        shapes[shape] = _Compiled(statement, connection.dialect, rows)
    return shapes[shape]


def _send(connection: Connection, compiled: _Compiled, rows: Sequence[Parameters]) -> Iterator[Any]:
    settle = connection.get_execution_options().get(SETTLE)
    steps = _exchange(connection, compiled, rows, settle)
    # The first step sends the statement, and the second one receives its rows.
    next(steps)
    return iter(next(steps)) if settle is None else chain.from_iterable(steps)


def _exchange(
    connection: Connection,
    compiled: _Compiled,
    rows: Sequence[Parameters],
    settle: Callable[[Connection], None] | None,
) -> Iterator[Sequence[Any]]:
    info = connection.info
    if (kept := info.get(_CURSORS)) is None:
        kept = info[_CURSORS] = WeakKeyDictionary[_Compiled, DBAPICursor]()
    # The cursor is removed, so that nothing else can use it before its rows have been read.
    cursor = kept.pop(compiled, None) or connection.connection.cursor()
    try:
        if len(rows) == compiled.rows:
            cursor.execute(compiled.sql, compiled.convert(_joined(rows)))
        else:
            cursor.executemany(compiled.sql, [compiled.convert(row) for row in rows])
        if not compiled.has_rows and not compiled.lists:
            kept[compiled] = cursor
        yield ()
        if settle is not None:
            settle(connection)
        found = cursor.fetchall() if compiled.has_rows else ()
        # A cursor holds its last result in memory, and the SQL differs for each length of a list.
        if len(found) <= 1 and not compiled.lists:
            kept[compiled] = cursor
        yield found
    except connection.dialect.loaded_dbapi.Error as error:
        cursor.close()
        dialect = connection.dialect
        is_lost = dialect.is_disconnect(error, connection.connection, cursor)
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            compiled.sql,
            None,
            error,
            dialect.loaded_dbapi.Error,
            hide_parameters=True,
            connection_invalidated=is_lost,
            dialect=dialect,
        ) from error
