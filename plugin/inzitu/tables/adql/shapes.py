"""The geometries that a query writes: POINT, CIRCLE and their kind read, CONTAINS and DISTANCE made conditions.

What the geometries are is `geometry`; here is how ADQL spells them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlglot import exp

from inzitu.tables.adql import geometry
from inzitu.tables.adql.faults import fault
from inzitu.tables.adql.functions import call
from inzitu.tables.adql.geometry import Shape
from inzitu.tables.adql.scopes import Scope, Value
from inzitu.vo.fields import Field

_XTYPES = ("point", "circle", "polygon")


@dataclass(frozen=True, slots=True)
class Near:
    """A condition that two points lie within a constant angle of each other [deg]."""

    condition: exp.Expr
    first: Shape
    second: Shape
    radius: float


@dataclass(slots=True)
class Shapes:
    """Reads the geometries of one SELECT.

    Attributes
    ----------
    scope
        What names mean there.
    number
        Translates an expression that is no geometry.
    called
        The functions of ours that were used.
    nears
        The conditions found that a join can use.
    """

    scope: Scope
    number: Callable[[exp.Expr], exp.Expr]
    called: set[str]
    nears: list[Near] = field(default_factory=list)

    def constructed(self, node: exp.Expr) -> Shape | None:
        """Return the shape that an expression constructs; None if it is no geometry.

        Raises
        ------
        QueryFault
            It cannot be: wrong arguments, another frame, a latitude beyond the pole.
        """
        if isinstance(node, exp.Paren):
            return self.constructed(node.this)
        if _name(node) not in geometry.CONSTRUCTORS:
            return None
        shape = self._construct(node, _name(node), self._without_frame(node))
        geometry.check(node, shape)
        return shape

    def _construct(self, node: exp.Expr, name: str, arguments: list[exp.Expr]) -> Shape:
        match name, len(arguments):
            case "POINT", 2:
                return geometry.point(*map(self.number, arguments))
            case "CIRCLE", 2 | 3:
                return geometry.circle(self._point(arguments[:-1]), self.number(arguments[-1]))
            case "BOX", 3 | 4:
                return geometry.box(self._point(arguments[:-2]), *map(self.number, arguments[-2:]))
            case "POLYGON", count if count >= 3 and self._is_shape(arguments[0]):
                return geometry.polygon([self._point([argument]) for argument in arguments])
            case "POLYGON", count if count >= 6 and count % 2 == 0:
                return Shape("polygon", tuple(map(self.number, arguments)))
            case "CENTROID", 1:
                return self._centroid(arguments[0])
            case _:
                raise fault(node, f"{name} cannot be made from {len(arguments)} arguments.")

    def shape(self, node: exp.Expr) -> Shape:
        """Return the geometry that an argument is: constructed, or a column that holds one."""
        if (shape := self.constructed(node)) is not None:
            return shape
        if isinstance(node, exp.Column):
            value = self.scope.resolve(node)
            if value.field is not None and value.field.xtype in _XTYPES:
                return geometry.shape_of(value.sql, value.field.xtype)
        raise fault(node, "a geometry is wanted here: POINT(ra, dec), CIRCLE(...), POLYGON(...) or such a column.")

    def measure(self, node: exp.Expr) -> Value:
        """Return what AREA, COORD1, COORD2 or DISTANCE gives."""
        name = _name(node)
        if name == "DISTANCE":
            return Value(geometry.distance(*self._pair(node)), Field("", "double", unit="deg"))
        shape = self.shape(_only(node, f"{name}(geometry)", 1)[0])
        if name == "AREA":
            self.called.add("sky_area")
            return Value(call("sky_area", shape.as_list), Field("", "double", unit="deg**2"))
        if shape.xtype != "point":
            raise fault(node, f"{name} takes a POINT, not a {shape.xtype}; CENTROID gives one.")
        coordinate = exp.cast(shape.centre[name == "COORD2"].copy(), "DOUBLE", dialect="duckdb")
        return Value(coordinate, Field("", "double", unit="deg"))

    def predicate(self, node: exp.Expr) -> exp.Expr | None:
        """Return the condition that CONTAINS(..) = 1 and its likes are; None if it is another comparison."""
        for side, other in ((node.this, node.expression), (node.expression, node.this)):
            if _name(side) in geometry.PREDICATES and isinstance(other, exp.Literal) and other.name in ("0", "1"):
                holds = self.holds(side)
                wanted = (other.name == "1") == isinstance(node, exp.EQ)
                return holds if wanted else exp.Not(this=exp.paren(holds))
        return None

    def holds(self, node: exp.Expr) -> exp.Expr:
        """Return the condition that a CONTAINS or an INTERSECTS stands for."""
        a, b = (self.shape(argument) for argument in _only(node, f"{_name(node)}(geometry, geometry)", 2))
        is_contains = _name(node) == "CONTAINS"
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

    def near(self, node: exp.Expr) -> exp.Expr | None:
        """Return DISTANCE(..) < r with the cells that it allows; None if it is another comparison."""
        less = isinstance(node, exp.LT | exp.LTE)
        angle, limit = (node.this, node.expression) if less else (node.expression, node.this)
        if _name(angle) != "DISTANCE":
            return None
        a, b = self._pair(angle)
        closer = exp.LT if isinstance(node, exp.LT | exp.GT) else exp.LTE
        limit_sql = self.number(limit)
        condition = closer(this=geometry.distance(a, b), expression=limit_sql)
        if (radius := geometry.constant(limit_sql)) is None:
            return condition
        if radius < 0:
            raise fault(node, f"no distance is less than {radius:g}; give a radius in degrees.")
        for inner, outer in ((a, b), (b, a)):
            if (centre := outer.constants) is not None and (cell := self._cell(inner)) is not None:
                return geometry.pruned(condition, cell, (*centre, radius))
        self.nears.append(Near(condition, a, b, radius))
        return condition

    def _without_frame(self, node: exp.Expr) -> list[exp.Expr]:
        """Return the arguments of a geometry without its coordinate system, which must be ICRS."""
        arguments = list(node.expressions)
        if arguments and isinstance(arguments[0], exp.Literal) and arguments[0].is_string:
            if arguments[0].name.upper() not in geometry.FRAMES:
                raise fault(node, f"coordinates in {arguments[0].name!r} are not offered; all are ICRS. Convert them.")
            return arguments[1:]
        return arguments

    def _is_shape(self, node: exp.Expr) -> bool:
        if isinstance(node, exp.Column):
            resolved = self.scope.resolve(node).field
            return resolved is not None and resolved.xtype in _XTYPES
        return self.constructed(node) is not None

    def _point(self, arguments: list[exp.Expr]) -> Shape:
        """Return the point that one geometry or two numbers give."""
        if len(arguments) == 2:
            return geometry.point(*map(self.number, arguments))
        shape = self.shape(arguments[0])
        if shape.xtype != "point":
            raise fault(arguments[0], f"a {shape.xtype} where a POINT is wanted.")
        return shape

    def _pair(self, node: exp.Expr) -> tuple[Shape, Shape]:
        """Return the two points of a DISTANCE, given as points or as four numbers."""
        arguments = self._without_frame(node)
        if len(arguments) not in (2, 4):
            raise fault(node, f"DISTANCE takes two points or four numbers, not {len(arguments)} arguments.")
        half = len(arguments) // 2
        pair = self._point(arguments[:half]), self._point(arguments[half:])
        for shape in pair:
            geometry.check(node, shape)
        return pair

    def _centroid(self, node: exp.Expr) -> Shape:
        shape = self.shape(node)
        if shape.xtype != "polygon":
            return Shape("point", shape.centre)
        self.called.add("sky_centroid")
        return geometry.shape_of(call("sky_centroid", shape.as_list), "point")

    def _cell(self, shape: Shape) -> exp.Column | None:
        """Return the cell column of the table whose position a point is."""
        lon, lat = shape.centre if shape.numbers else (None, None)
        if not (isinstance(lon, exp.Column) and isinstance(lat, exp.Column)) or lon.table != lat.table:
            return None
        relation = self.scope.relation(lon.table)
        return relation.cell if relation is not None and relation.position == (lon.name, lat.name) else None


def _name(node: exp.Expr) -> str:
    """Return the name of the function that a node calls, in capitals; empty if it calls none."""
    return str(node.this).upper() if isinstance(node, exp.Anonymous) else ""


def _only(node: exp.Expr, form: str, count: int) -> list[exp.Expr]:
    if len(node.expressions) != count:
        raise fault(node, f"{form} takes {count} arguments, not {len(node.expressions)}.")
    return list(node.expressions)
