"""Readings: lists of the outside files that an activity read, each with its digest.

A reading is a Parquet file with the columns uri, sha256 and bytes, and others that say what a file was read for (band).
It is an artefact like any other, so the list cannot change; the files that it names can, and `verification` sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.prov.facts import DIGEST


@dataclass(frozen=True, slots=True)
class OutsideFile:
    """A file of the archive, as it was when it was read.

    Parameters
    ----------
    uri
        Where it was read from: a path or a URL.
    sha256
        Its digest at that time; empty where only a part of it was read.
    bytes
        [byte] What was read of it.
    band
        The band that it holds, if it is a tile.
    """

    uri: str
    sha256: str
    bytes: int
    band: str = ""

    def __post_init__(self) -> None:
        if not self.uri:
            raise ValueError("an outside file has no uri: say where it was read from")
        if self.sha256 and not DIGEST.fullmatch(self.sha256):
            raise ValueError(f"{self.uri} has the digest {self.sha256!r}: it must be 64 lower-case hexadecimal digits")
        if self.bytes < 0:
            raise ValueError(f"{self.uri} was read by {self.bytes} bytes: it must be 0 or more")


def read_reading(path: Path) -> list[OutsideFile]:
    """Return the outside files that a reading lists.

    Raises
    ------
    ValueError
        The file is no Parquet, lacks a column, or has a row that makes no sense.
    """
    try:
        table = pq.read_table(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path.name} is no reading: it cannot be read as Parquet ({error})") from error
    if missing := {"uri", "sha256", "bytes"} - set(table.column_names):
        raise ValueError(f"{path.name} is no reading: it has no column {', '.join(sorted(missing))}")
    names = [name for name in ("uri", "sha256", "bytes", "band") if name in table.column_names]
    try:
        return [_outside_file(row) for row in table.select(names).to_pylist()]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is no reading: {error}") from error


def _outside_file(row: dict[str, object]) -> OutsideFile:
    uri, sha256, size = row["uri"], row["sha256"], row["bytes"]
    if not isinstance(uri, str) or not isinstance(sha256, str) or not isinstance(size, int):
        raise TypeError(f"a row has uri {uri!r}, sha256 {sha256!r}, bytes {size!r}: text, text and a number are needed")
    band = row.get("band")
    return OutsideFile(uri, sha256, size, "" if band is None else str(band))
