"""The part of a catalogue behind TAP that lies around a list's positions, as a Parquet file.

The list goes to the service in chunks of neighbours; what comes back is kept chunk by chunk, so that a run that was
stopped goes on. A chunk whose answer overflows is halved. Which row is whose counterpart is decided here, by the same
crossmatch as for a catalogue in files: the service only has to send what is near.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.archive.parts import Parts
from inzitu.archive.patience import Patience, insist
from inzitu.archive.tap import TapLimits, TapService, identifier, table_identifier
from inzitu.errors import ArchiveFault, LimitFault
from inzitu.sky import cell29, crossmatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inzitu.archive.tap import Reply
    from inzitu.manifest import CatalogueEntry

ROWS_A_CHUNK = 10_000
CONES_A_QUERY = 50
"""Positions in a query to a service without uploads."""
MOST_BY_CONES = 10_000
"""Positions asked of a service without uploads: a query for each fifty is a burden that it has not offered to bear."""
_SLACK = 1.001
"""Services compute distances in their own way; what they add beyond the radius, the crossmatch drops."""


def inspect_table(entry: CatalogueEntry, *, folder: Path, patience: Patience | None = None) -> TapLimits:
    """Return the limits of the service behind which a catalogue lies, if a row of it can be had.

    Raises
    ------
    ArchiveFault
        The service fails, or the table is not there or lacks a column.
    """
    question = _Question(entry, np.array([]), np.array([]), 1.0)
    with TapService(entry.tap, folder=folder, patience=patience) as service:
        limits = service.limits()
        question.checked(service.ask(question.of_one_row(), most=2).table)
        return limits


def fetch_nearby(
    entry: CatalogueEntry,
    ra: np.ndarray,
    dec: np.ndarray,
    radius: float,
    *,
    folder: Path,
    patience: Patience | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Path]:
    """Fetch the rows of a catalogue behind TAP that lie within a radius of any of some positions.

    Parameters
    ----------
    entry
        The catalogue: service, table and columns.
    ra, dec
        Positions [deg], ICRS, finite.
    radius
        Search radius [arcsec].
    folder
        Keeps the finished chunks; called again with the same folder and question, it goes on from these.
    patience
        How long the service is waited for.
    progress
        Called with the number of positions done and of all.

    Returns
    -------
    tuple
        A Parquet file with the columns of the entry, and a reading: the answers that it was made from.

    Raises
    ------
    ArchiveFault
        The service fails or does not send what was asked for; the finished chunks stay.
    LimitFault
        The service takes no uploads, and the positions are too many for queries with cones.
    """
    patience = patience or Patience()
    order = np.argsort(cell29(ra, dec), kind="stable")
    question = _Question(entry, ra[order], dec[order], radius)
    keys = (entry, radius, question.ra.tobytes(), question.dec.tobytes())
    parts = Parts.of(folder, *keys)
    names: list[str] = []
    with TapService(entry.tap, folder=folder, patience=patience) as service:
        fetch = _Fetch(question, service, service.limits(), parts, patience)
        for start in range(0, len(ra), fetch.step):
            end = min(start + fetch.step, len(ra))
            names += fetch.rows(start, end)
            if progress is not None:
                progress(end, len(ra))
    path = folder / "nearby.parquet"
    # A row of the catalogue may lie near positions of two chunks.
    rows = parts.join(names) if names else question.schema.empty_table()
    once = rows.group_by(question.schema.names, use_threads=False).aggregate([])
    pq.write_table(once, path)
    return path, parts.reading(names)


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """What is asked: which columns of which table, around which positions."""

    entry: CatalogueEntry
    ra: np.ndarray
    dec: np.ndarray
    radius: float

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns asked for, each once, in order."""
        entry = self.entry
        return tuple(dict.fromkeys((entry.id, entry.ra, entry.dec, *entry.magnitudes)))

    @property
    def schema(self) -> pa.Schema:
        """What is kept: numbers as doubles, the identifier as text, which loses no digit of whatever it is."""
        kinds = {name: pa.float64() for name in self.columns} | {self.entry.id: pa.string()}
        return pa.schema(list(kinds.items()))

    def _asked(self) -> str:
        names = ", ".join(f"c.{identifier(name)}" for name in self.columns)
        return f"SELECT {names} FROM {table_identifier(self.entry.table)} AS c"

    def _near(self, ra: str, dec: str) -> str:
        point = f"POINT('ICRS', c.{identifier(self.entry.ra)}, c.{identifier(self.entry.dec)})"
        return f"1=CONTAINS({point}, CIRCLE('ICRS', {ra}, {dec}, {self.radius * _SLACK / 3600:.12f}))"

    def checked(self, table: pa.Table) -> pa.Table:
        """Return an answer in the schema of the question.

        Raises
        ------
        ArchiveFault
            It has other columns than were asked for.
        """
        where = f"{self.entry.tap} was asked for the columns {', '.join(self.columns)} of {self.entry.table}"
        if [name.strip('"').lower() for name in self.columns] != [name.lower() for name in table.column_names]:
            raise ArchiveFault(f"The TAP service {where} and sends {', '.join(table.column_names) or 'none'}.")
        try:
            return table.rename_columns(list(self.columns)).cast(self.schema)
        except pa.ArrowException as error:
            raise ArchiveFault(f"The TAP service {where} and sends one that holds no numbers: {error}.") from error

    def of_one_row(self) -> str:
        """Return the query for any row."""
        return self._asked().replace("SELECT ", "SELECT TOP 1 ", 1)

    def by_upload(self) -> str:
        """Return the query that joins the catalogue with an uploaded list."""
        return f"{self._asked()} JOIN TAP_UPLOAD.positions AS u ON {self._near('u.ra', 'u.dec')}"

    def by_cones(self, start: int, end: int) -> str:
        """Return the query with a cone for each position."""
        near = (self._near(f"{self.ra[i]:.12f}", f"{self.dec[i]:.12f}") for i in range(start, end))
        return f"{self._asked()} WHERE {' OR '.join(near)}"


