"""A bounded cache of remote tiles on disk: whole files, the least recently used go first."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 4 << 30
"""Bytes that a cache holds unless told otherwise."""
ROOM = 0.8
"""What is left of the bound when the oldest have gone, so that not every new tile costs a look at all."""


def user_cache() -> Path:
    """Return the folder of the user's cache (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inzitu" / "hips"


@dataclass(frozen=True, slots=True)
class Cache:
    """Files by name, several processes at a time.

    Parameters
    ----------
    folder
        Where they are, made if need be.
    edition
        What the names are valid for, such as a release date: another edition's files are never found.
    most_bytes
        Bytes kept.
    """

    folder: Path
    edition: str = ""
    most_bytes: int = MOST_BYTES

    def get(self, name: str) -> bytes | None:
        """Return a file's content; None if it is not here."""
        path = self._path(name)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keep a file. A cache that cannot be written to is no cache, and no error."""
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                file.write(content)
            Path(file.name).replace(path)
            # A look at all files for one new one in about a hundred: the name's hash is as good as a die.
            if path.name < "03" or len(content) * 100 > self.most_bytes:
                self._shrink()
        except OSError:
            return

    def _path(self, name: str) -> Path:
        key = hashlib.sha256(f"{self.edition}\n{name}".encode()).hexdigest()
        return self.folder / key[-2:] / key

    def _shrink(self) -> None:
        found = [(path.stat(), path) for path in self.folder.glob("??/*")]
        total = sum(stat.st_size for stat, _ in found)
        if total <= self.most_bytes:
            return
        for stat, path in sorted(found, key=lambda pair: pair[0].st_mtime):
            path.unlink(missing_ok=True)
            total -= stat.st_size
            if total <= ROOM * self.most_bytes:
                return
