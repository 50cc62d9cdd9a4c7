"""From an expression of ADQL to one of DuckDB: columns resolved, functions allowed, geometry and units worked out.

Every kind of node that may stand in an expression is a case here; anything else is refused. See `translation` for the
queries around them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from astropy import units as u
from sqlglot import exp

from inzitu.tables.adql import geometry
from inzitu.tables.adql.faults import fault, meant
from inzitu.tables.adql.functions import FUNCTIONS, USER_FUNCTIONS, call
from inzitu.tables.adql.geometry import Shape
from inzitu.tables.adql.scopes import Scope, Value
from inzitu.vo.fields import Field

_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div)
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_BINARY = (*_ARITHMETIC, *_COMPARISONS, exp.And, exp.Or, exp.Like, exp.ILike)
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


@dataclass(frozen=True, slots=True)
class Near:
    """A condition that two points lie within a constant angle of each other [deg]."""

    condition: exp.Expr
    first: Shape
    second: Shape
    radius: float


@dataclass(slots=True)
class Expressions:
    """Translates the expressions of one SELECT.

    Attributes
    ----------
    scope
        What names mean there.
    query
        Translates a query that stands inside an expression.
    called
        The functions of ours that were used, which the engine has to provide.
    nears
        The conditions found that a join can use.
    """

    scope: Scope
    query: Callable[[exp.Expr, Scope], exp.Query]
    called: set[str]
    nears: list[Near] = field(default_factory=list)

    def value(self, node: exp.Expr) -> Value:
        """Return an expression with what it means; a geometry becomes an array."""
        shape = self._shape_or_none(node)
        return Value(shape.as_list, shape.field) if shape is not None else self._value(node)

    def sql(self, node: exp.Expr) -> exp.Expr:
        """Return an expression in DuckDB's terms."""
        return self.value(node).sql

    def _value(self, node: exp.Expr) -> Value:
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
            case exp.EQ() | exp.NEQ() if (condition := self._predicate(node)) is not None:
                return Value(condition)
            case exp.LT() | exp.LTE() | exp.GT() | exp.GTE() if (near := self._near(node)) is not None:
                return Value(near)
            case _:
                return Value(self._condition(node))

    def _condition(self, node: exp.Expr) -> exp.Expr:
        match node:
            case exp.Not() | exp.Paren():
                return type(node)(this=self.sql(node.this))
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
                return exp.Exists(this=self.query(_inner(node.this), self.scope))
            case exp.Subquery():
                return exp.Subquery(this=self.query(_inner(node), self.scope))
            case exp.Tuple():
                return exp.Tuple(expressions=[self.sql(element) for element in node.expressions])
            case _ if isinstance(node, _BINARY):
                return type(node)(this=self.sql(node.this), expression=self.sql(node.expression))
            case exp.Case():
                raise fault(node, "CASE is not part of ADQL 2.1; COALESCE gives the first value that is not null.")
            case _:
                raise fault(node, f"{_called(node)} is not part of ADQL 2.1.")

    def _in(self, node: exp.In) -> exp.Expr:
        if any(node.args.get(key) for key in ("unnest", "field", "is_global")):
            raise fault(node, "IN takes a list of values or a SELECT in parentheses.")
        if (query := node.args.get("query")) is not None:
            inner = exp.Subquery(this=self.query(_inner(query), self.scope))
            return exp.In(this=self.sql(node.this), query=inner)
        return exp.In(this=self.sql(node.this), expressions=[self.sql(element) for element in node.expressions])

    def _cast(self, node: exp.Cast) -> Value:
        target = node.args["to"]
        if target.this not in _TYPES or node.args.get("format"):
            raise fault(
                node, f"CAST to {target.sql()} is not offered; take {', '.join(dict.fromkeys(_TYPES.values()))}."
            )
        inner = self._value(node.this)
        cast: exp.Expr = exp.cast(inner.sql, _TYPES[target.this], dialect="duckdb")
        if _TYPES[target.this] == "VARCHAR" and target.expressions:
            cast = call("left", cast, target.expressions[0].this.copy())
        kept = inner.field and replace(inner.field, xtype=None, arraysize=None)
        return Value(cast, kept)

    def _function(self, node: exp.Anonymous) -> Value:
        name = str(node.this).upper()
        if name == "IN_UNIT":
            return self._in_unit(node)
        if name in geometry.PREDICATES:
            return Value(exp.cast(exp.paren(self._holds(node)), "INTEGER"))
        if name in geometry.MEASURES:
            return self._measure(node, name)
        if (own := USER_FUNCTIONS.get(name.lower())) is not None:
            self._count(node, own.arguments, own.arguments, own.form)
            self.called.add(own.name)
            return Value(call(own.name, *(self.sql(argument) for argument in node.expressions)))
        if (function := FUNCTIONS.get(name)) is None:
            known = [*FUNCTIONS, *geometry.CONSTRUCTORS, *geometry.PREDICATES, *geometry.MEASURES, *USER_FUNCTIONS]
            raise fault(node, f"there is no function {node.this}.{meant(name, known)}")
        self._count(node, function.least, function.most, name)
        if name == "COUNT" and isinstance(node.expressions[0], exp.Star):
            return Value(exp.Count(this=exp.Star()))
        values = [self._argument(argument, function.aggregates) for argument in node.expressions]
        kept = _unit_only(values[0]) if function.keeps_unit else None
        return Value(function.build([value.sql for value in values]), kept)

    def _argument(self, node: exp.Expr, aggregates: bool) -> Value:
        if isinstance(node, exp.Distinct) and aggregates and len(node.expressions) == 1:
            inner = self._value(node.expressions[0])
            return Value(exp.Distinct(expressions=[inner.sql]), inner.field)
        return self.value(node)

    def _count(self, node: exp.Anonymous, least: int, most: int, form: str) -> None:
        given = len(node.expressions)
        if not least <= given <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise fault(node, f"{form} takes {wanted} arguments, not {given}.")

    def _in_unit(self, node: exp.Anonymous) -> Value:
        self._count(node, 2, 2, "IN_UNIT(expression, 'unit')")
        value, target = self._value(node.expressions[0]), node.expressions[1]
        if not (isinstance(target, exp.Literal) and target.is_string):
            raise fault(node, "the second argument of IN_UNIT is a unit in quotes, as 'arcsec'.")
        if value.field is None or not value.field.unit:
            raise fault(node, "the first argument of IN_UNIT has no unit; give it a column that has one.")
        try:
            factor = u.Unit(value.field.unit, format="vounit").to(u.Unit(target.name, format="vounit"))
        except (ValueError, TypeError) as error:
            raise fault(node, f"{value.field.unit} cannot be given in {target.name!r}: {error}.") from error
        scaled = exp.Mul(this=exp.paren(value.sql), expression=exp.Literal.number(float(factor)))
        return Value(exp.paren(scaled), replace(value.field, unit=target.name))

    # Geometry

    def _shape_or_none(self, node: exp.Expr) -> Shape | None:
        """Return the shape that an expression constructs; None if it is no geometry."""
        if isinstance(node, exp.Paren):
            return self._shape_or_none(node.this)
        if not isinstance(node, exp.Anonymous) or str(node.this).upper() not in geometry.CONSTRUCTORS:
            return None
        name, arguments = str(node.this).upper(), self._without_frame(node)
        match name, len(arguments):
            case "POINT", 2:
                shape = geometry.point(*self._numbers(arguments))
            case "CIRCLE", 2 | 3:
                shape = geometry.circle(self._centre(arguments[:-1]), *self._numbers(arguments[-1:]))
            case "BOX", 3 | 4:
                shape = geometry.box(self._centre(arguments[:-2]), *self._numbers(arguments[-2:]))
            case "POLYGON", count if count >= 3 and self._is_shape(arguments[0]):
                shape = geometry.polygon([self._centre([argument]) for argument in arguments])
            case "POLYGON", count if count >= 6 and count % 2 == 0:
                shape = Shape("polygon", tuple(self._numbers(arguments)))
            case "CENTROID", 1:
                shape = self._centroid(arguments[0])
            case _:
                raise fault(node, f"{name} cannot be made from {len(arguments)} arguments.")
        geometry.check(node, shape)
        return shape

    def _without_frame(self, node: exp.Anonymous) -> list[exp.Expr]:
        """Return the arguments of a geometry without its coordinate system, which must be ICRS."""
        arguments = list(node.expressions)
        if arguments and isinstance(arguments[0], exp.Literal) and arguments[0].is_string:
            if arguments[0].name.upper() not in geometry.FRAMES:
                raise fault(node, f"coordinates in {arguments[0].name!r} are not offered; all are ICRS. Convert them.")
            return arguments[1:]
        return arguments

    def _numbers(self, arguments: list[exp.Expr]) -> list[exp.Expr]:
        return [self._value(argument).sql for argument in arguments]

    def _is_shape(self, node: exp.Expr) -> bool:
        if isinstance(node, exp.Column):
            resolved = self.scope.resolve(node).field
            return resolved is not None and resolved.xtype in ("point", "circle", "polygon")
        return self._shape_or_none(node) is not None

    def _centre(self, arguments: list[exp.Expr]) -> Shape:
        """Return the point that one geometry or two numbers give."""
        if len(arguments) == 2:
            return geometry.point(*self._numbers(arguments))
        shape = self._shape(arguments[0])
        if shape.xtype != "point":
            raise fault(arguments[0], f"a {shape.xtype} where a POINT is wanted.")
        return shape

    def _shape(self, node: exp.Expr) -> Shape:
        """Return the geometry that an argument is: constructed, or a column that holds one."""
        if (shape := self._shape_or_none(node)) is not None:
            return shape
        if isinstance(node, exp.Column):
            value = self.scope.resolve(node)
            if value.field is not None and value.field.xtype in ("point", "circle", "polygon"):
                return geometry.shape_of(value.sql, value.field.xtype)
        raise fault(node, "a geometry is wanted here: POINT(ra, dec), CIRCLE(...), POLYGON(...) or such a column.")

    def _centroid(self, node: exp.Expr) -> Shape:
        shape = self._shape(node)
        if shape.xtype != "polygon":
            return Shape("point", shape.centre)
        self.called.add("sky_centroid")
        return geometry.shape_of(call("sky_centroid", shape.as_list), "point")

    def _measure(self, node: exp.Anonymous, name: str) -> Value:
        if name == "DISTANCE":
            return Value(geometry.distance(*self._pair(node)), Field("", "double", unit="deg"))
        self._count(node, 1, 1, f"{name}(geometry)")
        shape = self._shape(node.expressions[0])
        if name == "AREA":
            self.called.add("sky_area")
            return Value(call("sky_area", shape.as_list), Field("", "double", unit="deg**2"))
        if shape.xtype != "point":
            raise fault(node, f"{name} takes a POINT, not a {shape.xtype}; CENTROID gives one.")
        coordinate = exp.cast(shape.centre[name == "COORD2"].copy(), "DOUBLE", dialect="duckdb")
        return Value(coordinate, Field("", "double", unit="deg"))

    def _pair(self, node: exp.Anonymous) -> tuple[Shape, Shape]:
        """Return the two points of a DISTANCE, given as points or as four numbers."""
        arguments = self._without_frame(node)
        if len(arguments) == 4:
            return self._centre(arguments[:2]), self._centre(arguments[2:])
        if len(arguments) != 2:
            raise fault(node, f"DISTANCE takes two points or four numbers, not {len(arguments)} arguments.")
        return self._centre(arguments[:1]), self._centre(arguments[1:])

    def _predicate(self, node: exp.Expr) -> exp.Expr | None:
        """Return the condition that CONTAINS(..) = 1 and its likes are; None if it is another comparison."""
        for side, other in ((node.this, node.expression), (node.expression, node.this)):
            is_predicate = isinstance(side, exp.Anonymous) and str(side.this).upper() in geometry.PREDICATES
            if is_predicate and isinstance(other, exp.Literal) and other.name in ("0", "1"):
                wanted = (other.name == "1") == isinstance(node, exp.EQ)
                holds = self._holds(side)
                return holds if wanted else exp.Not(this=exp.paren(holds))
        return None

    def _holds(self, node: exp.Anonymous) -> exp.Expr:
        """Return the condition that a CONTAINS or an INTERSECTS stands for."""
        self._count(node, 2, 2, f"{str(node.this).upper()}(geometry, geometry)")
        a, b = (self._shape(argument) for argument in node.expressions)
        is_contains = str(node.this).upper() == "CONTAINS"
        condition = geometry.contains(a, b) if is_contains else geometry.intersects(a, b)
        if isinstance(condition, exp.Anonymous):
            self.called.add(str(condition.this))
        if not is_contains and b.xtype == "point":
            a, b = b, a
        if a.xtype != "point":
            return condition
        if (numbers := b.constants) is not None and (cell := self._cell(a)) is not None:
            return geometry.pruned(condition, cell, numbers)
        if b.xtype == "circle" and b.numbers and (radius := geometry.constant(b.numbers[2])) is not None:
            self.nears.append(Near(condition, a, Shape("point", b.centre), radius))
        return condition

    def _near(self, node: exp.Expr) -> exp.Expr | None:
        """Return DISTANCE(..) < r with the cells that it allows; None if it is another comparison."""
        less = isinstance(node, exp.LT | exp.LTE)
        angle, limit = (node.this, node.expression) if less else (node.expression, node.this)
        if not (isinstance(angle, exp.Anonymous) and str(angle.this).upper() == "DISTANCE"):
            return None
        a, b = self._pair(angle)
        closest = exp.LT if isinstance(node, exp.LT | exp.GT) else exp.LTE
        limit_sql = self.sql(limit)
        condition = closest(this=geometry.distance(a, b), expression=limit_sql)
        if (radius := geometry.constant(limit_sql)) is None:
            return condition
        if radius < 0:
            raise fault(node, f"no distance is less than {radius:g}; give a radius in degrees.")
        for inner, outer in ((a, b), (b, a)):
            if (centre := outer.constants) is not None and (cell := self._cell(inner)) is not None:
                return geometry.pruned(condition, cell, (*centre, radius))
        self.nears.append(Near(condition, a, b, radius))
        return condition

    def _cell(self, shape: Shape) -> exp.Column | None:
        """Return the cell column of the table whose position a point is."""
        lon, lat = shape.centre if shape.numbers else (None, None)
        if not (isinstance(lon, exp.Column) and isinstance(lat, exp.Column)) or lon.table != lat.table:
            return None
        relation = self.scope.relation(lon.table)
        return relation.cell if relation is not None and relation.position == (lon.name, lat.name) else None


def _inner(node: exp.Expr) -> exp.Expr:
    """Return the query inside parentheses."""
    while isinstance(node, exp.Subquery) and not node.args.get("alias"):
        node = node.this
    return node


def _unit_only(value: Value) -> Field | None:
    """Return the part of a column's meaning that MAX or ROUND of it keeps."""
    return value.field and replace(value.field, ucd=None, utype=None, xtype=value.field.xtype)


def _called(node: exp.Expr) -> str:
    """Return what to call a kind of node that is not ADQL."""
    return f"{type(node).__name__.upper()} ({node.sql()[:60]})"
