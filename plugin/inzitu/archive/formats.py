"""Files of tables as Arrow tables: VOTable, CSV, FITS and Parquet, told apart by their content.

Each field carries what the file says of it as metadata: unit, ucd, description.
See `votables`, `delimited` and `astropy_tables` for the single formats.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from inzitu.archive.astropy_tables import read_fits
from inzitu.archive.delimited import read_csv
from inzitu.archive.votables import read_votable
from inzitu.errors import TableFault


def read_table(path: str | Path, *, format: str | None = None) -> pa.Table:
    """Read a table.

    Parameters
    ----------
    path
        A file, or a folder of Parquet files.
    format
        One of votable, csv, fits, parquet; found from the content if not given.

    Raises
    ------
    TableFault
        The file is empty, of none of these formats, broken, or not safe to read.
    FileNotFoundError
        There is no such file.
    """
    path = Path(path)
    form = format_of(path) if format is None else format
    if form not in READERS:
        raise TableFault(f"The format {form!r} is not known; give one of {', '.join(READERS)}.")
    try:
        return READERS[form](path)
    except (TableFault, FileNotFoundError):
        raise
    except (pa.ArrowException, ValueError, OSError, LookupError, TypeError) as error:
        # Parsers are many and so are their errors; the first line says what, the rest is theirs.
        said = str(error).partition("\n")[0].strip().rstrip(".") or type(error).__name__
        raise TableFault(f"{path.name} cannot be read as {form}: {said}.") from error


def format_of(path: Path) -> str:
    """Tell the format of a file from its first bytes.

    Raises
    ------
    TableFault
        It is empty or of no format that is read here.
    """
    if path.is_dir():
        return "parquet"
    with path.open("rb") as file:
        start = file.read(4096)
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if not text:
        raise TableFault(f"{path.name} is empty; give a table as VOTable, CSV, FITS or Parquet.")
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"SIMPLE  ="):
        return "fits"
    if text.startswith(b"<"):
        if re.search(rb"<(\w+:)?VOTABLE\b", text):
            return "votable"
        raise TableFault(
            f"{path.name} is XML or HTML, but no VOTable; it begins with {text[:40].decode(errors='replace')!r}."
        )
    if start.startswith(b"\x1f\x8b"):
        raise TableFault(f"{path.name} is compressed with gzip; unpack it first.")
    if b"\0" in start:
        raise TableFault(f"{path.name} is of no format that is read here; give VOTable, CSV, FITS or Parquet.")
    return "csv"


def read_parquet(path: Path) -> pa.Table:
    """Read a Parquet file, or a folder of them as one table."""
    if path.is_dir():
        return pyarrow.dataset.dataset(path, format="parquet", partitioning="hive").to_table()
    return pyarrow.parquet.read_table(path, partitioning=None)


READERS: Mapping[str, Callable[[Path], pa.Table]] = {
    "votable": read_votable,
    "csv": read_csv,
    "fits": read_fits,
    "parquet": read_parquet,
}
