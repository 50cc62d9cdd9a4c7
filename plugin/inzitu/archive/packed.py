"""Files as they are, or compressed with gzip: their content, some at a time or unpacked as a whole."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from inzitu.errors import TableFault

MOST_TIMES = 100
"""How many times its size a file may have when it is unpacked; text of numbers has three to ten."""
PIECE = 1 << 20
"""Bytes unpacked at a time."""
MAGIC = b"\x1f\x8b"


def is_packed(path: Path) -> bool:
    """Tell whether a file is compressed with gzip."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(2) == MAGIC


@contextmanager
def content(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], float]]]:
    """Give what a file holds, to be read from its beginning, and what tells how much of it has been read.

    Raises
    ------
    TableFault
        Its gzip stream is damaged.
    """
    size = max(path.stat().st_size, 1)
    with path.open("rb") as file:
        if not is_packed(path):
            yield file, lambda: file.tell() / size
            return
        with _told_in_words(path), gzip.GzipFile(fileobj=file) as stream:
            yield cast("BinaryIO", stream), lambda: file.tell() / size


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give a file as it is; one that is compressed unpacked, under its name, in a temporary folder.

    Raises
    ------
    TableFault
        Its gzip stream is damaged, or grows out of all proportion.
    """
    if not is_packed(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="inzitu-") as folder:
        plain = Path(folder) / (path.name.removesuffix(".gz") or path.name)
        most = MOST_TIMES * path.stat().st_size
        with content(path) as (stream, _), plain.open("wb") as file:
            while piece := stream.read(PIECE):
                if file.tell() + len(piece) > most:
                    raise TableFault(
                        f"{path.name} unpacks to more than {MOST_TIMES} times its size, which no table does; "
                        "if it is one, unpack it first."
                    )
                file.write(piece)
        yield plain


@contextmanager
def _told_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TableFault(f"{path.name} cannot be unpacked: {error}; send it again.") from error
