"""From a query in ADQL to one for DuckDB: what it reads, what its columns mean, and nothing that it may not do.

The tree that comes out is built anew from the parts that are understood; no piece of what came in is passed on as it
was, so what is not named in these modules cannot reach the engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlglot import exp

from inzitu.errors import QueryFault
from inzitu.tables.adql.dialect import parse
from inzitu.tables.adql.expressions import Expressions
from inzitu.tables.adql.faults import fault, only
from inzitu.tables.adql.joins import join_by_cells
from inzitu.tables.adql.scopes import Relation, Scope, Value, distinct_names, named, quoted, renamed
from inzitu.tables.adql.sources import Common, Readable, Sources
from inzitu.tables.holdings import Column, Table
from inzitu.vo.fields import Field

_CLAUSES = {
    "expressions",
    "distinct",
    "limit",
    "from_",
    "joins",
    "where",
    "group",
    "having",
    "order",
    "offset",
    "with_",
}
_SET_CLAUSES = {"this", "expression", "distinct", "order", "offset", "with_"}

type Columns = tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Translated:
    """A query that DuckDB can run.

    Attributes
    ----------
    sql
        The query.
    fields
        What is known of each column of the result; types are the engine's to say.
    tables
        What it reads.
    functions
        The functions of ours that it calls.
    """

    sql: str
    fields: tuple[Field, ...]
    tables: tuple[Table, ...]
    functions: frozenset[str]


def translate(query: str, tables: Iterable[Table], *, most: int) -> Translated:
    """Translate one ADQL query.

    Parameters
    ----------
    query
        The query.
    tables
        All tables that may be named.
    most
        Rows that the result may have.

    Raises
    ------
    QueryFault
        It cannot be parsed, names what is not there, or does what is not allowed.
    """
    translator = _Translator(Readable(tuple(tables)))
    try:
        tree, columns = translator.query(parse(query), None, {})
        _limit(tree, most)
        sql = tree.sql(dialect="duckdb", comments=False)
    except RecursionError as error:
        raise QueryFault("The query is nested too deeply; write it with fewer parentheses, or with WITH.") from error
    fields = tuple(column.field for column in columns)
    return Translated(sql, fields, tuple(translator.holdings.used), frozenset(translator.called))


class _Translator:
    """One translation: what it may read, and the functions that it has called."""

    def __init__(self, holdings: Readable) -> None:
        self.holdings = holdings
        self.called: set[str] = set()

    def query(self, node: exp.Expr, outer: Scope | None, common: Common) -> tuple[exp.Query, Columns]:
        """Return a query in DuckDB's terms and its columns."""
        match node:
            case exp.Select():
                return self._select(node, outer, self._common(node, outer, common))
            case exp.SetOperation():
                return self._set(node, outer, self._common(node, outer, common))
            case exp.Subquery():
                only(node, {"this"}, "a query in parentheses")
                return self.query(node.this, outer, common)
            case _:
                raise fault(node, "a query is wanted here: SELECT ...")

    def _common(self, node: exp.Query, outer: Scope | None, common: Common) -> Common:
        """Return the common table expressions that a query may read, its own and those around it."""
        clause = node.args.get("with_")
        if clause is None:
            return common
        only(clause, {"expressions"}, "WITH of ADQL")
        found = dict(common)
        for expression in clause.expressions:
            only(expression, {"this", "alias"}, "WITH of ADQL")
            query, columns = self.query(expression.this, outer, found)
            alias = expression.args["alias"]
            columns = renamed(alias, columns, alias.args.get("columns"))
            found[alias.name.lower()] = Relation(alias.name, (alias.name,), columns, exp.Subquery(this=query))
        return found

    def _set(self, node: exp.SetOperation, outer: Scope | None, common: Common) -> tuple[exp.Query, Columns]:
        kind = type(node).__name__.upper()
        only(node, _SET_CLAUSES, f"{kind} of ADQL")
        left, columns = self.query(node.this, outer, common)
        right, others = self.query(node.expression, outer, common)
        if len(columns) != len(others):
            raise fault(node, f"the sides of {kind} have {len(columns)} and {len(others)} columns.")
        distinct = bool(node.args.get("distinct"))
        combined = type(node)(this=exp.Subquery(this=left), expression=exp.Subquery(this=right), distinct=distinct)
        scope = Scope(outer, outputs={c.name.lower(): Value(exp.column(quoted(c.name)), c.field) for c in columns})
        self._finish(node, combined, self._expressions(scope, common), columns)
        return combined, columns

    def _select(self, node: exp.Select, outer: Scope | None, common: Common) -> tuple[exp.Query, Columns]:
        only(node, _CLAUSES, "SELECT of ADQL")
        scope, select = Scope(outer), exp.Select()
        expressions = self._expressions(scope, common)
        joins = Sources(self.holdings, scope, expressions, common, self.query).read(node, select)
        outputs = distinct_names(_outputs(node, scope, expressions))
        select.set("expressions", [exp.alias_(value.sql, name, quoted=True) for name, value in outputs])
        scope.outputs = {name.lower(): value for name, value in outputs}
        columns = tuple(Column(named(value.field, name)) for name, value in outputs)
        if (distinct := node.args.get("distinct")) is not None:
            only(distinct, set(), "DISTINCT of ADQL")
            select.set("distinct", exp.Distinct())
        if (where := node.args.get("where")) is not None:
            select.set("where", exp.Where(this=expressions.sql(where.this)))
        self.called |= join_by_cells(select, scope, expressions.nears, joins)
        if (group := node.args.get("group")) is not None:
            only(group, {"expressions"}, "GROUP BY of ADQL")
            select.set("group", exp.Group(expressions=[_grouping(term, expressions) for term in group.expressions]))
        if (having := node.args.get("having")) is not None:
            select.set("having", exp.Having(this=expressions.sql(having.this)))
        self._finish(node, select, expressions, columns)
        return select, columns

    def _expressions(self, scope: Scope, common: Common) -> Expressions:
        return Expressions(scope, lambda node, within: self.query(node, within, common)[0], self.called)

    def _finish(self, node: exp.Query, result: exp.Query, expressions: Expressions, columns: Columns) -> None:
        """Add ORDER BY, TOP and OFFSET."""
        if (order := node.args.get("order")) is not None:
            only(order, {"expressions"}, "ORDER BY of ADQL")
            terms = [_ordering(item, expressions, len(columns)) for item in order.expressions]
            result.set("order", exp.Order(expressions=terms))
        if (limit := node.args.get("limit")) is not None:
            result.set("limit", exp.Limit(expression=_rows(limit, "TOP")))
        if (offset := node.args.get("offset")) is not None:
            result.set("offset", exp.Offset(expression=_rows(offset, "OFFSET")))


