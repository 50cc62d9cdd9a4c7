"""What a query reads: FROM and its joins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sqlglot import exp

from inzitu.tables.adql.expressions import Expressions
from inzitu.tables.adql.faults import fault, meant, only
from inzitu.tables.adql.scopes import Relation, Scope, Value, names, quoted, renamed
from inzitu.tables.holdings import Column, Table

type Common = dict[str, Relation]
"""Common table expressions by name in lower case."""

type Query = Callable[[exp.Expr, Scope | None, Common], tuple[exp.Query, tuple[Column, ...]]]
"""Translates a query inside another and gives its columns."""


@dataclass(frozen=True, slots=True)
class Join:
    """A join of the translated query and the relation on its right."""

    node: exp.Join
    relation: Relation

    @property
    def side(self) -> str | None:
        """LEFT, RIGHT, FULL, or None for an inner join."""
        side: str | None = self.node.args.get("side")
        return side

    @property
    def condition(self) -> exp.Expr | None:
        """What stands after ON."""
        condition: exp.Expr | None = self.node.args.get("on")
        return condition


@dataclass(slots=True)
class Readable:
    """The tables that may be named, and those that one query has named."""

    tables: tuple[Table, ...]
    used: list[Table] = field(default_factory=list)

    def table(self, node: exp.Table) -> Table:
        """Return the table that a name means: with its schema, or without where only one schema has it.

        Raises
        ------
        QueryFault
            There is none, or several.
        """
        parts = [part for part in node.parts if isinstance(part, exp.Identifier)]
        found = [table for table in self.tables if _means(parts, table)]
        written = ".".join(part.name for part in parts)
        if not found:
            known = [table.full_name if len(parts) > 1 else table.name for table in self.tables]
            raise fault(node, f"there is no table {written}.{meant(written, known)}")
        if len(found) > 1:
            raise fault(node, f"{written} is in several schemas: {', '.join(t.full_name for t in found)}.")
        if found[0] not in self.used:
            self.used.append(found[0])
        return found[0]


@dataclass(frozen=True, slots=True)
class Sources:
    """Reads the FROM of one SELECT."""

    holdings: Readable
    scope: Scope
    expressions: Expressions
    common: Common
    query: Query

    def read(self, node: exp.Select, select: exp.Select) -> list[Join]:
        """Add FROM to the translated query and return its joins."""
        clause = node.args.get("from_")
        if clause is None:
            return []
        first = clause.this
        if isinstance(first, exp.Subquery) and isinstance(first.this, exp.Table) and not first.args.get("alias"):
            # Parentheses about the first joins change nothing.
            only(first, {"this"}, "a join in parentheses")
            first = first.this
        select.set("from_", exp.From(this=self._relation(first).source))
        joins = [*(first.args.get("joins") or []), *(node.args.get("joins") or [])]
        return [self._join(join, select) for join in joins]

    def _join(self, node: exp.Join, select: exp.Select) -> Join:
        only(node, {"this", "side", "kind", "method", "on", "using"}, "JOIN of ADQL")
        side, kind, method = (str(node.args.get(key) or "").upper() for key in ("side", "kind", "method"))
        if kind not in ("", "INNER", "OUTER", "CROSS") or method not in ("", "NATURAL"):
            raise fault(node, f"{method or kind} JOIN is not part of ADQL 2.1.")
        before = list(self.scope.relations)
        relation = self._relation(node.this)
        join = exp.Join(this=relation.source, side=side or None)
        select.append("joins", join)
        using = _shared(before, relation) if method == "NATURAL" else list(node.args.get("using") or [])
        if using:
            join.set("using", [self._merged(node, identifier, before, relation) for identifier in using])
        elif (condition := node.args.get("on")) is not None:
            join.set("on", self.expressions.sql(condition))
        elif side or kind == "INNER":
            raise fault(node, "a JOIN without ON or USING; say which rows belong together, or write CROSS JOIN.")
        else:
            join.set("kind", "CROSS")
        return Join(join, relation)

    def _merged(
        self, node: exp.Join, identifier: exp.Identifier, before: list[Relation], relation: Relation
    ) -> exp.Identifier:
        """Make a column that both sides of a join have one column."""
        left = next((column for r in before if (column := r.find(identifier)) is not None), None)
        if left is None or relation.find(identifier) is None:
            raise fault(node, f"USING ({identifier.name}): it must be a column on both sides of the JOIN.")
        self.scope.merged[left.name.lower()] = Value(exp.column(quoted(left.name)), left.field)
        return quoted(left.name)

    def _relation(self, node: exp.Expr) -> Relation:
        """Return what one item of FROM is, and make its name known."""
        match node:
            case exp.Table() if isinstance(node.this, exp.Identifier):
                only(node, {"this", "db", "catalog", "alias", "joins"}, "a table of ADQL")
                relation = self._named(node)
            case exp.Subquery() if isinstance(node.this, exp.Query):
                only(node, {"this", "alias"}, "a derived table")
                relation = self._derived(node)
            case exp.Subquery():
                raise fault(node, "a JOIN in parentheses can only come first in FROM; write the joins in a row.")
            case _:
                raise fault(node, f"{node.sql()[:60]} is no table; FROM takes tables and queries in parentheses.")
        self.scope.relations.append(relation)
        return relation

    def _derived(self, node: exp.Subquery) -> Relation:
        inner, columns = self.query(node.this, None, self.common)
        alias = self.scope.free_alias(node.alias or "query")
        given = node.args.get("alias")
        columns = renamed(node, columns, given.args.get("columns") if given else None)
        return Relation(alias, (alias,), columns, _aliased(exp.Subquery(this=inner), alias, columns))

    def _named(self, node: exp.Table) -> Relation:
        given = node.args.get("alias")
        if given is not None and given.args.get("columns"):
            raise fault(node, "columns of a table cannot be renamed after AS; rename them in a SELECT.")
        if not node.db and (relation := self.common.get(node.name.lower())) is not None:
            alias = self.scope.free_alias(given.name if given else relation.alias)
            source = _aliased(relation.source.copy(), alias, relation.columns)
            return replace(relation, alias=alias, qualifiers=(alias,), source=source)
        table = self.holdings.table(node)
        alias = self.scope.free_alias(given.name if given else table.name)
        qualifiers = (given.name,) if given else (table.schema, table.name)
        return Relation(alias, qualifiers, table.columns, _source(table, alias), table.position, table.count)


def source_name(table: Table) -> str:
    """Return the name under which rows in memory are registered with the engine."""
    return table.full_name


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
    own = (table.schema, table.name)
    return len(parts) <= len(own) and all(names(p, n) for p, n in zip(parts, own[-len(parts) :], strict=True))


def _shared(before: list[Relation], relation: Relation) -> list[exp.Identifier]:
    """Return the columns that both sides of a NATURAL JOIN have."""
    left = {column.name.lower() for r in before for column in r.columns if not column.hidden}
    return [quoted(c.name) for c in relation.columns if not c.hidden and c.name.lower() in left]
