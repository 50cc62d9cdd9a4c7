"""Tables to ask questions of, over the whole sky, poles and RA 0 included."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy import units as u
from astropy.coordinates import Latitude, Longitude
from cdshealpix.nested import lonlat_to_healpix

ROWS = 3000
K = 5

type Ask = Callable[..., list[dict[str, Any]]]
"""Asks a query and gives its rows."""


class Files:
    """An artefact store whose identifiers are paths."""

    def path(self, artefact: str, /) -> Path:
        return Path(artefact)


def positions(seed: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Return positions spread evenly, with some at the poles and on either side of RA 0."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))
    ra[:40], dec[:40] = rng.uniform(0, 360, 40), rng.uniform(89.5, 90, 40)
    ra[40:80], dec[40:80] = rng.uniform(-0.3, 0.3, 40) % 360, rng.uniform(-1, 1, 40)
    return ra, dec


def _described(name: str, values: Any, **meaning: str) -> tuple[pa.Field, Any]:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.field(name, array.type, metadata=meaning), array


def predictions(seed: int = 0) -> pa.Table:
    """Return a table of predictions as the service publishes them."""
    rng = np.random.default_rng(seed)
    ra, dec = positions(seed)
    cell = lonlat_to_healpix(Longitude(ra, u.deg), Latitude(dec, u.deg), 29).astype(np.int64)
    order = np.argsort(cell)
    means = np.sort(rng.uniform(0.1, 5, (ROWS, K)), axis=1)
    predicted = pa.array(np.arange(ROWS) % 10 == 0)

    def mixture(values: np.ndarray) -> pa.Array:
        flat = pa.array(values.astype(np.float32).ravel())
        return pa.FixedSizeListArray.from_arrays(flat, K, mask=predicted)

    columns = [
        _described("source_id", [f"s{i}" for i in range(ROWS)], ucd="meta.id;meta.main", description="Name & number"),
        _described("ra", ra[order], unit="deg", ucd="pos.eq.ra;meta.main"),
        _described("dec", dec[order], unit="deg", ucd="pos.eq.dec;meta.main"),
        _described("z_mean", pa.array(means.mean(axis=1).astype(np.float32), mask=predicted.to_numpy(False))),
        _described("z_true", rng.uniform(0.1, 5, ROWS)),
        _described("weights", mixture(rng.dirichlet(np.ones(K), ROWS)), ucd="stat.weight"),
        _described("means", mixture(means)),
        _described("sigmas", mixture(rng.uniform(0.02, 0.5, (ROWS, K)))),
        _described("_row", np.arange(ROWS)),
        _described("_healpix_29", cell[order]),
    ]
    return pa.table([array for _, array in columns], schema=pa.schema([field for field, _ in columns]))