def _outputs(node: exp.Select, scope: Scope, expressions: Expressions) -> list[tuple[str, Value]]:
    """Return the columns of the result and the names that they have of themselves."""
    found: list[tuple[str, Value]] = []
    for item in node.expressions:
        match item:
            case exp.Star():
                only(item, set(), "SELECT * of ADQL")
                found += scope.star()
            case exp.Column() if isinstance(item.this, exp.Star):
                only(item.this, set(), "SELECT * of ADQL")
                relation = scope.qualified(item, [p for p in item.parts[:-1] if isinstance(p, exp.Identifier)])
                found += [(c.name, relation.value(c)) for c in relation.columns if not c.hidden]
            case exp.Alias():
                found.append((item.alias, expressions.value(item.this)))
            case exp.Column():
                value = expressions.value(item)
                found.append((value.field.name if value.field else item.name, value))
            case _:
                found.append((_natural_name(item), expressions.value(item)))
    if not found:
        raise fault(node, "SELECT names no columns.")
    return found


def _natural_name(node: exp.Expr) -> str:
    """Return the name of a column that the query does not name: its own, or that of its function."""
    match node:
        case exp.Column():
            return str(node.name)
        case exp.Anonymous():
            return str(node.this).lower()
        case exp.Paren() | exp.Cast() | exp.Neg():
            return _natural_name(node.this)
        case _:
            return "value"


def _ordering(item: exp.Expr, expressions: Expressions, columns: int) -> exp.Expr:
    """Return what one term of ORDER BY is: a column of the result by name or number, or an expression."""
    only(item, {"this", "desc", "nulls_first"}, "ORDER BY of ADQL")
    node = item.this
    if isinstance(node, exp.Literal):
        if not (node.is_int and 1 <= int(node.name) <= columns):
            raise fault(node, f"ORDER BY {node.name}: there are columns 1 to {columns}.")
        term: exp.Expr = node.copy()
    elif _names_output(node, expressions.scope):
        term = exp.column(quoted(node.name))
    else:
        term = expressions.sql(node)
    return exp.Ordered(this=term, desc=bool(item.args.get("desc")), nulls_first=bool(item.args.get("nulls_first")))


def _grouping(node: exp.Expr, expressions: Expressions) -> exp.Expr:
    """Return what one term of GROUP BY is: an expression, or a column of the result that no table has."""
    if isinstance(node, exp.Literal):
        raise fault(node, f"GROUP BY {node.name}: name the column.")
    try:
        return expressions.sql(node)
    except QueryFault:
        if _names_output(node, expressions.scope):
            return expressions.scope.outputs[node.name.lower()].sql.copy()
        raise


def _names_output(node: exp.Expr, scope: Scope) -> bool:
    return isinstance(node, exp.Column) and not node.table and node.name.lower() in scope.outputs


def _rows(clause: exp.Expr, word: str) -> exp.Expr:
    only(clause, {"expression"}, f"{word} of ADQL")
    number = clause.expression
    if not (isinstance(number, exp.Literal) and number.is_int):
        raise fault(clause, f"{word} takes a number of rows.")
    return exp.Literal.number(int(number.name))


def _limit(tree: exp.Query, most: int) -> None:
    """Let a query return no more rows than are wanted."""
    present = tree.args.get("limit")
    own = int(present.expression.name) if present is not None else most
    tree.set("limit", exp.Limit(expression=exp.Literal.number(min(own, most))))
