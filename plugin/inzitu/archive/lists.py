"""A user's list of sources: positions, redshifts where known, and the name each source goes by.

Covers what makes a whole list unusable, which is an error before the job queues. What is wrong with one row is a status
of that row, given by the selection (`inzitu.run.select`). Reading the formats is `inzitu.archive.catalogues`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inzitu.archive.catalogues import guess_positions, positions, read_table
from inzitu.errors import LimitFault, TableFault

if TYPE_CHECKING:
    from pathlib import Path

_REDSHIFTS = ("z", "redshift", "z_spec", "zspec", "specz", "spec_z")
_IDENTIFIERS = ("source_id", "id", "objid", "name", "specobjid", "targetid", "main_id", "source")


@dataclass(frozen=True, slots=True)
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
    """

    name: str
    source_id: list[str]
    ra: np.ndarray
    dec: np.ndarray
    z: np.ndarray

    def __len__(self) -> int:
        return len(self.source_id)


def read_list(path: Path, *, name: str, labelled: bool, most: int) -> SourceList:
    """Read a list of sources from a VOTable, CSV, FITS or Parquet file.

    Parameters
    ----------
    path
        The uploaded file.
    name
        Role of the list in its job, used in messages.
    labelled
        Whether the list must have a redshift column.
    most
        Most rows allowed.

    Raises
    ------
    TableFault
        The file is no table, has no rows, or lacks positions or the redshifts asked for.
    LimitFault
        More rows than allowed.
    """
    try:
        table = read_table(path)
        ra_name, dec_name = guess_positions(table)
    except TableFault as error:
        raise TableFault(f"The {name} list: {error}") from error
    if table.num_rows == 0:
        raise TableFault(f"The {name} list has no rows; send at least one source.")
    if table.num_rows > most:
        raise LimitFault(
            f"The {name} list has {table.num_rows:,} rows; this service takes {most:,} a job. Split the list."
        )
    ra, dec = positions(table, ra=ra_name, dec=dec_name)
    redshift = _named(table, _REDSHIFTS)
    if labelled and redshift is None:
        raise TableFault(
            f"The {name} list has no redshift column: its columns are {', '.join(table.column_names)}. "
            f"Name the redshift {' or '.join(_REDSHIFTS[:3])}."
        )
    z = np.full(len(ra), np.nan) if redshift is None else _numbers(table, redshift, name)
    return SourceList(name, _identifiers(table, name), ra, dec, z)


def _named(table: pa.Table, names: tuple[str, ...]) -> str | None:
    """Return the column of the first name that the table has, in any case."""
    there = {column.lower(): column for column in reversed(table.column_names)}
    return next((there[name] for name in names if name in there), None)


def _numbers(table: pa.Table, column: str, name: str) -> np.ndarray:
    values = table[column]
    try:
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            values = pc.if_else(pc.equal(pc.utf8_trim_whitespace(values), ""), None, values)
        numbers = values.cast(pa.float64(), safe=False).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TableFault(
            f"The column {column} of the {name} list holds something that is no number: {error}."
        ) from error
    return np.asarray(numbers, dtype=np.float64)


def _identifiers(table: pa.Table, name: str) -> list[str]:
    column = _named(table, _IDENTIFIERS)
    if column is None:
        return [f"{name}:{row}" for row in range(table.num_rows)]
    return [f"{name}:{row}" if value is None else str(value) for row, value in enumerate(table[column].to_pylist())]
