"""The table of predictions: its columns, with the units, UCDs and descriptions that TAP_SCHEMA shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inzitu.run.stamps import StampSet

ESTIMATES = ("z_mean", "z_median", "z_mode", "z_sigma", "z_q025", "z_q16", "z_q84", "z_q975")


def _field(name: str, kind: pa.DataType, ucd: str, description: str, unit: str = "") -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "ucd": ucd, "description": description})


def schema(components: int) -> pa.Schema:
    """Return the columns of a table of predictions with mixtures of that many Gaussians."""
    vector = pa.list_(pa.float32(), components)
    number = pa.float32()
    phot = "src.redshift.phot"
    quantile = "{} % quantile of the redshift's PDF"
    return pa.schema(
        [
            _field("source_id", pa.string(), "meta.id;meta.main", "The user's identifier of the source"),
            _field("ra", pa.float64(), "pos.eq.ra;meta.main", "Right ascension as sent, ICRS", "deg"),
            _field("dec", pa.float64(), "pos.eq.dec;meta.main", "Declination as sent, ICRS", "deg"),
            _field("status", pa.string(), "meta.code.status", "ok, partial, or why there is no prediction"),
            _field("flags", pa.string(), "meta.code", "Remarks on the row, separated by commas"),
            _field("z_mean", number, f"{phot};stat.mean", "Mean of the redshift's PDF"),
            _field("z_median", number, f"{phot};stat.median", "Median of the redshift's PDF"),
            _field("z_mode", number, phot, "Redshift where the PDF is highest"),
            _field("z_sigma", number, f"stat.stdev;{phot}", "Standard deviation of the redshift's PDF"),
            _field("z_q025", number, f"stat.value;{phot}", quantile.format("2.5")),
            _field("z_q16", number, f"stat.value;{phot}", quantile.format("16")),
            _field("z_q84", number, f"stat.value;{phot}", quantile.format("84")),
            _field("z_q975", number, f"stat.value;{phot}", quantile.format("97.5")),
            _field(
                "weights",
                vector,
                "stat.weight",
                "Weights of the PDF's Gaussian components; their sum is 1, more where it ends at z = 0",
            ),
            _field("means", vector, f"{phot};stat.mean", "Means of the PDF's Gaussian components"),
            _field("sigmas", vector, f"stat.stdev;{phot}", "Standard deviations of the PDF's Gaussian components"),
            _field(
                "ood", number, "stat.param", "Out-of-domain score: the higher, the less the source is like training"
            ),
            _field("model_id", pa.string(), "meta.id.assoc", "SHA-256 of the model that made the row: /models/{id}"),
            _field("_row", pa.int64(), "meta.record", "Row of the job's selection"),
            _field("_healpix_29", pa.int64(), "pos.healpix", "HEALPix cell of order 29, nested, of the position"),
        ]
    )


def predictions_table(
    stamps: StampSet,
    rows: np.ndarray,
    index: np.ndarray,
    columns: Mapping[str, np.ndarray],
    *,
    readiness: tuple[np.ndarray, np.ndarray],
    components: int,
    head: str,
    model: str,
) -> pa.Table:
    """Return the table of some of the selection's rows, sorted by HEALPix cell.

    Parameters
    ----------
    stamps
        The job's stamps.
    rows
        The rows of the selection [m] that the table holds.
    index
        Which stamps [n] were predicted; all belong to `rows`.
    columns
        Mixture, estimates and out-of-domain score of the predicted stamps [n, ..].
    readiness
        Status and flags of each stamp.
    components
        Gaussians of the mixture.
    head
        What the network predicts: kept in the file, so that PDFs of bins can be had back exactly.
    model
        Identifier of the model.
    """
    selection = stamps.selection.take(pa.array(rows))
    place = {row: i for i, row in enumerate(rows.tolist())}
    status = np.asarray(selection["status"], dtype=object)
    flags = np.asarray(selection["flags"], dtype=object)
    for stamp, row in enumerate(stamps.column("row").tolist()):
        if row in place:
            i = place[row]
            status[i] = readiness[0][stamp]
            flags[i] = ",".join(filter(None, (flags[i], readiness[1][stamp])))
    at = np.array([place[row] for row in stamps.column("row")[index].tolist()], dtype=np.int64)
    found = np.zeros(len(rows), dtype=bool)
    found[at] = True
    data: dict[str, pa.Array] = {name: selection[name] for name in ("source_id", "ra", "dec")}
    data |= {"status": pa.array(status, pa.string()), "flags": pa.array(flags, pa.string())}
    for name in (*ESTIMATES, "ood"):
        data[name] = _spread(columns.get(name), at, found)
    for name in ("weights", "means", "sigmas"):
        data[name] = _spread_vectors(columns.get(name), at, found, components)
    data["model_id"] = pa.array([model] * len(rows))
    data["_row"] = pa.array(rows)
    data["_healpix_29"] = selection["cell"]
    declared = schema(components).with_metadata({"head": head})
    table = pa.table([_plain(data[name]).cast(declared.field(name).type) for name in declared.names], schema=declared)
    return table.sort_by("_healpix_29")


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _spread(values: np.ndarray | None, at: np.ndarray, found: np.ndarray) -> pa.Array:
    """Return one number a row, null where nothing was predicted."""
    spread = np.zeros(len(found), dtype=np.float32)
    if values is not None:
        spread[at] = values
    return pa.array(spread, mask=~found)


def _spread_vectors(values: np.ndarray | None, at: np.ndarray, found: np.ndarray, components: int) -> pa.Array:
    spread = np.zeros((len(found), components), dtype=np.float32)
    if values is not None:
        spread[at] = values
    flat = pa.array(spread.ravel())
    return pa.FixedSizeListArray.from_arrays(flat, components, mask=pa.array(~found))
