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

    @property
    def complete(self) -> np.ndarray:
        """Which stamps have all their pixels in all bands."""
        return np.asarray(self.column("cut_status") == "ok")

    @property
    def usable(self) -> np.ndarray:
        """Which stamps have pixels in all bands, if not all of them."""
        return np.isin(self.column("cut_status").astype(str), ("ok", "partial"))

    def images(self, index: np.ndarray) -> np.ndarray:
        """Return stamps (n, y, x, band), with sky, zero, where a partial one has no pixel."""
        return np.asarray(np.nan_to_num(self.pixels[index], copy=True, nan=0.0))
