"""Joins by position: `DISTANCE(...) < r` and `1 = CONTAINS(POINT, CIRCLE)` between two tables, as joins on HEALPix.

Compared pair by pair, two tables of a million rows are 10^12 angles. Positions that lie within r of each other lie in
the same cell or in touching ones of an order whose cells are no narrower than r. So one table is read with each row
repeated for its cell and the eight about it, and joined with the cell of the other's rows; the angle is compared for
those pairs only. A row of the other table has one cell, so no pair comes twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from inzitu.tables.adql.functions import call
from inzitu.tables.adql.geometry import Shape
from inzitu.tables.adql.scopes import Relation, Scope, column_of, quoted
from inzitu.tables.adql.shapes import Near
from inzitu.tables.adql.sources import Join
from inzitu.tables.cells import ORDER, join_order

CELL = "@cell"
"""The column with the cells of a repeated row; no ADQL identifier begins so."""


def join_by_cells(select: exp.Select, scope: Scope, nears: list[Near], joins: list[Join]) -> set[str]:
    """Turn conditions on the distance of two tables into joins on cells, one for each table; return what that calls.

    A condition counts where every row of the result has to fulfil it: among the ANDs of WHERE or of an inner join's
    ON. In the ON of a LEFT JOIN only the right table may be repeated, for a repeated row of the left one would come
    without a partner as often.
    """
    repeated: set[str] = set()
    inner = all(join.side is None for join in joins)
    where = select.args.get("where")
    for near in nears:
        held = next((join for join in joins if _requires(join.condition, near.condition)), None)
        found = None
        if inner and (held is not None or (where is not None and _requires(where.this, near.condition))):
            found = _cell_join(near, scope, None)
        elif held is not None and held.side == "LEFT":
            found = _cell_join(near, scope, held.relation)
        if found is not None and found.repeated.alias not in repeated:
            repeated.add(found.repeated.alias)
            near.condition.replace(exp.paren(exp.And(this=found.equality, expression=near.condition.copy())))
            _repeat(found)
    return {"sky_cells", "sky_cell"} if repeated else set()


def _requires(condition: exp.Expr | None, part: exp.Expr) -> bool:
    """Whether a condition can hold only if one of its parts does: the part stands in its chain of ANDs."""
    left = [condition]
    while left:
        match left.pop():
            case exp.And() as both:
                left += [both.this, both.expression]
            case exp.Paren() as paren:
                left.append(paren.this)
            case term if term is part:
                return True
            case _:
                pass
    return False


@dataclass(frozen=True, slots=True)
class _CellJoin:
    """How a condition becomes a join: the relation whose rows are repeated, and the equality to add."""

    repeated: Relation
    longitude: str
    latitude: str
    order: int
    equality: exp.Expr


def _cell_join(near: Near, scope: Scope, only: Relation | None) -> _CellJoin | None:
    """Return how two relations are joined for a condition; None if it is not between two relations.

    Parameters
    ----------
    near
        The condition.
    scope
        The relations of the SELECT.
    only
        The one relation whose rows may be repeated, if not either.
    """
    ends = [(shape, relation) for shape in (near.first, near.second) if (relation := _owner(shape, scope))]
    if len(ends) != 2 or ends[0][1] is ends[1][1] or near.radius > 30:
        return None
    (fixed_shape, fixed), (shape, repeated) = _ordered(ends, only)
    if only is not None and repeated is not only:
        return None
    order = join_order(near.radius)
    equality = exp.EQ(this=_cell(fixed_shape, fixed, order), expression=column_of(repeated.alias, CELL))
    return _CellJoin(repeated, shape.centre[0].name, shape.centre[1].name, order, equality)


def _repeat(join: _CellJoin) -> None:
    """Make a relation read each row once for its cell and for each of the eight about it."""
    relation = join.repeated
    inner = "@rows"
    source = relation.source.copy()
    source.args["alias"].set("this", quoted(inner))
    position = (column_of(inner, join.longitude), column_of(inner, join.latitude))
    cells = call("sky_cells", *position, exp.Literal.number(join.order))
    rows = exp.select(
        exp.Column(this=exp.Star(), table=quoted(inner)), exp.alias_(call("unnest", cells), CELL, quoted=True)
    )
    relation.source.replace(exp.Subquery(this=rows.from_(source), alias=exp.TableAlias(this=quoted(relation.alias))))


def _owner(shape: Shape, scope: Scope) -> Relation | None:
    """Return the relation whose columns a point's two numbers are."""
    lon, lat = shape.centre
    if isinstance(lon, exp.Column) and isinstance(lat, exp.Column) and lon.table == lat.table:
        return scope.relation(lon.table)
    return None


def _ordered(
    ends: list[tuple[Shape, Relation]], only: Relation | None
) -> tuple[tuple[Shape, Relation], tuple[Shape, Relation]]:
    """Return the end that stays and the end that is repeated: the smaller one, unless only one may be."""
    first, second = ends
    if only is not None:
        return (first, second) if second[1] is only else (second, first)
    sizes = [relation.count if relation.count is not None else float("inf") for _, relation in ends]
    return (first, second) if sizes[1] <= sizes[0] else (second, first)


def _cell(shape: Shape, relation: Relation, order: int) -> exp.Expr:
    """Return the cell of a relation's point: from its stored cell if it has one."""
    lon, lat = shape.centre
    if relation.cell is not None and relation.position == (lon.name, lat.name):
        shift = exp.Literal.number(2 * (ORDER - order))
        return exp.paren(exp.BitwiseRightShift(this=relation.cell, expression=shift))
    return call("sky_cell", exp.Literal.number(order), lon.copy(), lat.copy())
