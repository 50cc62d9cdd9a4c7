"""The numbers that come with each stamp, as SCALARS names them: columns of the catalogue or of the user's lists."""

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
    tables = {role: read_table(inputs[role]) for role in LISTS if role in inputs} if names else {}
    return {name: _numbers(name, stamps, tables) for name in names}


def _numbers(name: str, stamps: StampSet, tables: Mapping[str, pa.Table]) -> np.ndarray:
    if name.startswith("mag_") and name in stamps.rows.column_names:
        return stamps.column(name).astype(np.float64)
    values = np.full(stamps.rows.num_rows, np.nan)
    role, place = stamps.column("list"), stamps.column("list_row")
    for part, table in tables.items():
        mine = role == part
        values[mine] = _column(table, name, part, stamps)[place[mine]]
    known = stamps.column("z")
    labelled = (role == "training") & np.isfinite(values)
    if labelled.any() and np.array_equal(values[labelled], known[labelled]):
        raise ParameterFault(f"SCALARS={name} is the redshift itself, which targets do not have; leave it out.")
    return values


def _column(table: pa.Table, name: str, role: str, stamps: StampSet) -> np.ndarray:
    found = next((column for column in table.column_names if column.lower() == name.lower()), None)
    if found is None:
        magnitudes = [column for column in stamps.rows.column_names if column.startswith("mag_")]
        raise TableFault(
            f"SCALARS names {name}, which is no column of the {role} list ({', '.join(table.column_names)}) and no "
            f"magnitude of the catalogue ({', '.join(magnitudes) or 'it has none'})."
        )
    return numbers(table, found, role)
