"""A HiPS in a folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from inzitu.hips.tiles import Handle, TileError


@dataclass(frozen=True, slots=True)
class FileHandle:
    """An open file; it stays the same file if another takes its name."""

    descriptor: int
    size: int
    uri: str

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`, fewer where the file ends before."""
        try:
            return os.pread(self.descriptor, max(0, stop - start), start)
        except OSError as error:
            raise TileError(self.uri, f"cannot be read ({error.strerror})") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a HiPS on disk."""

    root: str
    uri: str
    parallel: int = 1

    @classmethod
    def at(cls, path: Path) -> Folder:
        """Return the files under an absolute path."""
        return cls(str(path), path.as_uri())

    def open(self, path: str, *, whole: bool = False) -> Handle | None:
        """Open a file of the HiPS; None if there is none of that name."""
        name = f"{self.root}/{path}"
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise TileError(name, f"cannot be opened ({error.strerror})") from error
        return FileHandle(descriptor, os.fstat(descriptor).st_size, name)

    def size(self, path: str) -> int | None:
        """Return the bytes of a file of the HiPS; None if there is none of that name."""
        try:
            return os.stat(f"{self.root}/{path}").st_size  # noqa: PTH116  a Path for each of a million tiles is slow
        except OSError:
            return None

    def edition(self, name: str) -> Folder:
        """Return the same files: what is on disk is always the present edition."""
        return self

    def close(self) -> None:
        """Nothing is held open."""

    def tiles(self, order: int) -> list[int]:
        """Return the numbers of the FITS tiles of an order."""
        return sorted(int(path.stem[4:]) for path in Path(self.root).glob(f"Norder{order}/Dir*/Npix*.fits"))

    def deepest(self) -> int | None:
        """Return the deepest order that has FITS tiles."""
        with os.scandir(self.root) as entries:
            orders = [int(entry.name[6:]) for entry in entries if re.fullmatch(r"Norder\d+", entry.name)]
        return next((order for order in sorted(orders, reverse=True) if self._has_tiles(order)), None)

    def _has_tiles(self, order: int) -> bool:
        """Tell whether an order has a FITS tile, looking no further than the first: a folder may hold 10,000."""
        with os.scandir(f"{self.root}/Norder{order}") as folders:
            for folder in folders:
                if not (folder.name.startswith("Dir") and folder.is_dir()):
                    continue
                with os.scandir(folder) as tiles:
                    if any(re.fullmatch(r"Npix\d+\.fits", tile.name) for tile in tiles):
                        return True
        return False
