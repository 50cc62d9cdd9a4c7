"""The tiles that a run of cutouts has open, and the account of what was read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Integer

from inzitu.hips.gather import FAILED, Sources
from inzitu.hips.sampling import Plan
from inzitu.hips.survey import Survey
from inzitu.hips.tiles import Tile, TileError

OPEN = 128
"""Most tiles held open beside those in use: files and memory are bounded."""

CHUNK_ENTRIES = 200_000
CHUNK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class TileRead:
    """What was read of a tile while it was open: what the record needs to name it."""

    uri: str
    band: int
    bytes: int
    """How many were read."""
    sha256: str
    """Of the bytes read; empty if it was not asked for."""
    ranges: str
    """Which these are, as HTTP writes ranges (RFC 9110, section 14.1.1); empty for the whole file."""


@dataclass(slots=True, eq=False)
class Reader:
    """Opens tiles as plans need them, keeps the last, and counts. One a thread."""

    surveys: Sequence[Survey]
    digests: bool
    errors: dict[tuple[int, int], TileError] = field(default_factory=dict)
    _tiles: dict[tuple[int, int], Tile | None] = field(default_factory=dict)
    _reads: list[TileRead] = field(default_factory=list)

    def sources(self, plan: Plan, band: int) -> Sources:
        """Return where the pixels of a plan's tiles are in memory, for one survey."""
        sources = Sources.empty(len(plan.tiles))
        rows = dict(zip(plan.tiles.tolist(), plan.rows.tolist(), strict=True))
        self._have(band, rows)
        for slot, npix in enumerate(rows):
            key = band, npix
            if key in self.errors:
                sources.bitpix[slot] = FAILED
            elif tile := self._tiles[key]:
                layout = tile.layout
                sources.address[slot], sources.bitpix[slot] = tile.address, layout.bitpix
                sources.scale[slot], sources.zero[slot] = layout.scale, layout.zero
                if layout.blank is not None:
                    sources.blank[slot] = layout.blank
        return sources

    def trim(self) -> None:
        """Close the oldest tiles beyond the bound; to be called between plans."""
        for key in list(self._tiles)[: max(0, len(self._tiles) - OPEN)]:
            self._close(key)

    def close(self) -> tuple[TileRead, ...]:
        """Close all tiles; return what was read."""
        for key in list(self._tiles):
            self._close(key)
        return tuple(self._reads)

    def _have(self, band: int, rows: dict[int, list[int]]) -> None:
        """Have these rows of these tiles in memory, or know why not."""
        many = self.surveys[band].place.parallel
        if many == 1:
            found = [self._opened(band, npix, *span) for npix, span in rows.items()]
        else:
            with ThreadPoolExecutor(many) as pool:
                found = list(pool.map(lambda item: self._opened(band, item[0], *item[1]), rows.items()))
        for npix, tile in zip(rows, found, strict=True):
            self._tiles.pop((band, npix), None)
            if isinstance(tile, TileError):
                self.errors[band, npix] = tile
            else:
                self._tiles[band, npix] = tile  # now among the youngest

    def _opened(self, band: int, npix: int, first: int, last: int) -> Tile | TileError | None:
        """Return a tile with some rows in memory, None if there is none, or what is wrong with it."""
        key = band, npix
        if key in self.errors:
            return self.errors[key]
        tile = self._tiles.get(key)
        try:
            if key not in self._tiles:
                tile = self.surveys[band].tile(npix, digest=self.digests)
            if tile:
                tile.need(first, last)
        except TileError as error:
            if tile:
                tile.close()
            return error
        return tile

    def _close(self, key: tuple[int, int]) -> None:
        if tile := self._tiles.pop(key):
            tile.close()
            self._reads.append(TileRead(tile.uri, key[0], tile.bytes_read, tile.sha256, tile.ranges))


def chunk_bounds(tiles: Integer[np.ndarray, " n"], *, entries: int, tile_bytes: int) -> list[int]:
    """Return where to part stamps that are planned at once: enough to share tiles, few enough to stay in the cache.

    Parameters
    ----------
    tiles
        Tile of each stamp's centre, neighbours together.
    entries
        Entries of a plan for one stamp; those of a chunk are held to CHUNK_ENTRIES.
    tile_bytes
        Bytes of a tile in all bands; those of a chunk, about two to a centre, are held to CHUNK_BYTES.
    """
    nth = np.cumsum(np.diff(tiles, prepend=tiles[:1]) != 0)
    most_rows, most_tiles = max(1, CHUNK_ENTRIES // entries), max(1, CHUNK_BYTES // (2 * tile_bytes))
    bounds = [0]
    while bounds[-1] < len(tiles):
        start = bounds[-1]
        bounds.append(min(start + most_rows, int(np.searchsorted(nth, nth[start] + most_tiles))))
    return bounds
