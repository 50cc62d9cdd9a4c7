"""Predictions beside the redshifts that are known, for whoever compares them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inzitu.run.predictions import ESTIMATES

if TYPE_CHECKING:
    from pathlib import Path


def with_truth(predictions: Path, selection: Path) -> np.ndarray:
    """Return the predicted rows as a structured array, with the redshift the user sent as ``z`` (NaN where unknown).

    The fields are those of the table of predictions: source_id, z, the point estimates and the mixture's vectors [k].
    """
    table = pq.read_table(predictions)
    table = table.filter(pc.is_valid(table["z_median"]))
    known = pq.read_table(selection, columns=["z"])["z"].take(table["_row"])
    components = table.schema.field("weights").type.list_size
    vectors = [(name, np.float64, (components,)) for name in ("weights", "means", "sigmas")]
    fields = [("source_id", object), ("z", float), *((name, float) for name in ESTIMATES), *vectors]
    rows = np.empty(table.num_rows, dtype=fields)
    rows["source_id"] = table["source_id"].to_pylist()
    rows["z"] = known.to_numpy(zero_copy_only=False)
    for name in ESTIMATES:
        rows[name] = table[name].to_numpy()
    for name, _, _ in vectors:
        rows[name] = pc.list_flatten(table[name]).to_numpy().reshape(-1, components)
    return rows
