r"""The artefact store: immutable files and folders on disk, named by their content.

What is given to the store is hashed where it lies, forced to disk and moved into place by one rename, so that a name
in the store always stands for whole content: a process killed at any moment leaves the content at its old place or at
its new one. Where the two are on different file systems, or the original is to be kept, a copy is made first under
`incoming/`, which `sweep` clears.

A file's identifier is its SHA-256. A folder's is the SHA-256 of the list of its files, as `sha256sum` prints it,
sorted by the bytes of their paths::

    find . -type f -printf '%P\n' | LC_ALL=C sort | tr '\n' '\0' | xargs -0 sha256sum | sha256sum

Dates, permissions and empty sub-folders do not count. Links and special files are refused, as they are no content.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from uuid import uuid4

from inzitu.prov.facts import DIGEST


def digest(path: str | Path) -> str:
    """Return the identifier that the file or folder has, or would have, in a store.

    Raises
    ------
    ValueError
        The folder is empty, or holds a link, a special file or a name that cannot be listed.
    """
    path = Path(path)
    if path.is_symlink() or not path.is_dir():
        with _regular(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = [f"{digest(path / name)}  {name}\n" for name in members(path)]
    if not lines:
        raise ValueError(f"{path.name} is a folder without files: there is nothing to keep")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def members(folder: Path) -> list[str]:
    """Return the paths of the folder's files, relative to it, in the order of their bytes."""
    names: list[str] = []
    for parent, folders, files in folder.walk():
        for name in (*folders, *files):
            _listable(name)
        for name in folders:
            if (parent / name).is_symlink():
                raise ValueError(f"{name} is a link: an artefact holds files only")
        names += [(_regular(parent / name)).relative_to(folder).as_posix() for name in files]
    return sorted(names, key=str.encode)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of a folder's files together [byte]."""
    return sum((path / name).stat().st_size for name in members(path)) if path.is_dir() else path.stat().st_size


class ArtefactStore:
    """Content-addressed files and folders below a root folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def adopt(self, path: str | Path, *, keep: bool = False) -> tuple[str, int]:
        """Take a file or folder in and return its identifier and size [byte].

        Afterwards the original is gone, unless `keep`. Content that the store already has is not stored again.

        Raises
        ------
        OSError
            No room or no right to write. The original is untouched and the store is as it was.
        ValueError
            It is nothing that can be kept: an empty folder, a link, a special file.
        """
        path = Path(path)
        id, size = digest(path), size_of(path)
        place = self._place(id)
        place.parent.mkdir(parents=True, exist_ok=True)
        if self.contains(id):
            os.utime(place)  # young again: `sweep` leaves it alone until its new record is written
            if place.is_dir() != path.is_dir():
                raise ValueError(f"{path.name} is the list of the files of artefact {id}: it cannot have the same name")
            if not keep:
                _remove(path)
        elif keep or path.stat().st_dev != place.parent.stat().st_dev:
            self._move(self._copy(path, id), place)
            if not keep:
                _remove(path)
        else:
            self._move(path, place)
        return id, size

    def path(self, id: str) -> Path:
        """Return where an artefact lies.

        Raises
        ------
        FileNotFoundError
            The store has no such content.
        """
        if not self.contains(id):
            raise FileNotFoundError(f"Artefact {id} is not in the store {self.root.name}.")
        return self._place(id)

    def contains(self, id: str) -> bool:
        """Return whether the content is there, whole."""
        return self._place(id).exists()

    def files(self, id: str) -> dict[str, int]:
        """Return the size of each file of a folder by its path in it [byte]."""
        folder = self.path(id)
        return {name: (folder / name).stat().st_size for name in members(folder)}

    def member(self, id: str, name: str) -> Path:
        """Return where a file of a folder lies.

        Raises
        ------
        FileNotFoundError
            The artefact is no folder, or has no file of that name. A name that leads out of it is no file of it.
        """
        folder = self.path(id)
        parts = PurePosixPath(name).parts
        path = folder.joinpath(*parts)
        if (
            "\0" in name
            or ".." in parts
            or name.startswith("/")
            or not path.is_relative_to(folder)
            or not path.is_file()
        ):
            raise FileNotFoundError(f"Artefact {id} has no file {name!r}.")
        return path

    def remove(self, id: str) -> None:
        """Destroy the content of an artefact. Nothing happens if it is not there."""
        place = self._place(id)
        if not self.contains(id):
            return
        doomed = self._incoming() / f"{id}.{uuid4().hex}"
        place.rename(doomed)  # at once, so that nobody sees half a folder
        _remove(doomed)

    def sweep(self, *, wanted: set[str], grace: float) -> list[str]:
        """Remove what is not wanted and return its identifiers, with the remains of interrupted copies.

        Parameters
        ----------
        wanted
            Identifiers to keep.
        grace
            [s] Content younger than this stays, as its record may be about to be written.
        """
        before = time.time() - grace
        for path in self._incoming().iterdir():
            if path.lstat().st_mtime < before:
                _remove(path)
        removed = []
        for place in self._places():
            if place.name not in wanted and place.stat().st_mtime < before:
                self.remove(place.name)
                removed.append(place.name)
        return removed

    def _place(self, id: str) -> Path:
        if not DIGEST.fullmatch(id):
            raise ValueError(f"{id!r} is no artefact's identifier: it must be 64 lower-case hexadecimal digits")
        return self.root / id[:2] / id

    def _places(self) -> Iterator[Path]:
        yield from (path for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/*")) if DIGEST.fullmatch(path.name))

    def _incoming(self) -> Path:
        incoming = self.root / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        return incoming

    def _copy(self, path: Path, id: str) -> Path:
        copy = self._incoming() / f"{id}.{uuid4().hex}"
        try:
            for name in members(path) if path.is_dir() else [""]:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path / name, copy / name)
            if digest(copy) != id:
                raise ValueError(f"{path.name} changed while it was copied: give it to the store when it is finished")
        except BaseException:
            _remove(copy)
            raise
        return copy

    def _move(self, path: Path, place: Path) -> None:
        _to_disk(path)
        try:
            path.rename(place)
        except OSError:
            if not place.is_dir():  # somebody else brought the same folder in the meantime: that is as good
                raise
            _remove(path)
        os.utime(place)
        for folder in (place.parent, self.root):
            _flush(folder)


def _to_disk(path: Path) -> None:
    """Make all files of the path read-only and force them, and the folders that name them, to disk."""
    if not path.is_dir():
        path.chmod(0o444)
        _flush(path)
        return
    for parent, _, files in path.walk(top_down=False):
        for name in files:
            _to_disk(parent / name)
        _flush(parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _regular(path: Path) -> Path:
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(
            f"{path.name} is a {'link' if stat.S_ISLNK(mode) else 'special file'}: an artefact holds files only"
        )
    return path


def _listable(name: str) -> None:
    if "\\" in name or not name.isprintable():
        raise ValueError(f"the file name {name!r} has a backslash or an unprintable character: rename the file")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
