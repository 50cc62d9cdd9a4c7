"""A HiPS behind http(s)."""

from __future__ import annotations

from dataclasses import dataclass

from inzitu.hips.tiles import Handle


@dataclass(frozen=True, slots=True)
class Remote:
    """The files of a HiPS behind http(s)."""

    uri: str

    @classmethod
    def at(cls, url: str) -> Remote:
        """Return the files under a base."""
        return cls(url.rstrip("/"))

    def open(self, path: str) -> Handle | None:
        """Open a file of the HiPS; None if there is none of that name."""
        raise OSError(f"{self.uri}/{path} cannot be read yet.")

    def size(self, path: str) -> int | None:
        """Return the bytes of a file of the HiPS; None if there is none of that name."""
        return None
