"""Folders as zip files that are written while they are sent: nothing is held in memory or on disk."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, cast
from zipfile import ZIP_STORED, ZipFile, ZipInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CHUNK = 1 << 18
_LARGE = 1 << 31


class _Pipe:
    """What is written is taken away again; it cannot be sought in, so that `ZipFile` writes straight on."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Take some bytes."""
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: the pieces are taken away."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def zip_pieces(entries: Iterable[tuple[str, Path | bytes]]) -> Iterator[bytes]:
    """Yield a zip file piece by piece.

    Nothing is compressed, as weights and pixels hardly can be. Equal entries make equal files.

    Parameters
    ----------
    entries
        Names in the zip file, each with a file or with its content.
    """
    pipe = _Pipe()
    with ZipFile(cast("IO[bytes]", pipe), "w", ZIP_STORED) as archive:
        for name, source in entries:
            info = ZipInfo(name)
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=not isinstance(source, bytes) and _is_large(source)) as entry:
                for piece in [source] if isinstance(source, bytes) else _pieces(source):
                    entry.write(piece)
                    yield pipe.take()
    yield pipe.take()


def _is_large(path: Path) -> bool:
    return path.stat().st_size >= _LARGE


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece
