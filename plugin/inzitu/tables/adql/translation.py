"""From a query in ADQL to one for DuckDB: what it reads, what its columns mean, and nothing that it may not do.

The tree that comes out is built anew from the parts that are understood; no piece of what came in is passed on as it
was, so what is not named here cannot reach the engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlglot import exp

from inzitu.errors import QueryFault
from inzitu.tables.adql.dialect import parse
from inzitu.tables.adql.expressions import Expressions
from inzitu.tables.adql.faults import fault, meant
from inzitu.tables.adql.joins import cell_join, repeat
from inzitu.tables.adql.scopes import Relation, Scope, Value, names, quoted
from inzitu.tables.holdings import Column, Table
from inzitu.vo.fields import Field

_SELECT_PARTS = {
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
_SET_PARTS = {"this", "expression", "distinct", "order", "offset", "with_", "limit"}
_SETS = (exp.Union, exp.Except, exp.Intersect)


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
    translator = _Translator(tuple(tables))
    try:
        tree, columns = translator.query(parse(query), None, {})
        _limit(tree, most)
        sql = tree.sql(dialect="duckdb", comments=False)
    except RecursionError as error:
        raise QueryFault("The query is nested too deeply; write it with fewer parentheses, or with WITH.") from error
    return Translated(sql, tuple(c.field for c in columns), tuple(translator.used), frozenset(translator.called))


def source_name(table: Table) -> str:
    """Return the name under which rows in memory are registered with the engine."""
    return f"{table.schema}.{table.name}"


class _Translator:
    """What one translation gathers: the tables used and the functions called."""

    def __init__(self, tables: tuple[Table, ...]) -> None:
        self._tables = tables
        self.used: list[Table] = []
        self.called: set[str] = set()

    def query(
        self, node: exp.Expr, outer: Scope | None, common: dict[str, Relation]
    ) -> tuple[exp.Query, tuple[Column, ...]]:
        """Return a query in DuckDB's terms and its columns."""
        if isinstance(node, exp.Subquery) and not node.args.get("alias"):
            node = _with_parts_of(node)
        common = common | self._common(node, outer, common)
        match node:
            case exp.Select():
                return self._select(node, outer, common)
            case exp.Union() | exp.Except() | exp.Intersect():
                return self._set(node, outer, common)
            case _:
                raise fault(node, "A query begins with SELECT or WITH. Only SELECT is allowed.")

    def _common(self, node: exp.Expr, outer: Scope | None, common: dict[str, Relation]) -> dict[str, Relation]:
        """Return the common table expressions of a query, each a relation to read from."""
        found: dict[str, Relation] = {}
        clause = node.args.get("with_")
        if clause is None:
            return found
        if clause.args.get("recursive"):
            raise fault(clause, "WITH RECURSIVE is not part of ADQL 2.1.")
        for expression in clause.expressions:
            query, columns = self.query(expression.this, outer, common | found)
            alias = expression.args["alias"]
            columns = _renamed(columns, alias.args.get("columns") or [], alias)
            name = alias.this
            source = exp.Subquery(this=query)
            found[_key(name)] = Relation(name.name, (name.name,), columns, source)
        return found

    # Set operations

    def _set(
        self, node: exp.SetOperation, outer: Scope | None, common: dict[str, Relation]
    ) -> tuple[exp.Query, tuple[Column, ...]]:
        _only(node, _SET_PARTS, f"{type(node).__name__.upper()} of ADQL")
        left, columns = self.query(node.this, outer, common)
        right, others = self.query(node.expression, outer, common)
        if len(columns) != len(others):
            raise fault(
                node, f"the sides of {type(node).__name__.upper()} have {len(columns)} and {len(others)} columns."
            )
        combined = type(node)(
            this=exp.Subquery(this=left), expression=exp.Subquery(this=right), distinct=bool(node.args.get("distinct"))
        )
        scope = Scope(outer, outputs={c.name.lower(): Value(exp.column(quoted(c.name)), c.field) for c in columns})
        self._ordered(node, combined, self._expressions(scope, common), columns)
        return combined, columns

    # SELECT

    def _select(
        self, node: exp.Select, outer: Scope | None, common: dict[str, Relation]
    ) -> tuple[exp.Query, tuple[Column, ...]]:
        _only(node, _SELECT_PARTS, "SELECT of ADQL")
        scope = Scope(outer)
        expressions = self._expressions(scope, common)
        select = exp.Select()
        joins = self._from(node, select, scope, expressions, common)
        outputs = self._outputs(node, scope, expressions)
        select.set("expressions", [exp.alias_(value.sql, name, quoted=True) for name, value in outputs])
        scope.outputs = {name.lower(): value for name, value in outputs}
        columns = tuple(Column(_named(value.field, name)) for name, value in outputs)
        if (distinct := node.args.get("distinct")) is not None:
            if distinct.args.get("on"):
                raise fault(node, "DISTINCT ON is not part of ADQL 2.1.")
            select.set("distinct", exp.Distinct())
        if (where := node.args.get("where")) is not None:
            select.set("where", exp.Where(this=expressions.sql(where.this)))
        self._cell_joins(select, scope, expressions, joins)
        self._grouped(node, select, expressions)
        self._ordered(node, select, expressions, columns)
        return select, columns

    def _expressions(self, scope: Scope, common: dict[str, Relation]) -> Expressions:
        return Expressions(scope, lambda node, within: self.query(node, within, common)[0], self.called)

    def _outputs(self, node: exp.Select, scope: Scope, expressions: Expressions) -> list[tuple[str, Value]]:
        """Return the columns of the result, each with a name that no other has."""
        found: list[tuple[str, Value]] = []
        for item in node.expressions:
            match item:
                case exp.Star():
                    found += scope.star()
                case exp.Column() if isinstance(item.this, exp.Star):
                    relation = scope.qualified(
                        item, [part for part in item.parts[:-1] if isinstance(part, exp.Identifier)]
                    )
                    found += [(c.name, relation.value(c)) for c in relation.columns if not c.hidden]
                case exp.Alias():
                    found.append((item.alias, expressions.value(item.this)))
                case _:
                    found.append((_natural_name(item), expressions.value(item)))
        if not found:
            raise fault(node, "SELECT * without FROM has no columns.")
        return _distinct_names(found)

    def _grouped(self, node: exp.Select, select: exp.Select, expressions: Expressions) -> None:
        if (group := node.args.get("group")) is not None:
            _only(group, {"expressions"}, "GROUP BY of ADQL")
            terms = [self._term(term, expressions, first=False) for term in group.expressions]
            select.set("group", exp.Group(expressions=terms))
        if (having := node.args.get("having")) is not None:
            select.set("having", exp.Having(this=expressions.sql(having.this)))

    def _ordered(
        self, node: exp.Query, result: exp.Query, expressions: Expressions, columns: tuple[Column, ...]
    ) -> None:
        """Add ORDER BY, TOP and OFFSET."""
        if (order := node.args.get("order")) is not None:
            terms = []
            for item in order.expressions:
                self._check_ordinal(item.this, len(columns))
                term = self._term(item.this, expressions, first=True)
                terms.append(exp.Ordered(this=term, desc=bool(item.args.get("desc")), nulls_first=False))
            result.set("order", exp.Order(expressions=terms))
        for key, kind in (("limit", exp.Limit), ("offset", exp.Offset)):
            if (clause := node.args.get(key)) is not None:
                result.set(
                    key, kind(expression=exp.Literal.number(_count(clause, "TOP" if key == "limit" else "OFFSET")))
                )

    def _check_ordinal(self, node: exp.Expr, columns: int) -> None:
        if isinstance(node, exp.Literal) and not (node.is_int and 1 <= int(node.name) <= columns):
            raise fault(node, f"ORDER BY {node.name}: there are columns 1 to {columns}.")

    def _term(self, node: exp.Expr, expressions: Expressions, *, first: bool) -> exp.Expr:
        """Return what ORDER BY or GROUP BY names: a column of the result, its number, or an expression.

        Parameters
        ----------
        first
            Whether a name means a column of the result before one of the tables, as in ORDER BY.
        """
        outputs = expressions.scope.outputs
        plain = isinstance(node, exp.Column) and not node.table and node.name.lower() in outputs
        if isinstance(node, exp.Literal) and node.is_int:
            return node.copy()
        if plain and first:
            return exp.column(quoted(node.name))
        try:
            return expressions.sql(node)
        except QueryFault:
            if plain:
                return outputs[node.name.lower()].sql.copy()
            raise

    # FROM

    def _from(
        self,
        node: exp.Select,
        select: exp.Select,
        scope: Scope,
        expressions: Expressions,
        common: dict[str, Relation],
    ) -> list[tuple[exp.Join, Relation]]:
        """Add FROM and its joins; return the joins, each with the relation on its right."""
        clause = node.args.get("from_")
        if clause is None:
            return []
        first = clause.this
        select.set("from_", exp.From(this=self._relation(first, scope, common).source))
        joins = [*(first.args.get("joins") or []), *(node.args.get("joins") or [])]
        return [self._join(join, select, scope, expressions, common) for join in joins]

    def _join(
        self,
        node: exp.Join,
        select: exp.Select,
        scope: Scope,
        expressions: Expressions,
        common: dict[str, Relation],
    ) -> tuple[exp.Join, Relation]:
        _only(node, {"this", "side", "kind", "method", "on", "using"}, "JOIN of ADQL")
        side, kind, method = (str(node.args.get(key) or "").upper() for key in ("side", "kind", "method"))
        if (
            kind not in ("", "INNER", "OUTER", "CROSS")
            or side not in ("", "LEFT", "RIGHT", "FULL")
            or method not in ("", "NATURAL")
        ):
            raise fault(node, f"{method or kind or side} JOIN is not part of ADQL 2.1.")
        before = list(scope.relations)
        relation = self._relation(node.this, scope, common)
        join = exp.Join(this=relation.source, side=side or None, kind="CROSS" if kind == "CROSS" else None)
        select.append("joins", join)
        if method == "NATURAL":
            shared = _shared(before, relation)
            self._using(node, join, shared, scope, before, relation)
        elif using := node.args.get("using"):
            self._using(node, join, list(using), scope, before, relation)
        elif (condition := node.args.get("on")) is not None:
            join.set("on", expressions.sql(condition))
        elif side or kind == "INNER":
            raise fault(node, "a JOIN without ON or USING; say which rows belong together, or write CROSS JOIN.")
        else:
            join.set("kind", "CROSS")
        return join, relation

    def _using(
        self,
        node: exp.Join,
        join: exp.Join,
        identifiers: list[exp.Identifier],
        scope: Scope,
        before: list[Relation],
        relation: Relation,
    ) -> None:
        """Join on equal columns and make each pair of them one column."""
        if not identifiers:
            join.set("kind", "CROSS")
            return
        spelled = []
        for identifier in identifiers:
            left = next((column for r in before if (column := r.find(identifier)) is not None), None)
            if left is None or relation.find(identifier) is None:
                raise fault(node, f"USING ({identifier.name}): it must be a column on both sides of the JOIN.")
            spelled.append(quoted(left.name))
            scope.merged[left.name.lower()] = Value(exp.column(quoted(left.name)), left.field)
        join.set("using", spelled)

    def _relation(self, node: exp.Expr, scope: Scope, common: dict[str, Relation]) -> Relation:
        """Return what one item of FROM is, and make its name known."""
        match node:
            case exp.Table() if isinstance(node.this, exp.Identifier):
                _only(node, {"this", "db", "catalog", "alias", "joins"}, "a table of ADQL")
                relation = self._named_relation(node, scope, common)
            case exp.Subquery() if isinstance(node.this, exp.Table):
                raise fault(node, "a JOIN in parentheses is not offered; write the joins one after the other.")
            case exp.Subquery():
                inner, columns = self.query(node.this, None, common)
                alias = scope.free_alias(node.alias or "query")
                columns = _renamed(
                    columns, (node.args.get("alias") or exp.TableAlias()).args.get("columns") or [], node
                )
                relation = Relation(alias, (alias,), columns, _aliased(exp.Subquery(this=inner), alias, columns))
            case _:
                raise fault(node, f"{node.sql()[:60]} is no table; FROM takes tables and queries in parentheses.")
        scope.relations.append(relation)
        return relation

    def _named_relation(self, node: exp.Table, scope: Scope, common: dict[str, Relation]) -> Relation:
        parts = [part for part in node.parts if isinstance(part, exp.Identifier)]
        given = node.args.get("alias")
        if len(parts) == 1 and (relation := common.get(_key(parts[0]))) is not None:
            alias = scope.free_alias(given.name if given else relation.alias)
            source = _aliased(relation.source.copy(), alias, relation.columns)
            return replace(relation, alias=alias, qualifiers=(alias,), source=source)
        table = self._table(node, parts)
        if table not in self.used:
            self.used.append(table)
        alias = scope.free_alias(given.name if given else table.name)
        qualifiers = (given.name,) if given else (table.schema, table.name)
        return Relation(alias, qualifiers, table.columns, _source(table, alias), table.position, table.count)

    def _table(self, node: exp.Table, parts: list[exp.Identifier]) -> Table:
        """Return the table that a name means: with its schema, or without where only one schema has it."""
        found = [t for t in self._tables if len(parts) <= 2 and _means(parts, t)]
        if len(found) == 1:
            return found[0]
        written = ".".join(part.name for part in parts)
        if found:
            raise fault(node, f"{written} is in several schemas: {', '.join(t.full_name for t in found)}.")
        raise fault(node, f"there is no table {written}.{meant(written, [t.full_name for t in self._tables])}")

    # Joins by position

    def _cell_joins(
        self, select: exp.Select, scope: Scope, expressions: Expressions, joins: list[tuple[exp.Join, Relation]]
    ) -> None:
        """Turn conditions on the distance of two tables into joins on HEALPix cells, one for each repeated table."""
        repeated: set[str] = set()
        plain = all(join.args.get("side") is None for join, _ in joins)
        for near in expressions.nears:
            where = select.args.get("where")
            held = [(j, r) for j, r in joins if _requires(j.args.get("on"), near.condition)]
            if plain and (held or (where is not None and _requires(where.this, near.condition))):
                join = cell_join(near, scope)
            elif held and held[0][0].args.get("side") == "LEFT":
                join = cell_join(near, scope, only=held[0][1])
            else:
                join = None
            if join is None or join.repeated.alias in repeated:
                continue
            repeated.add(join.repeated.alias)
            near.condition.replace(exp.paren(exp.And(this=join.equality, expression=near.condition.copy())))
            repeat(join)
            self.called |= {"sky_cells", "sky_cell"}


