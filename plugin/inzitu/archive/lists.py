"""A user's lists of sources: positions, redshifts where known, and the name each source goes by.

Covers what makes a whole list unusable, which is an error before the job queues. What is wrong with one row is a status
of that row, given by the selection (`inzitu.archive.selection`). Reading the formats is `inzitu.archive.catalogues`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inzitu.archive.catalogues import guess_positions, look_like_hours, position_columns, positions, read_table
from inzitu.archive.fits_records import fits_layout
from inzitu.archive.formats import as_table_fault, format_of
from inzitu.archive.packed import unpacked
from inzitu.errors import LimitFault, TableFault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.pipelines.parameters import SelectParameters

_REDSHIFTS = ("z", "redshift", "z_spec", "zspec", "specz", "spec_z")
_IDENTIFIERS = ("source_id", "id", "objid", "name", "specobjid", "targetid", "main_id", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceList:
    """The rows of a user's list, in order.

    Attributes
    ----------
    name
        Role of the list in its job: training, targets.
    source_id
        The user's identifier, or the list's name and the row's number.
    ra, dec
        ICRS position [deg]; NaN where the row has none that can be used.
    z
        Redshift; NaN where unknown.
    quality, survey
        How good the redshift is, the larger the better, and where it is from; None where no column was named.
    hours
        The right ascensions look like hours, though they are taken for degrees.
    """

    name: str
    source_id: list[str]
    ra: np.ndarray
    dec: np.ndarray
    z: np.ndarray
    quality: np.ndarray | None = None
    survey: np.ndarray | None = None
    hours: bool = False

    def __len__(self) -> int:
        return len(self.source_id)

    @property
    def labelled(self) -> bool:
        """Whether its rows are of use only with a redshift."""
        return self.name == "training"


def read_lists(paths: Mapping[str, Path], parameters: SelectParameters, *, most: int) -> list[SourceList]:
    """Read the lists of a job, by their roles, from VOTable, CSV, FITS or Parquet files.

    Parameters
    ----------
    paths
        The uploaded files.
    parameters
        Names the columns with the redshifts' quality and survey.
    most
        Most rows allowed in all of them.

    Raises
    ------
    TableFault
        A file is no table, has no rows, or lacks positions or a column that is needed.
    LimitFault
        More rows than allowed.
    """
    lists = [_read(path, name, parameters, most=most) for name, path in paths.items()]
    if (rows := sum(map(len, lists))) > most:
        raise LimitFault(_too_long(f"The {' and '.join(paths)} lists have", rows, most))
    return lists


def _read(path: Path, name: str, parameters: SelectParameters, *, most: int) -> SourceList:
    try:
        with unpacked(path) as plain:
            form = format_of(plain)
            # Where the head of the file tells how long it is, a list that is too long is not decoded.
            _check_length(name, _stated_rows(plain, form), most)
            table = _columns(plain, form, parameters)
        _check_length(name, table.num_rows, most)
        ra, dec = positions(table, unit=_unit_asked(table, name, parameters))
    except TableFault as error:
        raise TableFault(f"The {name} list: {error}") from error
    redshift = _named(table, _REDSHIFTS)
    if redshift is None and name == "training":
        raise TableFault(
            f"The {name} list has no redshift column: its columns are {', '.join(table.column_names)}. "
            f"Name the redshift {' or '.join(_REDSHIFTS[:3])}."
        )
    rules = (parameters.quality, parameters.survey) if name == "training" else (None, None)
    quality, survey = (None if column is None else _asked(table, column, name) for column in rules)
    return SourceList(
        name=name,
        source_id=_identifiers(table, name),
        ra=ra,
        dec=dec,
        z=np.full(len(ra), np.nan) if redshift is None else numbers(table, redshift, name),
        quality=None if quality is None else numbers(table, quality, name),
        survey=None if survey is None else np.asarray(table[survey].cast(pa.string()).fill_null(""), dtype=str),
        hours=parameters.unit_of(name) != "deg" and look_like_hours(ra, dec),
    )


def _unit_asked(table: pa.Table, name: str, parameters: SelectParameters) -> str | None:
    """Return the unit that the job gives right ascensions; None where the list states its own."""
    stated = (table.schema.field(guess_positions(table)[0]).metadata or {}).get(b"unit")
    return None if stated else parameters.unit_of(name)


def _stated_rows(path: Path, form: str) -> int | None:
    """Return how many rows the file says it has, if its format does."""
    with as_table_fault(path, form):
        match form:
            case "parquet":
                return int(pq.read_metadata(path).num_rows)
            case "fits":
                layout = fits_layout(path)
                return None if layout is None else layout.rows
            case _:
                return None


def _columns(path: Path, form: str, parameters: SelectParameters) -> pa.Table:
    """Return the table; of a Parquet file, which may be wide, the columns that are looked at."""
    if form != "parquet":
        return read_table(path, format=form)
    with as_table_fault(path, form):
        there = pq.read_schema(path).empty_table()
        rules = (parameters.quality or "", parameters.survey or "")
        looked_at = (_named(there, names) for names in (_REDSHIFTS, _IDENTIFIERS, *((rule.lower(),) for rule in rules)))
        wanted = dict.fromkeys((*position_columns(there), *(name for name in looked_at if name is not None)))
        return pq.read_table(path, columns=list(wanted), partitioning=None)


def _check_length(name: str, rows: int | None, most: int) -> None:
    if rows == 0:
        raise TableFault("It has no rows; send at least one source.")
    if rows is not None and rows > most:
        raise LimitFault(_too_long(f"The {name} list has", rows, most))


def _too_long(who: str, rows: int, most: int) -> str:
    return f"{who} {rows:,} rows; this service takes {most:,} a job. Split the list."


def _named(table: pa.Table, names: tuple[str, ...]) -> str | None:
    """Return the column of the first name that the table has, in any case."""
    there = {column.lower(): column for column in reversed(table.column_names)}
    return next((there[name] for name in names if name in there), None)


def _asked(table: pa.Table, column: str, name: str) -> str:
    """Return the column that a parameter names."""
    found = _named(table, (column.lower(),))
    if found is None:
        raise TableFault(f"The {name} list has no column {column!r}; its columns are {', '.join(table.column_names)}.")
    return found


def numbers(table: pa.Table, column: str, name: str) -> np.ndarray:
    """Return a column as numbers, NaN where a row has none; a column without any is an error."""
    values = table[column]
    try:
        return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    except pa.ArrowNotImplementedError as error:
        raise TableFault(f"The column {column} of the {name} list holds {values.type} and no numbers.") from error
    except pa.ArrowInvalid as error:
        # Text among the numbers is the fault of its rows.
        found = np.array([_number(text) for text in values.cast(pa.string()).to_pylist()])
        if np.isnan(found).all() and pc.count(values).as_py():
            raise TableFault(
                f"The column {column} of the {name} list holds something that is no number: {error}."
            ) from error
        return found


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _identifiers(table: pa.Table, name: str) -> list[str]:
    column = _named(table, _IDENTIFIERS)
    if column is None:
        return [f"{name}:{row}" for row in range(table.num_rows)]
    return [f"{name}:{row}" if value is None else str(value) for row, value in enumerate(table[column].to_pylist())]
