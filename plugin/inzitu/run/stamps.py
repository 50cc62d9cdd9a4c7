"""A job's stamps beside the rows they belong to: what training and prediction read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTIAL_BAND, INVALID_SCALAR = "partial-band", "invalid-scalar"
TRAINED = ("ok", PARTIAL_BAND)
PREDICTED = ("ok", "partial", PARTIAL_BAND)
"""The statuses of stamps to learn from, and of those with a prediction."""


@dataclass(frozen=True, slots=True, eq=False)
class StampSet:
    """The cutouts of a job, joined with their rows of the selection.

    Attributes
    ----------
    pixels
        Memory-mapped stamps (n, y, x, band).
    rows
        The selection's row of each stamp, with the columns of the selection and ``cut_status``, ``fraction`` and
        ``cut_flags`` of the stamp.
    selection
        Every row of the selection, stamped or not.
    description
        Bands, size, scale [arcsec], units and survey properties.
    """

    pixels: np.ndarray
    rows: pa.Table
    selection: pa.Table
    description: Mapping[str, Any]

    @classmethod
    def open(cls, inputs: Mapping[str, Path]) -> Self:
        """Open the artefacts of the roles selection and cutouts."""
        selection = pq.read_table(inputs["selection"])
        folder = inputs["cutouts"]
        cut = pq.read_table(folder / "rows.parquet").rename_columns({"status": "cut_status", "flags": "cut_flags"})
        rows = selection.take(cut["row"])
        for name in ("cut_status", "fraction", "cut_flags"):
            rows = rows.append_column(name, cut[name])
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        description = json.loads((folder / "cutouts.json").read_text(encoding="utf-8"))
        return cls(pixels, rows, selection, description)

    def column(self, name: str) -> np.ndarray:
        """Return one column of `rows`."""
        return np.asarray(self.rows[name].to_numpy(zero_copy_only=False))

    def images(self, index: np.ndarray) -> np.ndarray:
        """Return stamps (n, y, x, band); a pixel that is not there is NaN, which networks see as sky."""
        return np.asarray(self.pixels[index])

    def readiness(self, *, masked: bool, scalars: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return status and flags of each stamp [n] for a network.

        Parameters
        ----------
        masked
            Whether the network knows which bands of a stamp are there, and so can do without some.
        scalars
            The numbers that it takes beside a stamp [n].
        """
        status, flags = (self.column(name).astype(object) for name in ("cut_status", "cut_flags"))
        if masked:
            for stamp in np.flatnonzero(status == "blank"):
                there = np.isfinite(self.pixels[stamp]).any(axis=(0, 1))
                if there.any():
                    missing = [
                        f"no-{band}" for band, has in zip(self.description["bands"], there, strict=True) if not has
                    ]
                    status[stamp] = PARTIAL_BAND
                    flags[stamp] = ",".join(filter(None, (flags[stamp], *missing)))
        unknown = np.zeros(len(status), bool)
        for values in scalars.values():
            unknown |= ~np.isfinite(values)
        status[unknown & np.isin(status.astype(str), PREDICTED)] = INVALID_SCALAR
        return status, flags
