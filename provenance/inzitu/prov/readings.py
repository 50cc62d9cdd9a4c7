"""Readings: lists of the outside files that an activity read, each with its digest.

A reading is a Parquet file with the columns uri, sha256 and bytes, and if need be ranges, which bytes of the file were
read, and band, what it was read for. It is an artefact like any other, so the list cannot change; the files that it
names can, and `verification` sees it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.prov.facts import DIGEST

RANGES = re.compile(r"\d+-\d+(,\d+-\d+)*")


@dataclass(frozen=True, slots=True)
class OutsideFile:
    """A file of the archive, as it was when it was read.

    Parameters
    ----------
    uri
        Where it was read from: a path or a URL.
    sha256
        Digest of what was read of it; empty if none was taken.
    bytes
        [byte] What was read of it.
    band
        The band that it holds, if it is a tile.
    ranges
        Which bytes were read, in that order, as HTTP writes ranges (RFC 9110, section 14.1.1): "0-5759,8640-9999".
        Empty for the whole file.
    """

    uri: str
    sha256: str
    bytes: int
    band: str = ""
    ranges: str = ""

    def __post_init__(self) -> None:
        if not self.uri:
            raise ValueError("an outside file has no uri: say where it was read from")
        if self.sha256 and not DIGEST.fullmatch(self.sha256):
            raise ValueError(f"{self.uri} has the digest {self.sha256!r}: it must be 64 lower-case hexadecimal digits")
        if self.bytes < 0:
            raise ValueError(f"{self.uri} was read by {self.bytes} bytes: it must be 0 or more")
        if self.ranges and not RANGES.fullmatch(self.ranges):
            raise ValueError(f"{self.uri} was read by the ranges {self.ranges!r}: write them as in 0-5759,8640-9999")


def content_of(outside: OutsideFile, path: Path) -> bytes:
    """Return what was read of an outside file, as the file at a path holds it now."""
    with path.open("rb") as file:
        if not outside.ranges:
            return file.read()
        parts = []
        for span in outside.ranges.split(","):
            first, last = map(int, span.split("-"))
            file.seek(first)
            parts.append(file.read(last + 1 - first))
        return b"".join(parts)


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
    names = [name for name in ("uri", "sha256", "bytes", "band", "ranges") if name in table.column_names]
    try:
        return [_outside_file(row) for row in table.select(names).to_pylist()]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is no reading: {error}") from error


def _outside_file(row: dict[str, object]) -> OutsideFile:
    uri, sha256, size = row["uri"], row["sha256"], row["bytes"]
    if not isinstance(uri, str) or not isinstance(sha256, str) or not isinstance(size, int):
        raise TypeError(f"a row has uri {uri!r}, sha256 {sha256!r}, bytes {size!r}: text, text and a number are needed")
    band, ranges = (str(row.get(name) or "") for name in ("band", "ranges"))
    return OutsideFile(uri, sha256, size, band, ranges)
