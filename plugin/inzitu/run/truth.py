"""Predictions beside the redshifts that are known, for whoever compares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inzitu.learn import published
from inzitu.run.predictions import ESTIMATES

if TYPE_CHECKING:
    from pathlib import Path

    from inzitu.learn.bins import Histogram
    from inzitu.learn.mixture import Mixture


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """The rows of a table of predictions that have a prediction.

    Attributes
    ----------
    rows
        Structured array: source_id, the row of the selection, the point estimates, the mixture's vectors [k], and as
        ``z`` the redshift that the user sent, NaN where unknown.
    head
        What the network predicted.
    """

    rows: np.ndarray
    head: str

    @classmethod
    def read(cls, predictions: Path, selection: Path) -> Self:
        """Read a table of predictions, and the redshifts of its job's selection."""
        table = pq.read_table(predictions)
        table = table.filter(pc.is_valid(table["z_median"]))
        known = pq.read_table(selection, columns=["z"])["z"].take(table["_row"])
        components = table.schema.field("weights").type.list_size
        vectors = [(name, np.float64, (components,)) for name in ("weights", "means", "sigmas")]
        rows = np.empty(
            table.num_rows,
            dtype=[
                ("source_id", object),
                ("row", np.int64),
                ("z", float),
                *((name, float) for name in ESTIMATES),
                *vectors,
            ],
        )
        rows["source_id"] = table["source_id"].to_pylist()
        rows["row"] = table["_row"].to_numpy()
        rows["z"] = known.to_numpy(zero_copy_only=False)
        for name in ESTIMATES:
            rows[name] = table[name].to_numpy()
        for name, _, _ in vectors:
            rows[name] = pc.list_flatten(table[name]).to_numpy().reshape(-1, components)
        return cls(rows, table.schema.metadata[b"head"].decode())

    @property
    def known(self) -> Self:
        """The rows whose redshift is known."""
        return type(self)(self.rows[np.isfinite(self.rows["z"])], self.head)

    @property
    def pdfs(self) -> Mixture | Histogram:
        """The PDFs, exactly as predicted."""
        return published.distribution({name: self.rows[name] for name in ("weights", "means", "sigmas")}, self.head)

    def __len__(self) -> int:
        return len(self.rows)
