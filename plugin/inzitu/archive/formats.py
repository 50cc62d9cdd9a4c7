"""Files of tables as Arrow tables: VOTable, CSV, FITS and Parquet, plain or gzipped, told apart by their content.

Each field carries what the file says of it as metadata: unit, ucd, description.
See `votables`, `delimited` and `astropy_tables` for the single formats.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from xml.parsers.expat import ExpatError

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from inzitu.archive.astropy_tables import read_fits
from inzitu.archive.delimited import read_csv
from inzitu.archive.packed import content, unpacked
from inzitu.archive.votables import read_votable
from inzitu.errors import TableFault
from inzitu.sky.hats import row_files


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
    if format is not None and format not in READERS:
        raise TableFault(f"The format {format!r} is not known; give one of {', '.join(READERS)}.")
    with unpacked(path) as plain:
        form = format or format_of(plain)
        with as_table_fault(path, form):
            return READERS[form](plain)


@contextmanager
def as_table_fault(path: Path, form: str) -> Iterator[None]:
    """Turn what a parser raises into a fault that names the file."""
    try:
        yield
    except (TableFault, FileNotFoundError):
        raise
    except (pa.ArrowException, ExpatError, ValueError, OSError, LookupError, TypeError) as error:
        # Parsers are many and so are their errors; the first line says what, the rest is theirs.
        said = str(error).partition("\n")[0].strip().rstrip(".") or type(error).__name__
        raise TableFault(f"{path.name} cannot be read as {form}: {said}.") from error


_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1f]")
"""What no text holds, in whatever encoding; form feeds and line ends are left out."""


def format_of(path: Path) -> str:
    """Tell the format of a file from the first bytes of its content.

    Raises
    ------
    TableFault
        It is empty, damaged, or of no format that is read here.
    """
    if path.is_dir():
        return "parquet"
    with content(path) as (file, _):
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
    if _CONTROLS.search(start):
        raise TableFault(f"{path.name} is of no format that is read here; give VOTable, CSV, FITS or Parquet.")
    return "csv"


def read_parquet(path: Path) -> pa.Table:
    """Read a Parquet file, or a folder of them as one table."""
    if not path.is_dir():
        return pyarrow.parquet.read_table(path, partitioning=None)
    return pyarrow.dataset.dataset(
        [str(file) for file in parquet_files(path)], format="parquet", partitioning="hive", partition_base_dir=str(path)
    ).to_table()


def parquet_files(path: Path) -> list[Path]:
    """Return the files of a Parquet table in the order in which their rows count: one file, or a folder's by path.

    A partitioned folder, a HATS catalogue and a HATS collection are folders of files (`inzitu.sky.hats`).

    Raises
    ------
    TableFault
        The folder holds no Parquet file, or is a collection without its catalogue.
    """
    if not path.is_dir():
        return [path]
    try:
        files = row_files(path)
    except ValueError as error:
        raise TableFault(str(error)) from error
    if not files:
        raise TableFault(f"The folder {path.name} holds no Parquet files; give a file, or a folder of *.parquet.")
    return files


READERS: Mapping[str, Callable[[Path], pa.Table]] = {
    "votable": read_votable,
    "csv": read_csv,
    "fits": read_fits,
    "parquet": read_parquet,
}