@dataclass(frozen=True, slots=True)
class _Fetch:
    """Asks for chunks and keeps their answers."""

    question: _Question
    service: TapService
    limits: TapLimits
    parts: Parts
    patience: Patience

    @property
    def step(self) -> int:
        """Positions in a query."""
        if self.limits.uploads:
            return min(ROWS_A_CHUNK, self.limits.upload_rows or ROWS_A_CHUNK)
        if len(self.question.ra) > MOST_BY_CONES:
            raise LimitFault(
                f"The TAP service {self.service.url} takes no uploads, and so at most {MOST_BY_CONES:,} positions a "
                f"job; there are {len(self.question.ra):,}. Split the list."
            )
        return CONES_A_QUERY

    def rows(self, start: int, end: int) -> list[str]:
        """Return the names of the parts with what lies around some of the positions."""
        name = f"{start}-{end}"
        if self.parts.get(name) is not None:
            return [name]
        reply = insist(lambda: self._ask(start, end), self.patience)
        if not reply.overflow:
            self.parts.keep(name, self._checked(reply.table, start, end), reply.answer)
            return [name]
        if end - start == 1:
            raise ArchiveFault(
                f"The TAP service {self.service.url} sends no more than {reply.table.num_rows:,} rows, and has more "
                f"within {self.question.radius:g} arcsec of one position. Ask with a smaller RADIUS."
            )
        middle = (start + end) // 2
        return self.rows(start, middle) + self.rows(middle, end)

    def _ask(self, start: int, end: int) -> Reply:
        from astropy.table import Table

        if not self.limits.uploads:
            return self.service.ask(self.question.by_cones(start, end), most=self.limits.output_rows)
        rows = slice(start, end)
        positions = Table({"ra": self.question.ra[rows], "dec": self.question.dec[rows]}, units=("deg", "deg"))
        uploads = {"positions": positions}
        return self.service.ask(self.question.by_upload(), uploads=uploads, most=self.limits.output_rows)

    def _checked(self, table: pa.Table, start: int, end: int) -> pa.Table:
        """Return the rows in the question's schema, if they are what was asked for.

        Raises
        ------
        ArchiveFault
            It has other columns, or rows that lie elsewhere.
        """
        table = self.question.checked(table)
        ra, dec = (table[name].to_numpy() for name in (self.question.entry.ra, self.question.entry.dec))
        rows, radius = slice(start, end), self.question.radius * _SLACK**2
        pairs = crossmatch(ra, dec, self.question.ra[rows], self.question.dec[rows], radius)
        if elsewhere := table.num_rows - len(pairs.first):
            raise ArchiveFault(
                f"The TAP service {self.service.url} sends {elsewhere:,} of {table.num_rows:,} rows that lie more than "
                f"{self.question.radius:g} arcsec from all positions asked for."
            )
        return table
