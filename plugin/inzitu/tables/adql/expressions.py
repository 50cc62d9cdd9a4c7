"""From an expression of ADQL to one of DuckDB: columns resolved, functions allowed, units worked out.

Every kind of node that may stand in an expression is a case here; anything else is refused. See `shapes` for
geometries and `translation` for the queries around them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

from astropy import units as u
from sqlglot import exp

from inzitu.tables.adql import geometry
from inzitu.tables.adql.faults import fault, meant, only
from inzitu.tables.adql.functions import FUNCTIONS, USER_FUNCTIONS, call
from inzitu.tables.adql.scopes import Scope, Value
from inzitu.tables.adql.shapes import Near, Shapes
from inzitu.vo.fields import Field

_BINARY = (exp.Mul, exp.Div, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Like, exp.ILike)
_TYPES = {
    exp.DType.SMALLINT: "SMALLINT",
    exp.DType.INT: "INTEGER",
    exp.DType.BIGINT: "BIGINT",
    exp.DType.FLOAT: "REAL",
    exp.DType.DOUBLE: "DOUBLE",
    exp.DType.TIMESTAMP: "TIMESTAMP",
    exp.DType.DATE: "DATE",
    exp.DType.CHAR: "VARCHAR",
    exp.DType.VARCHAR: "VARCHAR",
}
# What the parser keeps of an expression; more would be a word that is not ADQL, such as SYMMETRIC after BETWEEN.
_PARTS = {
    *("this", "expression", "expressions", "low", "high", "query", "to", "ifs", "default", "alias"),
    *("table", "db", "catalog", "is_string", "quoted", "safe", "coalesce", "typed"),
}


class Expressions:
    """Translates the expressions of one SELECT.

    Parameters
    ----------
    scope
        What names mean there.
    query
        Translates a query that stands inside an expression.
    called
        Where the functions of ours are gathered that were used.
    """

    def __init__(self, scope: Scope, query: Callable[[exp.Expr, Scope], exp.Query], called: set[str]) -> None:
        self.scope = scope
        self._query = query
        self._called = called
        self._shapes = Shapes(scope, lambda node: self._value(node).sql, called)

    @property
    def nears(self) -> list[Near]:
        """The conditions found that a join can use."""
        return self._shapes.nears

    def value(self, node: exp.Expr) -> Value:
        """Return an expression with what it means; a geometry becomes an array."""
        shape = self._shapes.constructed(node)
        return Value(shape.as_list, shape.field) if shape is not None else self._value(node)

    def sql(self, node: exp.Expr) -> exp.Expr:
        """Return an expression in DuckDB's terms."""
        return self.value(node).sql

    def _value(self, node: exp.Expr) -> Value:
        only(node, _PARTS, "an expression of ADQL")
        match node:
            case exp.Column() if not isinstance(node.this, exp.Star):
                return self.scope.resolve(node)
            case exp.Literal() if not (node.is_string or node.is_int or "e" in node.name.lower()):
                # DuckDB takes 1.5 for a decimal, whose arithmetic overflows; in ADQL it is a double.
                return Value(exp.Literal.number(f"{node.name}e0"))
            case exp.Literal() | exp.Null() | exp.Boolean():
                return Value(node.copy())
            case exp.Paren() | exp.Neg():
                inner = self._value(node.this)
                return Value(type(node)(this=inner.sql), inner.field)
            case exp.Anonymous():
                return self._function(node)
            case exp.Cast():
                return self._cast(node)
            case exp.Add() | exp.Sub():
                a, b = self._value(node.this), self._value(node.expression)
                same = a.field if a.field and b.field and a.field.unit == b.field.unit else None
                return Value(type(node)(this=a.sql, expression=b.sql), same)
            case exp.And() | exp.Or():
                # A chain of a thousand is as deep as it is long, and Python's stack is not.
                terms = [self.sql(term) for term in node.flatten(unnest=False)]
                return Value(reduce(lambda a, b: type(node)(this=a, expression=b), terms))
            case exp.EQ() | exp.NEQ() if (condition := self._shapes.predicate(node)) is not None:
                return Value(condition)
            case exp.LT() | exp.LTE() | exp.GT() | exp.GTE() if (near := self._shapes.near(node)) is not None:
                return Value(near)
            case _:
                return Value(self._condition(node))

    def _condition(self, node: exp.Expr) -> exp.Expr:
        match node:
            case exp.Not():
                return exp.Not(this=self.sql(node.this))
            case exp.Concat():
                return exp.Literal.string("".join(part.name for part in node.expressions))
            case exp.DPipe():
                return exp.DPipe(this=self.sql(node.this), expression=self.sql(node.expression), safe=True)
            case exp.Between():
                return exp.Between(**{key: self.sql(node.args[key]) for key in ("this", "low", "high")})
            case exp.Is() if isinstance(node.expression, exp.Null | exp.Boolean):
                return exp.Is(this=self.sql(node.this), expression=node.expression.copy())
            case exp.In():
                return self._in(node)
            case exp.Exists():
                return exp.Exists(this=self._query(_inner(node.this), self.scope))
            case exp.Subquery():
                return exp.Subquery(this=self._query(_inner(node), self.scope))
            case exp.Tuple():
                return exp.Tuple(expressions=[self.sql(element) for element in node.expressions])
            case _ if isinstance(node, _BINARY):
                return type(node)(this=self.sql(node.this), expression=self.sql(node.expression))
            case exp.Case():
                raise fault(node, "CASE is not part of ADQL 2.1; COALESCE gives the first value that is not null.")
            case _:
                raise fault(node, f"{type(node).__name__.upper()} ({node.sql()[:60]}) is not part of ADQL 2.1.")

    def _in(self, node: exp.In) -> exp.Expr:
        if (query := node.args.get("query")) is not None:
            inner = exp.Subquery(this=self._query(_inner(query), self.scope))
            return exp.In(this=self.sql(node.this), query=inner)
        return exp.In(this=self.sql(node.this), expressions=[self.sql(element) for element in node.expressions])

    def _cast(self, node: exp.Cast) -> Value:
        target = node.args["to"]
        if target.this not in _TYPES:
            known = ", ".join(dict.fromkeys(_TYPES.values()))
            raise fault(node, f"CAST to {target.sql()} is not offered; take {known}.")
        inner = self._value(node.this)
        cast: exp.Expr = exp.cast(inner.sql, _TYPES[target.this], dialect="duckdb")
        if _TYPES[target.this] == "VARCHAR" and target.expressions:
            cast = call("left", cast, target.expressions[0].this.copy())
        return Value(cast, inner.field and replace(inner.field, xtype=None, arraysize=None))

    def _function(self, node: exp.Anonymous) -> Value:
        name = str(node.this).upper()
        if name == "IN_UNIT":
            return self._in_unit(node)
        if name in geometry.PREDICATES:
            return Value(exp.cast(exp.paren(self._shapes.holds(node)), "INTEGER"))
        if name in geometry.MEASURES:
            return self._shapes.measure(node)
        if (own := USER_FUNCTIONS.get(name.lower())) is not None:
            _count(node, own.arguments, own.arguments, own.form)
            self._called.add(own.name)
            return Value(call(own.name, *(self.sql(argument) for argument in node.expressions)))
        if (function := FUNCTIONS.get(name)) is None:
            known = [*FUNCTIONS, *geometry.CONSTRUCTORS, *geometry.PREDICATES, *geometry.MEASURES, *USER_FUNCTIONS]
            raise fault(node, f"there is no function {node.this}.{meant(name, known)}")
        _count(node, function.least, function.most, name)
        if name == "COUNT" and isinstance(node.expressions[0], exp.Star):
            return Value(exp.Count(this=exp.Star()))
        values = [self._argument(argument, function.aggregates) for argument in node.expressions]
        kept = values[0].field and replace(values[0].field, ucd=None, utype=None) if function.keeps_unit else None
        return Value(function.build([value.sql for value in values]), kept)

    def _argument(self, node: exp.Expr, aggregates: bool) -> Value:
        if isinstance(node, exp.Distinct) and aggregates and len(node.expressions) == 1 and not node.args.get("on"):
            inner = self._value(node.expressions[0])
            return Value(exp.Distinct(expressions=[inner.sql]), inner.field)
        return self.value(node)

    def _in_unit(self, node: exp.Anonymous) -> Value:
        _count(node, 2, 2, "IN_UNIT(expression, 'unit')")
        value, target = self._value(node.expressions[0]), node.expressions[1]
        if not (isinstance(target, exp.Literal) and target.is_string):
            raise fault(node, "the second argument of IN_UNIT is a unit in quotes, as 'arcsec'.")
        if value.field is None or not value.field.unit:
            raise fault(node, "the first argument of IN_UNIT has no unit; give it a column that has one.")
        scaled = exp.Mul(
            this=exp.paren(value.sql), expression=exp.Literal.number(_factor(node, value.field, target.name))
        )
        return Value(exp.paren(scaled), replace(value.field, unit=target.name))


def _factor(node: exp.Expr, field: Field, unit: str) -> float:
    """Return by what a column is multiplied to be in another unit."""
    try:
        return float(u.Unit(field.unit, format="vounit").to(u.Unit(unit, format="vounit")))
    except (ValueError, TypeError) as error:
        raise fault(node, f"{field.unit} cannot be given in {unit!r}: {error}.") from error


def _count(node: exp.Anonymous, least: int, most: int, form: str) -> None:
    given = len(node.expressions)
    if not least <= given <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise fault(node, f"{form} takes {wanted} arguments, not {given}.")


def _inner(node: exp.Expr) -> exp.Expr:
    """Return the query inside parentheses."""
    while isinstance(node, exp.Subquery) and not node.args.get("alias"):
        only(node, {"this"}, "a query in parentheses")
        node = node.this
    return node
