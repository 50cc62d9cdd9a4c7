"""Lists of redshifts out of a table behind a TAP service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from inzitu.archive.tap import TapService, identifier, table_identifier
from inzitu.errors import ArchiveFault, ParameterFault

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import pyarrow as pa

    from inzitu.archive.patience import Answer, Patience
    from inzitu.manifest import TapSource
    from inzitu.pipelines.download import DownloadParameters


def composed(parameters: DownloadParameters, source: TapSource) -> str:
    """Return the ADQL for the rows that the filters ask for, without TOP and order.

    Raises
    ------
    ParameterFault
        The table has no column for one of the filters.
    """
    ra, dec, z = (f"c.{identifier(name)}" for name in (source.ra, source.dec, source.z))
    conditions = [f"{z} >= {parameters.z_min!r}"]
    if parameters.z_max is not None:
        conditions.append(f"{z} <= {parameters.z_max!r}")
    if parameters.clean and source.warning:
        conditions.append(f"c.{identifier(source.warning)} = 0")
    if parameters.spectral_class is not None:
        column = _column(source.spectral_class, "SPECTRAL_CLASS", parameters.source)
        conditions.append(f"{column} = '{parameters.spectral_class.upper()}'")
    for limit, sign, value in (("MAG_MIN", ">=", parameters.mag_min), ("MAG_MAX", "<=", parameters.mag_max)):
        if value is not None:
            name = source.magnitudes.get(parameters.band, "")
            conditions.append(f"{_column(name, f'{limit} in {parameters.band}', parameters.source)} {sign} {value!r}")
    if (circle := parameters.area) is not None:
        centre = ", ".join(f"{value:.9f}" for value in circle)
        conditions.append(f"1=CONTAINS(POINT('ICRS', {ra}, {dec}), CIRCLE('ICRS', {centre}))")
    names = ", ".join(f"c.{identifier(name)}" for name in columns(source).values())
    return f"SELECT {names} FROM {table_identifier(source.table)} AS c WHERE {' AND '.join(conditions)}"


def columns(source: TapSource) -> dict[str, str]:
    """Return the table's columns by what a list calls them."""
    found = {"source_id": source.id, "ra": source.ra, "dec": source.dec, "z": source.z}
    further = (source.spectral_class, source.warning, *source.columns, *source.magnitudes.values())
    return found | {name.strip('"'): name for name in further if name and name not in found.values()}


def _column(name: str, asked: str, source: str) -> str:
    if not name:
        raise ParameterFault(f"{asked}: the manifest names no column for that of the source {source}; leave it out.")
    return f"c.{identifier(name)}"


class TapList:
    """A table with redshifts, for the length of a block.

    Parameters
    ----------
    source
        The manifest's entry.
    folder
        Holds an answer while it is read.
    patience
        How long the service is waited for.
    """

    key = "source_id"

    def __init__(self, source: TapSource, *, folder: Path, patience: Patience) -> None:
        self._source = source
        self._service = TapService(source.url, folder=folder, patience=patience)

    def __enter__(self) -> Self:
        self._service.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._service.__exit__(kind, error, trace)

    def rows(self, adql: str, after: Any, most: int) -> tuple[pa.Table, Answer]:
        """Return the rows of a composed query that follow an identifier, in order.

        Raises
        ------
        ArchiveFault
            The service fails, or sends other columns than were asked for.
        """
        key = f"c.{identifier(self._source.id)}"
        literal = "'" + after.replace("'", "''") + "'" if isinstance(after, str) else after
        rest = adql if after is None else f"{adql} AND {key} > {literal}"
        table, answer = self.ask(rest.replace("SELECT ", f"SELECT TOP {most} ", 1) + f" ORDER BY {key}")
        wanted = columns(self._source)
        if [name.strip('"').lower() for name in wanted.values()] != [name.lower() for name in table.column_names]:
            raise ArchiveFault(
                f"The TAP service {self._source.url} was asked for the columns {', '.join(wanted.values())} of "
                f"{self._source.table} and sends {', '.join(table.column_names) or 'none'}."
            )
        return table.rename_columns(list(wanted)), answer

    def ask(self, adql: str, most: int | None = None) -> tuple[pa.Table, Answer]:
        """Return the rows of a query, as they come.

        Raises
        ------
        ArchiveFault
            The service fails, or refuses the query.
        """
        reply = self._service.ask(adql, most=most)
        return reply.table, reply.answer
