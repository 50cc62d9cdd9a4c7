"""Spectra of SDSS: the SQL that asks for them, SkyServer through astroquery, and what both SkyServer and CasJobs send.

SDSS's images are no part of this: they are HiPS like any other survey's. See `inzitu.archive.casjobs` for CasJobs and
`inzitu.archive.spectra` for how a list is put together.
"""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import requests
import sqlglot
from sqlglot import exp

from inzitu.archive.delimited import NULLS
from inzitu.archive.patience import Answer, Patience, PatientService, in_a_line
from inzitu.errors import ArchiveFault, ParameterFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inzitu.manifest import SdssSource
    from inzitu.pipelines.download import DownloadParameters

KEY = "specObjID"
MOST_ROWS = 500_000
"""SkyServer's own limit; it sends no more, and does not say so."""
BANDS = "ugriz"
_COLUMNS = ("specObjID", "ra", "dec", "z", "zErr", "zWarning", "class", "subClass", "survey")
_STRUCTURE = (
    *(exp.Select, exp.From, exp.Join, exp.Lateral, exp.TableAlias, exp.Column, exp.Identifier, exp.Dot, exp.Star),
    *(exp.Alias, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Distinct, exp.With, exp.CTE),
    *(exp.Subquery, exp.Union, exp.Intersect, exp.Except, exp.Window, exp.WindowSpec, exp.RowNumber),
)
_EXPRESSIONS = (
    *(exp.Literal, exp.HexString, exp.Null, exp.Boolean, exp.Paren, exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT),
    *(exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Is, exp.Like, exp.Escape, exp.Exists, exp.Case, exp.If),
    *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor),
    *(exp.BitwiseNot, exp.Cast, exp.TryCast, exp.Convert, exp.DataType, exp.DataTypeParam),
)
_FUNCTIONS = (
    *(exp.Count, exp.Avg, exp.Sum, exp.Min, exp.Max, exp.Stddev, exp.Variance, exp.Abs, exp.Sign, exp.Sqrt, exp.Pow),
    *(exp.Exp, exp.Ln, exp.Log, exp.Ceil, exp.Floor, exp.Round, exp.Sin, exp.Cos, exp.Tan, exp.Asin, exp.Acos),
    *(exp.Atan, exp.Atan2, exp.Degrees, exp.Radians, exp.Pi, exp.Rand, exp.Coalesce, exp.Nullif, exp.Upper, exp.Lower),
    *(exp.Trim, exp.Left, exp.Right, exp.Substring, exp.Length, exp.Concat),
)
_READS = frozenset((*_STRUCTURE, *_EXPRESSIONS, *_FUNCTIONS))
"""What a query may be made of, besides tables and `_FUNCTION`; none of it writes, or reaches out."""
_FUNCTION = re.compile(r"f[A-Z]\w*|(?i:str|square|atn2|cot|newid)")
"""SDSS's own functions, and those of T-SQL that the parser has no name for; a function of T-SQL cannot write."""
_DATABASE = re.compile(r"(dbo|[a-z]*dr\d+)?")
_TEXT = {"specObjID": pa.string(), "class": pa.string(), "subClass": pa.string(), "survey": pa.string()}
"""The identifiers are unsigned numbers of 64 bits, beyond what a signed one holds: they stay text."""


def composed(parameters: DownloadParameters) -> str:
    """Return the SQL for the spectra that the filters ask for, without TOP and order.

    Raises
    ------
    ParameterFault
        A band that SDSS has not.
    """
    if parameters.band not in BANDS:
        raise ParameterFault(f"BAND={parameters.band} is no band of SDSS; it has {', '.join(BANDS)}.")
    columns = [*(f"s.{name}" for name in _COLUMNS), *(f"p.modelMag_{band}" for band in BANDS)]
    conditions = [f"s.z >= {parameters.z_min!r}"]
    if parameters.z_max is not None:
        conditions.append(f"s.z <= {parameters.z_max!r}")
    if parameters.clean:
        conditions.append("s.zWarning = 0")
    if parameters.spectral_class is not None:
        conditions.append(f"s.class = '{parameters.spectral_class.upper()}'")
    magnitude = f"p.modelMag_{parameters.band}"
    conditions += [f"{magnitude} >= {parameters.mag_min!r}"] if parameters.mag_min is not None else []
    conditions += [f"{magnitude} <= {parameters.mag_max!r}"] if parameters.mag_max is not None else []
    if (circle := parameters.area) is not None:
        ra, dec, radius = circle
        conditions.append(f"s.dec BETWEEN {dec - radius!r} AND {dec + radius!r}")
        conditions.append(f"dbo.fDistanceArcMinEq({ra!r}, {dec!r}, s.ra, s.dec) <= {60 * radius!r}")
    return (
        f"SELECT {', '.join(columns)} FROM SpecObj AS s JOIN PhotoObj AS p ON p.objID = s.bestObjID "
        f"WHERE {' AND '.join(conditions)}"
    )


def next_rows(sql: str, after: str | None, most: int) -> str:
    """Return the query for the rows of another that follow an identifier, in order."""
    rest = sql if after is None else f"{sql} AND s.{KEY} > {int(after)}"
    return rest.replace("SELECT ", f"SELECT TOP {most} ", 1) + f" ORDER BY s.{KEY}"


