"""Crossmatch of 5 million with 5 million rows at 1.5 arcsec, process start to end, beside STILTS, DuckDB and SciPy.

All read files and write files. Ours, DuckDB and SciPy read Parquet; STILTS reads FITS, its fastest input. All write the
nearest row of B for each row of A. The pairs of each are compared with those of the k-d tree over everything.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RADIUS = 1.5
ROWS = int(os.environ.get("BENCH_ROWS", "5000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
DATA = Path("bench-data") / "crossmatch"
type Columns = dict[str, np.ndarray]


def sphere(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [deg] uniform on the sphere."""
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def moved(ra: np.ndarray, dec: np.ndarray, east: np.ndarray, north: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions moved by offsets in their tangent planes [deg]."""
    lon, lat, x, y = map(np.radians, (ra, dec, east, north))
    across = np.cos(lat) - y * np.sin(lat)
    up = np.sin(lat) + y * np.cos(lat)
    return np.degrees(lon + np.arctan2(x, across)) % 360, np.degrees(np.arctan2(up, np.hypot(x, across)))


def spectra_and_archive(n: int, *, seed: int) -> tuple[Columns, Columns]:
    """Make a list of spectra and an archive.

    Half of the spectra are uniform on the sphere, half in 2,000 discs of one degree. Of the archive, 30 % are spectra
    moved by a Gaussian of 0.3 arcsec an axis, the rest is uniform.
    """
    rng = np.random.default_rng(seed)
    half, matched = n // 2, int(0.3 * n)
    centres = sphere(rng, 2000)
    disc = rng.integers(0, 2000, n - half)
    distance, angle = 0.5 * np.sqrt(rng.uniform(size=n - half)), rng.uniform(0, 2 * np.pi, n - half)
    lone = sphere(rng, half)
    crowded = moved(centres[0][disc], centres[1][disc], distance * np.cos(angle), distance * np.sin(angle))
    order = rng.permutation(n)
    ra, dec = (np.concatenate(parts)[order] for parts in zip(lone, crowded, strict=True))
    source = rng.choice(n, matched, replace=False)
    east, north = rng.normal(0, 0.3 / 3600, matched), rng.normal(0, 0.3 / 3600, matched)
    known, unknown = moved(ra[source], dec[source], east, north), sphere(rng, n - matched)
    order = rng.permutation(n)
    redshift = rng.gamma(2, 0.3, n).astype("f4")
    ra2, dec2 = (np.concatenate(parts)[order] for parts in zip(known, unknown, strict=True))
    row = np.arange(n)
    return (
        {"id": row, "ra": ra, "dec": dec, "z": redshift},
        {"id": row, "ra": ra2, "dec": dec2, "mag": rng.uniform(14, 22, n).astype("f4")},
    )


def prepare(folder: Path, rows: int) -> None:
    """Write both lists as Parquet and FITS, unless they are there."""
    from astropy.table import Table

    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "B.fits").exists():
        return
    for name, columns in zip("AB", spectra_and_archive(rows, seed=42), strict=True):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", compression="zstd")
        Table(columns).write(folder / f"{name}.fits", overwrite=True)


# The contenders, each a process of its own.


def match_ours(folder: Path, out: Path) -> None:
    """Match with inzitu."""
    from inzitu.archive.matching import crossmatch_files

    crossmatch_files(folder / "A.parquet", folder / "B.parquet", RADIUS, out)


def match_duckdb(folder: Path, out: Path) -> None:
    """Match by a join on HEALPix cells of order 12 (51.5 arcsec), rows of B near an edge repeated around it."""
    import duckdb
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix, neighbours

    order, margin = 12, 1.6 * RADIUS / 51.5
    a, b = (pq.read_table(folder / f"{name}.parquet", columns=["ra", "dec"]) for name in "AB")
    cell_a = lonlat_to_healpix(Longitude(a["ra"].to_numpy(), "deg"), Latitude(a["dec"].to_numpy(), "deg"), order)
    cell_b, dx, dy = lonlat_to_healpix(
        Longitude(b["ra"].to_numpy(), "deg"), Latitude(b["dec"].to_numpy(), "deg"), order, return_offsets=True
    )
    edge = np.flatnonzero(np.minimum(np.minimum(dx, dy), 1 - np.maximum(dx, dy)) < margin)
    around = neighbours(cell_b[edge], order)[:, [k for k in range(9) if k != 4]]
    there = around >= 0
    extra = np.repeat(edge, there.sum(axis=1))
    rows_b = np.concatenate([np.arange(len(b)), extra])
    cells_b = np.concatenate([cell_b.astype(np.int64), around[there].astype(np.int64)])
    a = a.append_column("cell", pa.array(cell_a.astype(np.int64))).append_column("row", pa.array(np.arange(len(a))))
    b = b.take(pa.array(rows_b)).append_column("cell", pa.array(cells_b)).append_column("row", pa.array(rows_b))
    with duckdb.connect() as connection:
        connection.register("a", a)
        connection.register("b", b)
        connection.execute(f"""
            copy (
                select row_a, arg_min(row_b, separation) as row_b, min(separation) as separation from (
                    select a.row as row_a, b.row as row_b, 7200 * degrees(asin(least(1, sqrt(
                        pow(sin(radians(b.dec - a.dec) / 2), 2) +
                        cos(radians(a.dec)) * cos(radians(b.dec)) * pow(sin(radians(b.ra - a.ra) / 2), 2)
                    )))) as separation
                    from a join b on a.cell = b.cell and abs(a.dec - b.dec) <= {RADIUS / 3600}
                ) where separation <= {RADIUS} group by row_a
            ) to '{out}' (format parquet)
        """)


def match_tree(folder: Path, out: Path) -> None:
    """Match with SciPy's k-d tree over all of B."""
    from scipy.spatial import cKDTree

    points = []
    for name in "AB":
        table = pq.read_table(folder / f"{name}.parquet", columns=["ra", "dec"])
        lon, lat = (np.radians(table[column].to_numpy()) for column in ("ra", "dec"))
        points.append(np.column_stack([np.cos(lon) * np.cos(lat), np.sin(lon) * np.cos(lat), np.sin(lat)]))
    reach = 2 * np.sin(np.radians(RADIUS / 3600) / 2)
    distance, row = cKDTree(points[1]).query(points[0], distance_upper_bound=np.nextafter(reach, 1), workers=-1)
    here = np.flatnonzero(np.isfinite(distance))
    separation = 3600 * np.degrees(2 * np.arcsin(distance[here] / 2))
    pq.write_table(pa.table({"row_a": here, "row_b": row[here], "separation": separation}), out)


def read_and_write_only(folder: Path, out: Path) -> None:
    """Do nothing but the reading and the writing that any match of Parquet files must do: the floor."""
    tables = [pq.read_table(folder / f"{name}.parquet", columns=["ra", "dec"]) for name in "AB"]
    rows = np.arange(int(0.3 * len(tables[0])))
    pq.write_table(pa.table({"row_a": rows, "row_b": rows, "separation": rows.astype("f8")}), out, compression="zstd")


CONTENDERS = {
    "inzitu": match_ours,
    "SciPy cKDTree": match_tree,
    "DuckDB, HEALPix cells": match_duckdb,
    "reading and writing only": read_and_write_only,
}


def stilts(folder: Path, out: Path) -> list[str]:
    """Return the command of STILTS."""
    lists = [
        f"{key}{k}={value}"
        for k, name in ((1, "A"), (2, "B"))
        for key, value in (("in", folder / f"{name}.fits"), ("ra", "ra"), ("dec", "dec"))
    ]
    return [
        *("stilts", "tskymatch2", *lists, f"error={RADIUS}", "find=best1", "join=1and2", f"out={out}"),
        "ofmt=fits-basic",
    ]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took.

    Attributes
    ----------
    wall, processor
        Time [s].
    memory
        Largest resident set [GB].
    """

    wall: float
    processor: float
    memory: float


def cost_of(command: list[str]) -> Cost:
    """Run a command to its end."""
    import time

    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        said = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {said.decode()[-500:]}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6)


def pairs_in(path: Path) -> set[tuple[int, int]]:
    """Return the pairs that a contender wrote."""
    if path.suffix == ".fits":
        from astropy.table import Table

        table = Table.read(path)
        first, second = np.asarray(table["id_1"]), np.asarray(table["id_2"])
    else:
        columns = pq.read_table(path, columns=["row_a", "row_b"])
        first, second = columns["row_a"].to_numpy(), columns["row_b"].to_numpy()
    return set(zip(first.tolist(), second.tolist(), strict=True))


def run() -> str:
    """Measure all contenders in turn and return the table."""
    folder = DATA / str(ROWS)
    prepare(folder, ROWS)
    commands = {name: [sys.executable, "-m", "benchmarks.crossmatch", name, str(folder)] for name in CONTENDERS}
    outputs = {name: folder / f"{name.split()[0].rstrip(',')}.pairs.parquet" for name in CONTENDERS}
    if shutil.which("stilts"):
        outputs["STILTS tskymatch2"] = folder / "stilts.pairs.fits"
        commands["STILTS tskymatch2"] = stilts(folder, outputs["STILTS tskymatch2"])
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for turn in range(ROUNDS + 1):
        for name, command in commands.items():
            cost = cost_of(command)
            if turn:
                costs[name].append(cost)
    return _table(costs, outputs)


def _table(costs: dict[str, list[Cost]], outputs: dict[str, Path]) -> str:
    truth = pairs_in(outputs["SciPy cKDTree"])
    ours = statistics.median(cost.wall for cost in costs["inzitu"])
    lines = [
        f"{ROWS:,} x {ROWS:,} rows, {RADIUS} arcsec, {ROUNDS} rounds, medians.\n",
        "| | wall [s] | processor [s] | memory [GB] | wall / ours | pairs | differing from the tree |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in sorted(costs.items(), key=lambda item: statistics.median(cost.wall for cost in item[1])):
        wall, processor, memory = (
            statistics.median(getattr(cost, what) for cost in found) for what in ("wall", "processor", "memory")
        )
        pairs = pairs_in(outputs[name]) if not name.startswith("reading") else None
        answer = "| |" if pairs is None else f"{len(pairs):,} | {len(pairs ^ truth)} |"
        lines.append(f"| {name} | {wall:.2f} | {processor:.2f} | {memory:.2f} | {wall / ours:.2f} | {answer}")
    return "\n".join(lines)


if __name__ == "__main__":
    contender, data = sys.argv[1], Path(sys.argv[2])
    CONTENDERS[contender](data, data / f"{contender.split()[0].rstrip(',')}.pairs.parquet")
