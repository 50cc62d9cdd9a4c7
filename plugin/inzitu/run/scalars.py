"""Numbers of rows by name, as SCALARS and SLICES ask for them: of the catalogue, or columns of the user's lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inzitu.archive.catalogues import read_table
from inzitu.archive.lists import numbers
from inzitu.errors import ParameterFault, TableFault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from inzitu.run.stamps import StampSet

LISTS = ("training", "targets")


def scalars_of(names: Sequence[str], stamps: StampSet, inputs: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Return numbers by name, one a stamp; NaN where a row has none.

    A name is one of the catalogue's magnitudes, as ``mag_r``, or a column of the lists that were sent.

    Raises
    ------
    TableFault
        A list lacks the column, or it holds no numbers.
    ParameterFault
        The column is the redshift itself.
    """
    lists, found = _lists(inputs) if names else {}, {}
    for name in names:
        for role, table in lists.items():
            if not _carried(name, stamps.rows) and _spelled(name, table) is None:
                raise TableFault(_nowhere("SCALARS", name, stamps.rows, {role: table}))
        found[name] = values = _numbers(name, stamps.rows, lists)
        labelled = (stamps.column("list") == "training") & np.isfinite(values)
        if labelled.any() and np.array_equal(values[labelled], stamps.column("z")[labelled]):
            raise ParameterFault(f"SCALARS={name} is the redshift itself, which targets do not have; leave it out.")
    return found


def slices_of(names: Sequence[str], rows: pa.Table, inputs: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Return numbers by name, one for each of some rows of the selection; NaN where a row has none.

    A name is ``z``, one of the catalogue's magnitudes, or a column of one of the lists that were sent.

    Raises
    ------
    TableFault
        It is none of these, or the column holds no numbers.
    """
    lists = _lists(inputs) if any(not _carried(name, rows) for name in names) else {}
    for name in names:
        if not _carried(name, rows) and not any(_spelled(name, table) for table in lists.values()):
            raise TableFault(_nowhere("SLICES", name, rows, lists))
    return {name: _numbers(name, rows, lists) for name in names}


def _lists(inputs: Mapping[str, Path]) -> dict[str, pa.Table]:
    return {role: read_table(inputs[role]) for role in LISTS if role in inputs}


def _numbers(name: str, rows: pa.Table, lists: Mapping[str, pa.Table]) -> np.ndarray:
    if _carried(name, rows):
        return np.asarray(rows[name].to_numpy(zero_copy_only=False), np.float64)
    values = np.full(rows.num_rows, np.nan)
    role, place = (rows[column].to_numpy(zero_copy_only=False) for column in ("list", "list_row"))
    for part, table in lists.items():
        if (column := _spelled(name, table)) is not None:
            mine = role == part
            values[mine] = numbers(table, column, part)[place[mine]]
    return values


def _carried(name: str, rows: pa.Table) -> bool:
    """Say whether the selection itself holds the numbers: the redshift, or a magnitude of the catalogue."""
    return name == "z" or (name.startswith("mag_") and name in rows.column_names)


def _spelled(name: str, table: pa.Table) -> str | None:
    """Return a list's own spelling of a column's name."""
    return next((column for column in table.column_names if column.lower() == name.lower()), None)


def _nowhere(parameter: str, name: str, rows: pa.Table, lists: Mapping[str, pa.Table]) -> str:
    columns = " nor ".join(f"of the {role} list ({', '.join(table.column_names)})" for role, table in lists.items())
    magnitudes = [column for column in rows.column_names if column.startswith("mag_")]
    return (
        f"{parameter} names {name}, which is no column {columns or 'of a list'} and no magnitude of the catalogue "
        f"({', '.join(magnitudes) or 'it has none'})."
    )