def restricted(query: str, most: int) -> str:
    """Return a user's query with a limit to its rows, if it only reads.

    Raises
    ------
    ParameterFault
        It is not one SELECT, or holds anything but what is known to read the survey alone.
    """
    try:
        trees = sqlglot.parse(query, read="tsql")
        tree = trees[0] if len(trees) == 1 else None
        if not isinstance(tree, exp.Query):
            raise ParameterFault("QUERY must be one SELECT that writes nothing.")
        for node in tree.walk():
            _check(node)
        return str(tree.limit(min(_top(tree, most), most), copy=True).sql(dialect="tsql", comments=False))
    except sqlglot.errors.SqlglotError as error:
        raise ParameterFault(f"QUERY cannot be read as SQL: {str(error).partition(chr(10))[0]}") from error
    except RecursionError as error:
        raise ParameterFault("QUERY is nested too deeply; write it with fewer brackets and subqueries.") from error


def _check(node: exp.Expr) -> None:
    """Refuse a part of a query that may do more than read the survey."""
    if isinstance(node, exp.Anonymous):
        allowed = _FUNCTION.fullmatch(node.name) is not None
    elif isinstance(node, exp.Table):
        allowed = isinstance(node.this, exp.Identifier | exp.Anonymous)
    else:
        allowed = type(node) in _READS
    if not allowed:
        said = in_a_line(node.sql(dialect="tsql"), 60)
        raise ParameterFault(
            f"QUERY must be one SELECT that writes nothing, of tables, joins, numbers and SDSS's functions; {said!r} "
            "is not allowed. To limit its rows write TOP n."
        )
    if isinstance(node, exp.Table):
        places = [node.catalog, node.db]
    elif isinstance(node, exp.Dot):  # what stands before a function
        places = [part.name for part in (node.this, node.expression) if isinstance(part, exp.Identifier)]
    else:
        return
    for place in places:
        if not _DATABASE.fullmatch(place.lower()):
            raise ParameterFault(f"QUERY reads {place.lower()}; only the tables of the survey can be read.")


def _top(tree: exp.Query, most: int) -> int:
    """Return how many rows a query asks for."""
    limit = tree.args.get("limit")
    if limit is None:
        return most
    said = limit.expression.sql(dialect="tsql")[:60]
    if not re.fullmatch(r"\d{1,9}", said):
        raise ParameterFault(f"QUERY has TOP {said}, which is no number of rows below 10^9; write TOP n.")
    return int(said)


def table_of(text: str, server: str) -> pa.Table:
    """Return the rows of an answer in CSV: ``#Table1``, a header, rows.

    Raises
    ------
    ArchiveFault
        It is something else, or ends in the middle of a row.
    """
    if text.lstrip().startswith(("{", "[")) or "error_message" in text[:400].lower():
        raise ArchiveFault(f"{server} refuses the query: {in_a_line(text)}")
    lines = text.removeprefix("#Table1").lstrip("\r\n")
    if not lines:
        return pa.table({})
    if not lines.endswith("\n"):
        raise ArchiveFault(f"The answer of {server} ends in the middle of a row: {lines[-60:]!r}.")
    convert = pyarrow.csv.ConvertOptions(column_types=_TEXT, null_values=NULLS, strings_can_be_null=True)
    try:
        return pyarrow.csv.read_csv(io.BytesIO(lines.encode()), convert_options=convert)
    except pa.ArrowInvalid as error:
        raise ArchiveFault(f"The answer of {server} is no table: {str(error).partition(chr(10))[0]}.") from error


class SkyServer(PatientService):
    """The SQL service of SDSS, for the length of a block.

    Parameters
    ----------
    source
        The manifest's entry.
    patience
        How long it is waited for.
    """

    key = KEY

    def __init__(self, source: SdssSource, patience: Patience) -> None:
        super().__init__(patience)
        self._source = source

    def rows(self, sql: str, after: str | None, most: int) -> tuple[pa.Table, Answer]:
        """Return the rows of a composed query that follow an identifier, in order.

        Raises
        ------
        ArchiveFault
            The server fails, or refuses the query.
        """
        return self.ask(next_rows(sql, after, most))

    def ask(self, sql: str, _most: int | None = None) -> tuple[pa.Table, Answer]:
        """Return the rows of a query, as they come.

        Raises
        ------
        ArchiveFault
            The server fails, or refuses the query.
        """
        with self._client() as client:
            try:
                response = client.query_sql_async(sql, data_release=self._source.release, cache=False)
            except requests.RequestException as error:
                raise ArchiveFault(f"SkyServer does not answer: {error}.") from error
        if not response.ok:
            raise ArchiveFault(f"SkyServer answers {response.status_code} to the query: {in_a_line(response.text)}")
        return table_of(response.text, "SkyServer"), self._answer

    @contextmanager
    def _client(self) -> Iterator[Any]:
        # astroquery takes a second to import, and keeps the address of the server in its configuration.
        from astroquery.sdss import SDSSClass, conf

        client = SDSSClass()
        client._session = self._session
        with conf.set_temp("skyserver_baseurl", self._source.server or conf.skyserver_baseurl):
            yield client
