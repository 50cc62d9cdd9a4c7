"""ADQL's geometries, worked out while a query is translated.

A geometry is known by its numbers, so a cone is a comparison of an angle with a radius; where the region is a
constant and the rows are sorted by HEALPix cell, the cells that it touches stand before it and most row groups are
never read. Only polygons that differ from row to row are handed to Python. See `inzitu.tables.regions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from inzitu.tables.adql.faults import fault
from inzitu.tables.adql.functions import call
from inzitu.tables.cells import ranges
from inzitu.tables.regions import region
from inzitu.vo.fields import Field

CONSTRUCTORS = ("POINT", "CIRCLE", "BOX", "POLYGON", "CENTROID")
PREDICATES = ("CONTAINS", "INTERSECTS")
MEASURES = ("AREA", "COORD1", "COORD2", "DISTANCE")

FRAMES = ("", "ICRS", "ICRS GEOCENTER", "ICRS BARYCENTER", "UNKNOWNFRAME")
"""Coordinate systems that the first argument of a geometry may name; all tables are ICRS."""

type Expressions = tuple[exp.Expr, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A point, circle or polygon: `numbers` in degrees, or a column that holds them."""

    xtype: str
    numbers: Expressions | None
    stored: exp.Expr | None = None

    @property
    def as_list(self) -> exp.Expr:
        """The shape as DALI writes it, an array of doubles."""
        if self.stored is not None:
            return exp.cast(self.stored, "DOUBLE[]", dialect="duckdb")
        return exp.cast(exp.Array(expressions=[n.copy() for n in self.numbers or ()]), "DOUBLE[]", dialect="duckdb")

    @property
    def constants(self) -> tuple[float, ...] | None:
        """The numbers, where the query gives them all."""
        values = tuple(constant(number) for number in self.numbers or (exp.Null(),))
        return None if None in values else tuple(v for v in values if v is not None)

    @property
    def centre(self) -> Expressions:
        """Longitude and latitude of a point, or of a circle's centre."""
        assert self.numbers is not None
        return self.numbers[:2]

    @property
    def field(self) -> Field:
        """How it is served."""
        sizes = {"point": "2", "circle": "3"}
        return Field("", "double", sizes.get(self.xtype, "*"), unit="deg", xtype=self.xtype)


def shape_of(column: exp.Expr, xtype: str) -> Shape:
    """Return the shape that a column with one of DALI's xtypes holds."""
    count = {"point": 2, "circle": 3}.get(xtype)
    numbers = tuple(call("list_extract", column.copy(), exp.Literal.number(i + 1)) for i in range(count or 0))
    return Shape(xtype, numbers or None, column)


def constant(node: exp.Expr) -> float | None:
    """Return the value of an expression of numbers; None if it is anything else."""
    match node:
        case exp.Literal() if not node.is_string:
            return float(node.this)
        case exp.Neg():
            value = constant(node.this)
            return None if value is None else -value
        case exp.Paren():
            return constant(node.this)
        case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
            a, b = constant(node.this), constant(node.expression)
            if a is None or b is None or (isinstance(node, exp.Div) and b == 0):
                return None
            return {exp.Add: a + b, exp.Sub: a - b, exp.Mul: a * b, exp.Div: a / b if b else 0.0}[type(node)]
        case _:
            return None


def point(lon: exp.Expr, lat: exp.Expr) -> Shape:
    """Return a point."""
    return Shape("point", (lon, lat))


def circle(centre: Shape, radius: exp.Expr) -> Shape:
    """Return a circle about a point."""
    return Shape("circle", (*centre.centre, radius))


def polygon(corners: Sequence[Shape]) -> Shape:
    """Return the polygon with these corners."""
    return Shape("polygon", tuple(number for corner in corners for number in corner.centre))


def box(centre: Shape, width: exp.Expr, height: exp.Expr) -> Shape:
    """Return the polygon whose corners differ from the centre by half the width and half the height (section 4.2.7)."""

    def beside(middle: exp.Expr, extent: exp.Expr, sign: float) -> exp.Expr:
        half = exp.Mul(this=exp.paren(extent.copy()), expression=_number(0.5 * sign))
        return exp.paren(exp.Add(this=exp.paren(middle.copy()), expression=half))

    lon, lat = centre.centre
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return polygon([point(beside(lon, width, i), beside(lat, height, j)) for i, j in signs])


def distance(a: Shape, b: Shape) -> exp.Expr:
    """Return the angle between two points [deg]."""
    return call("sky_distance", *(n.copy() for n in (*a.centre, *b.centre)))


def contains(inner: Shape, outer: Shape) -> exp.Expr:
    """Return whether the first shape lies in the second."""
    if inner.xtype == "point" and outer.xtype == "circle" and outer.numbers:
        return exp.LTE(this=distance(inner, outer), expression=outer.numbers[2].copy())
    if outer.xtype == "point":
        return exp.EQ(this=distance(inner, outer), expression=_number(0)) if inner.xtype == "point" else exp.false()
    return call("sky_contains", outer.as_list, inner.as_list)


def intersects(a: Shape, b: Shape) -> exp.Expr:
    """Return whether two shapes have a point in common."""
    if a.xtype == "point":
        return contains(a, b)
    if b.xtype == "point":
        return contains(b, a)
    if a.xtype == b.xtype == "circle" and a.numbers and b.numbers:
        radii = exp.Add(this=exp.paren(a.numbers[2].copy()), expression=exp.paren(b.numbers[2].copy()))
        return exp.LTE(this=distance(a, b), expression=exp.paren(radii))
    return call("sky_intersects", a.as_list, b.as_list)


def pruned(condition: exp.Expr, cell: exp.Column, numbers: Sequence[float]) -> exp.Expr:
    """Return a condition on points with the cells before it that a constant region touches."""
    within = [
        exp.Between(this=cell.copy(), low=exp.Literal.number(low), high=exp.Literal.number(high))
        for low, high in ranges(region(numbers))
    ]
    if not within:
        return condition
    return exp.paren(exp.And(this=exp.paren(exp.or_(*within, copy=False)), expression=condition))


def check(node: exp.Expr, shape: Shape) -> None:
    """Refuse a constant shape that cannot be, before any row is read.

    Raises
    ------
    QueryFault
        A latitude, a radius or a polygon is impossible.
    """
    if (numbers := shape.constants) is not None:
        try:
            region(numbers)
        except ValueError as error:
            raise fault(node, f"{error}.") from error


def _number(value: float) -> exp.Expr:
    return exp.Literal.number(value) if value >= 0 else exp.Neg(this=exp.Literal.number(-value))