def _requires(condition: exp.Expr | None, part: exp.Expr) -> bool:
    """Whether a condition can hold only if one of its parts does: the part stands in its chain of ANDs."""
    match condition:
        case None:
            return False
        case exp.And():
            return _requires(condition.this, part) or _requires(condition.expression, part)
        case exp.Paren():
            return _requires(condition.this, part)
        case _:
            return condition is part


def _source(table: Table, alias: str) -> exp.Expr:
    """Return a table of the engine: its files, or what is registered."""
    if isinstance(table.rows, tuple):
        files = exp.Array(expressions=[exp.Literal.string(str(path)) for path in table.rows])
        this: exp.Expr = exp.Anonymous(this="read_parquet", expressions=[files])
    else:
        this = quoted(source_name(table))
    return exp.Table(this=this, alias=exp.TableAlias(this=quoted(alias)))


def _aliased(source: exp.Expr, alias: str, columns: tuple[Column, ...]) -> exp.Expr:
    """Return a derived table with a name, and its columns with theirs."""
    source.set("alias", exp.TableAlias(this=quoted(alias), columns=[quoted(column.name) for column in columns]))
    return source


def _means(parts: list[exp.Identifier], table: Table) -> bool:
    own = (table.schema, table.name)[-len(parts) :]
    return all(names(part, name) for part, name in zip(parts, own, strict=True))


