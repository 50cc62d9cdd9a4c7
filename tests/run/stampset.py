"""Artefacts as select and cut leave them, of sources whose redshift is their colour: where the later steps start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from learn.tiny import coloured

BANDS = ("g", "r")
NETWORK = "layers: [conv: {channels: 8, size: 3}, activation: relu, global_pool: average, dense: 16, activation: tanh]"


def write_stamps(
    folder: Path, *, training: int = 60, targets: int = 12, size: int = 8, **columns: Any
) -> dict[str, Path]:
    """Write selection, cutouts and both lists; `columns` join the selection."""
    count = training + targets
    images, z = coloured(count, size=size)
    middle = slice(size // 2 - 1, size // 2 + 1)
    role = np.repeat(["training", "targets"], [training, targets])
    place = np.concatenate([np.arange(training), np.arange(targets)])
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, count), rng.uniform(-60, 60, count)
    selection = {
        "row": np.arange(count),
        "list": role,
        "list_row": place,
        "source_id": [f"s{row}" for row in range(count)],
        "ra": ra,
        "dec": dec,
        "z": pa.array(np.where(role == "training", z, np.nan).astype(float), from_pandas=True),
        "mag_r": 22.5 - 2.5 * np.log10(images[:, middle, middle, 1].sum(axis=(1, 2))),
        "status": ["ok"] * count,
        "flags": [""] * count,
        "cell": np.arange(count),
    } | columns
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(selection), folder / "selection.parquet")
    lists = {}
    for name in ("training", "targets"):
        mine = role == name
        lists[name] = folder / f"{name}.parquet"
        ebv = np.where(place[mine] == 3, np.nan, rng.uniform(0, 0.3, mine.sum()))
        pq.write_table(pa.table({"ra": ra[mine], "dec": dec[mine], "EBV": ebv, "Z_TRUE": z[mine]}), lists[name])
    write_cutouts(folder / "cutouts", images)
    return {"selection": folder / "selection.parquet", "cutouts": folder / "cutouts", **lists}


def write_cutouts(folder: Path, images: np.ndarray) -> None:
    """Write the folder of cutouts; a band without a finite pixel makes its stamp blank."""
    folder.mkdir(exist_ok=True)
    there = np.isfinite(images).any(axis=(1, 2))
    np.save(folder / "pixels.npy", images.astype(np.float32))
    status = np.where(there.all(axis=1), "ok", "blank")
    rows = {
        "row": np.arange(len(images)),
        "status": status,
        "fraction": there.mean(axis=1),
        "flags": [""] * len(images),
    }
    pq.write_table(pa.table(rows), folder / "rows.parquet")
    about = {"bands": BANDS, "size": images.shape[1], "scale": 0.4, "units": ["nanomaggy"] * 2, "surveys": {}}
    (folder / "cutouts.json").write_text(json.dumps(about))


def z_of(rows: int) -> np.ndarray:
    """The true redshifts of the rows."""
    return coloured(rows)[1].astype(float)
