"""Which tables and columns a name in a query means.

A regular identifier means whatever equals it without regard to case, a delimited one only what equals it (ADQL 2.1,
section 2.1.4).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlglot import exp

from inzitu.tables.adql.faults import fault, meant
from inzitu.tables.holdings import CELL_COLUMN, Column
from inzitu.vo.fields import Field


def names(identifier: exp.Identifier, name: str) -> bool:
    """Whether an identifier of a query means a name."""
    return identifier.name == name if identifier.args.get("quoted") else identifier.name.lower() == name.lower()


def quoted(name: str) -> exp.Identifier:
    """Return a name as an identifier that DuckDB takes as it is."""
    return exp.to_identifier(name, quoted=True)


def column_of(alias: str, name: str) -> exp.Column:
    """Return a column of a relation, in full."""
    return exp.Column(this=quoted(name), table=quoted(alias))


@dataclass(frozen=True, slots=True)
class Value:
    """An expression in DuckDB's terms and what is known of its meaning."""

    sql: exp.Expr
    field: Field | None = None


@dataclass(slots=True)
class Relation:
    """A table, a derived table or a common table expression that a query reads from."""

    alias: str
    qualifiers: tuple[str, ...]
    columns: tuple[Column, ...]
    source: exp.Expr
    position: tuple[str, str] | None = None
    count: int | None = None

    def is_named(self, parts: list[exp.Identifier]) -> bool:
        """Whether a qualifier, as `alias` or `schema.table`, means this relation."""
        wanted = self.qualifiers[-len(parts) :]
        return len(wanted) == len(parts) and all(names(part, own) for part, own in zip(parts, wanted, strict=True))

    def find(self, identifier: exp.Identifier) -> Column | None:
        """Return the column that an identifier means."""
        found = [column for column in self.columns if names(identifier, column.name)]
        exact = [column for column in found if column.name == identifier.name]
        return next(iter(exact or found), None)

    def value(self, column: Column) -> Value:
        """Return one of the columns as an expression."""
        return Value(column_of(self.alias, column.name), column.field)

    @property
    def cell(self) -> exp.Column | None:
        """The column with the HEALPix cell of the position."""
        return column_of(self.alias, CELL_COLUMN) if self.position else None


@dataclass(slots=True)
class Scope:
    """The relations that names in one SELECT can mean, and those of the SELECT around it."""

    outer: Scope | None = None
    relations: list[Relation] = field(default_factory=list)
    merged: dict[str, Value] = field(default_factory=dict)
    """Columns that USING or NATURAL have made one of several, by name in lower case."""
    outputs: dict[str, Value] = field(default_factory=dict)
    """Columns of the result, by name in lower case; what ORDER BY may name."""

    def relation(self, alias: str) -> Relation | None:
        """Return the relation with an alias in the translated query."""
        return next((relation for relation in self.relations if relation.alias == alias), None)

    def free_alias(self, wanted: str) -> str:
        """Return an alias that no relation of this scope has yet, without regard to case."""
        taken = {relation.alias.lower() for relation in self.relations}
        alias, i = wanted, 1
        while alias.lower() in taken:
            i += 1
            alias = f"{wanted}_{i}"
        return alias

    def qualified(self, node: exp.Expr, parts: list[exp.Identifier]) -> Relation:
        """Return the relation that a qualifier means, in this scope or around it.

        Raises
        ------
        QueryFault
            There is none, or several.
        """
        found = [relation for relation in self.relations if relation.is_named(parts)]
        if len(found) == 1:
            return found[0]
        written = ".".join(part.name for part in parts)
        if found:
            raise fault(node, f"{written} stands for several tables of FROM; give each a name with AS.")
        if self.outer is not None:
            return self.outer.qualified(node, parts)
        raise fault(node, f"no table or alias {written} in FROM.{meant(written, [r.alias for r in self.relations])}")

    def resolve(self, node: exp.Column) -> Value:
        """Return what a column reference means.

        Raises
        ------
        QueryFault
            There is no such column, or several relations have one.
        """
        identifier = node.this
        qualifier = [part for part in node.parts[:-1] if isinstance(part, exp.Identifier)]
        if qualifier:
            relation = self.qualified(node, qualifier)
            if (column := relation.find(identifier)) is None:
                shown = [c.name for c in relation.columns if not c.hidden]
                raise fault(node, f"no column {identifier.name} in {relation.alias}.{meant(identifier.name, shown)}")
            return relation.value(column)
        return self._unqualified(node, identifier)

    def _unqualified(self, node: exp.Column, identifier: exp.Identifier) -> Value:
        if merged := self.merged.get(identifier.name.lower()):
            return merged
        found = [(r, column) for r in self.relations if (column := r.find(identifier)) is not None]
        if len(found) > 1:
            owners = " and ".join(relation.alias for relation, _ in found)
            raise fault(node, f"column {identifier.name} is in {owners}; write one of them before it, with a dot.")
        if found:
            return found[0][0].value(found[0][1])
        if self.outer is not None:
            return self.outer._unqualified(node, identifier)
        shown = [column.name for relation in self.relations for column in relation.columns if not column.hidden]
        raise fault(node, f"no column {identifier.name} in the tables of FROM.{meant(identifier.name, shown)}")

    def star(self) -> list[tuple[str, Value]]:
        """Return the columns that `*` stands for: merged ones first, hidden ones not."""
        first = [(value.sql.name, value) for value in self.merged.values()]
        rest = [
            (column.name, relation.value(column))
            for relation in self.relations
            for column in relation.columns
            if not column.hidden and column.name.lower() not in self.merged
        ]
        return first + rest


def named(field: Field | None, name: str) -> Field:
    """Return a field under the name that a query gives it."""
    return replace(field, name=name) if field is not None else Field(name, "char", "*")


def renamed(
    node: exp.Expr, columns: tuple[Column, ...], identifiers: list[exp.Identifier] | None
) -> tuple[Column, ...]:
    """Return columns under the names that AS x (a, b) gives them.

    Raises
    ------
    QueryFault
        There are more or fewer names than columns.
    """
    if not identifiers:
        return columns
    if len(identifiers) != len(columns):
        raise fault(node, f"{len(identifiers)} names for {len(columns)} columns.")
    return tuple(Column(named(c.field, i.name)) for c, i in zip(columns, identifiers, strict=True))


def distinct_names(found: list[tuple[str, Value]]) -> list[tuple[str, Value]]:
    """Return columns with a number added to the names that have been there already, in whatever case."""
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