def _key(identifier: exp.Identifier) -> str:
    return str(identifier.name).lower()


def _shared(before: list[Relation], relation: Relation) -> list[exp.Identifier]:
    """Return the columns that both sides of a NATURAL JOIN have."""
    left = {column.name.lower() for r in before for column in r.columns if not column.hidden}
    return [quoted(c.name) for c in relation.columns if not c.hidden and c.name.lower() in left]


def _renamed(columns: tuple[Column, ...], identifiers: list[exp.Identifier], node: exp.Expr) -> tuple[Column, ...]:
    """Return columns under the names that AS x (a, b) gives them."""
    if not identifiers:
        return columns
    if len(identifiers) != len(columns):
        raise fault(node, f"{len(identifiers)} names for {len(columns)} columns.")
    return tuple(Column(_named(c.field, i.name)) for c, i in zip(columns, identifiers, strict=True))


def _named(field: Field | None, name: str) -> Field:
    return replace(field, name=name) if field is not None else Field(name, "char", "*")


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


def _distinct_names(found: list[tuple[str, Value]]) -> list[tuple[str, Value]]:
    """Return columns with a number added to the names that have been there already."""
    taken: set[str] = set()
    result = []
    for name, value in found:
        distinct, i = name, 1
        while distinct.lower() in taken:
            i += 1
            distinct = f"{name}_{i}"
        taken.add(distinct.lower())
        result.append((distinct, value))
    return result


def _only(node: exp.Expr, parts: set[str], what: str) -> None:
    """Refuse a clause that is not part of the language."""
    for key, value in node.args.items():
        if value and key not in parts:
            raise fault(node, f"{key.strip('_').upper()} is not part of {what}.")


def _with_parts_of(node: exp.Subquery) -> exp.Expr:
    """Return the query inside parentheses; what stands after them belongs to a query around it."""
    _only(node, {"this"}, "a query in parentheses")
    inner: exp.Expr = node.this
    return inner


def _count(clause: exp.Expr, word: str) -> int:
    number = clause.expression
    if not (isinstance(number, exp.Literal) and number.is_int):
        raise fault(clause, f"{word} takes a number of rows.")
    return int(number.name)


def _limit(tree: exp.Query, most: int) -> None:
    """Let a query return no more rows than are wanted."""
    present = tree.args.get("limit")
    own = int(present.expression.name) if present is not None else most
    tree.set("limit", exp.Limit(expression=exp.Literal.number(min(own, most))))
