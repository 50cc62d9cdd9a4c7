"""What can be queried: tables, their columns and where their rows are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.errors import ArchiveFault
from inzitu.manifest import CatalogueEntry, Manifest
from inzitu.sky.hats import row_files
from inzitu.tables.published import PublishedTable, PublishedTables
from inzitu.vo.fields import Field, field_of

CELL_COLUMN = "_healpix_29"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, with what TAP_SCHEMA says beyond VOTable."""

    field: Field
    indexed: bool = False
    principal: bool = False
    std: bool = False
    hidden: bool = False
    """Whether `*` and TAP_SCHEMA leave it out."""

    @property
    def name(self) -> str:
        """The column's name as it is stored."""
        return self.field.name


@dataclass(frozen=True, slots=True)
class Table:
    """A table of ADQL: rows in Parquet files, or in memory."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    rows: pa.Table | tuple[Path, ...]
    description: str | None = None
    count: int | None = None
    position: tuple[str, str] | None = None
    """The columns of the position whose HEALPix cell the rows are sorted by, so that a cone needs few of them."""

    @property
    def full_name(self) -> str:
        """Schema and name."""
        return f"{self.schema}.{self.name}"

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns that `*` stands for."""
        return tuple(column for column in self.columns if not column.hidden)


def in_memory(schema: str, name: str, rows: pa.Table, description: str | None = None) -> Table:
    """Return a table whose rows are at hand: an upload, or TAP_SCHEMA."""
    columns = tuple(Column(field_of(field)) for field in rows.schema)
    return Table(schema, name, columns, rows, description, rows.num_rows)


class Holdings:
    """The published predictions and the archive's catalogue."""

    def __init__(self, manifest: Manifest, published: PublishedTables) -> None:
        self._catalogue = manifest.archive.catalogue
        self._published = published
        self._known: dict[str, Table] = {}

    def tables(self) -> list[Table]:
        """Return all tables that there are now; one whose file is lost or broken is left out and said in the log."""
        found = [self._readable(self._archive_table)]
        found += [self._readable(partial(self._prediction_table, table)) for table in self._published.tables()]
        return [table for table in found if table is not None]

    def _readable(self, table: Callable[[], Table | None]) -> Table | None:
        try:
            return table()
        except (ArchiveFault, OSError, ValueError) as error:
            _log.warning("A table cannot be queried: %s", error)
            return None

    def _archive_table(self) -> Table | None:
        """Return the catalogue; None where it is in a format that cannot be queried in place."""
        path = self._catalogue.path
        files = _parquet_files(Path(path)) if path and "://" not in path else ()
        if not files:
            return None
        key = f"{files[0]}:{files[0].stat().st_mtime_ns}:{len(files)}"
        if key not in self._known:
            name = "".join(c if c.isalnum() else "_" for c in Path(path).stem)
            described = "The archive's catalogue, with which positions are matched."
            table = _read(Table("archive", name, (), files, described))
            meant = tuple(_catalogue_column(column, self._catalogue) for column in table.columns)
            position = (self._catalogue.ra, self._catalogue.dec)
            self._known[key] = _with_position(replace(table, columns=meant), position)
        return self._known[key]

    def _prediction_table(self, published: PublishedTable) -> Table:
        key = f"{published.name} {published.artefact}"
        if key not in self._known:
            path = self._published.path(published)
            table = _read(Table("predictions", published.name, (), (path,), published.description))
            self._known[key] = _with_position(replace(table, columns=tuple(map(_prediction_column, table.columns))))
        return self._known[key]


def _parquet_files(path: Path) -> tuple[Path, ...]:
    """Return the Parquet files of a file or folder."""
    if path.is_dir():
        return tuple(row_files(path))
    return (path,) if path.suffix in (".parquet", ".pq") and path.exists() else ()


def _read(table: Table) -> Table:
    """Return a table with the columns and the number of rows that its files declare."""
    assert isinstance(table.rows, tuple)
    try:
        schema = pq.read_schema(table.rows[0])
        count = sum(pq.read_metadata(path).num_rows for path in table.rows)
    except (OSError, pa.ArrowException) as error:
        raise ArchiveFault(f"The rows of {table.full_name} cannot be read: {error}") from error
    return replace(table, columns=tuple(_column(field) for field in schema), count=count)


def _catalogue_column(column: Column, entry: CatalogueEntry) -> Column:
    """Return a catalogue's column with the meaning that the manifest gives it, where the file gives none."""
    position = {
        entry.ra: {"unit": "deg", "ucd": "pos.eq.ra;meta.main", "description": "Right ascension, ICRS."},
        entry.dec: {"unit": "deg", "ucd": "pos.eq.dec;meta.main", "description": "Declination, ICRS."},
        entry.id: {"ucd": "meta.id;meta.main", "description": "The source's identifier."},
    }
    magnitude = {name: {"unit": "mag", "ucd": "phot.mag"} for name in entry.magnitudes}
    return _meant(column, (position | magnitude).get(column.name), principal=column.name in position)


def _column(field: pa.Field) -> Column:
    return Column(field_of(field), hidden=field.name == CELL_COLUMN)


def _prediction_column(column: Column) -> Column:
    """Return a column of predictions; those that begin with _ are the service's own."""
    return replace(column, hidden=column.name.startswith("_"), principal=True)


def _meant(column: Column, meaning: dict[str, str] | None, *, principal: bool) -> Column:
    """Return a column with a meaning filled in where it has none."""
    missing: dict[str, Any] = {
        key: value for key, value in (meaning or {}).items() if getattr(column.field, key) is None
    }
    return replace(column, field=replace(column.field, **missing), principal=principal)


def _with_position(table: Table, position: tuple[str, str] = ("ra", "dec")) -> Table:
    """Return a table with its position marked as indexed, if its rows are sorted by cell."""
    if not {CELL_COLUMN, *position} <= {column.name for column in table.columns}:
        return table
    columns = tuple(replace(column, indexed=column.name in position) for column in table.columns)
    return replace(table, columns=columns, position=position)
