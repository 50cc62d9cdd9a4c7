"""The functions of ADQL that are not geometry, and what each is in DuckDB.

A name that is not here cannot be called, whatever DuckDB may know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from inzitu.tables.mixtures import FUNCTIONS as PDF_FUNCTIONS

type Build = Callable[[list[exp.Expr]], exp.Expr]


@dataclass(frozen=True, slots=True)
class Function:
    """A function: how many arguments it takes and what it becomes."""

    least: int
    most: int
    build: Build
    keeps_unit: bool = False
    aggregates: bool = False


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A function beyond the language, as TAPRegExt advertises it."""

    name: str
    form: str
    description: str
    arguments: int


def call(name: str, *arguments: exp.Expr) -> exp.Expr:
    """Return a call of a DuckDB function."""
    return exp.Anonymous(this=name, expressions=list(arguments))


def _same(name: str, least: int = 1, most: int | None = None, **traits: bool) -> Function:
    return Function(least, most or least, lambda arguments: call(name, *arguments), **traits)


def _truncate(arguments: list[exp.Expr]) -> exp.Expr:
    """Cut towards zero after n decimals; n may be negative."""
    if len(arguments) == 1:
        return call("trunc", arguments[0])
    power = call("pow", exp.Literal.number("10.0"), arguments[1])
    shifted = exp.Mul(this=exp.paren(arguments[0]), expression=power)
    return exp.paren(exp.Div(this=call("trunc", shifted), expression=power.copy()))


FUNCTIONS: dict[str, Function] = {
    "ABS": _same("abs", keeps_unit=True),
    "CEILING": _same("ceil", keeps_unit=True),
    "DEGREES": _same("degrees"),
    "EXP": _same("exp"),
    "FLOOR": _same("floor", keeps_unit=True),
    "LOG": _same("ln"),
    "LOG10": _same("log10"),
    "MOD": _same("mod", 2),
    "PI": Function(0, 0, lambda _: call("pi")),
    "POWER": _same("pow", 2),
    "RADIANS": _same("radians"),
    "RAND": Function(0, 1, lambda _: call("random")),
    "ROUND": _same("round", 1, 2, keeps_unit=True),
    "SQRT": _same("sqrt"),
    "TRUNCATE": Function(1, 2, _truncate, keeps_unit=True),
    "ACOS": _same("acos"),
    "ASIN": _same("asin"),
    "ATAN": _same("atan"),
    "ATAN2": _same("atan2", 2),
    "COS": _same("cos"),
    "COT": _same("cot"),
    "SIN": _same("sin"),
    "TAN": _same("tan"),
    "LOWER": _same("lower"),
    "UPPER": _same("upper"),
    "COALESCE": Function(1, 1000, lambda arguments: call("coalesce", *arguments), keeps_unit=True),
    "COUNT": _same("count", aggregates=True),
    "AVG": _same("avg", keeps_unit=True, aggregates=True),
    "MAX": _same("max", keeps_unit=True, aggregates=True),
    "MIN": _same("min", keeps_unit=True, aggregates=True),
    "SUM": _same("sum", keeps_unit=True, aggregates=True),
}


def _pdf_function(name: str, arguments: tuple[str, ...], description: str) -> UserFunction:
    mixture = ("weights ARRAY", "means ARRAY", "sigmas ARRAY")
    signature = ", ".join((*mixture, *(f"{argument} DOUBLE" for argument in arguments)))
    return UserFunction(name, f"{name}({signature}) -> DOUBLE", description, 3 + len(arguments))


USER_FUNCTIONS: dict[str, UserFunction] = {
    **{
        name: _pdf_function(name, arguments, description) for name, (_, arguments, description) in PDF_FUNCTIONS.items()
    },
    "ivo_healpix_index": UserFunction(
        "ivo_healpix_index",
        "ivo_healpix_index(hpxOrder INTEGER, lon DOUBLE, lat DOUBLE) -> BIGINT",
        "Index of the nested HEALPix cell of order hpxOrder (0 to 29) at lon, lat [deg].",
        3,
    ),
}
"""Functions beyond ADQL, by their names in lower case; `engine` runs them in Python, a column at a time."""
