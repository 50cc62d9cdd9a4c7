"""TAP on 100,000 rows over the loopback, a new connection each, beside what DaCHS took on a machine of the same size.

DaCHS (2.7 of Debian, PostgreSQL with q3c, 2 cores) is not installed here: its figures were measured for the project
with the same questions, and stand for scale only. Bytes are those of the body. The joins by position stand beside the
same query compared pair by pair, in the same run.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn

from inzitu.manifest import Manifest
from inzitu.tables.cells import cells_at
from inzitu.web.app import create_app

ROWS, K = 100_000, 5
ROUNDS = 15


def table(rows: int, seed: int) -> pa.Table:
    """Return predictions over the whole sky, sorted by cell as the service writes them."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))
    cell = cells_at(ra, dec, 29)
    order = np.argsort(cell)

    def vectors(values: np.ndarray) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.astype("f4").ravel()), K)

    return pa.table(
        {
            "source_id": [f"s{i}" for i in range(rows)],
            "ra": ra[order],
            "dec": dec[order],
            "z": rng.uniform(0, 4, rows),
            "weights": vectors(rng.dirichlet(np.ones(K), rows)),
            "means": vectors(rng.uniform(0, 4, (rows, K))),
            "sigmas": vectors(rng.uniform(0.02, 0.4, (rows, K))),
            "_healpix_29": cell[order],
        }
    )


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve two such tables and give the address."""
    pq.write_table(table(ROWS, 1), folder / "sources.parquet", row_group_size=10_000)
    archive = {
        "surveys": [{"band": "r", "hips": "hips"}],
        "catalogue": {"path": str(folder / "sources.parquet"), "id": "source_id"},
    }
    manifest = Manifest.model_validate({"state": folder / "state", "archive": archive})
    server = uvicorn.Server(uvicorn.Config(create_app(manifest), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/tap"
    server.should_exit = True
    thread.join()


def timed(ask: Callable[[], int], rounds: int = ROUNDS) -> tuple[float, int]:
    """Return the median time [ms] and the bytes of the last answer; a first round is not counted."""
    size, times = ask(), []
    for _ in range(rounds):
        began = time.perf_counter()
        size = ask()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times), size


def synchronous(base: str, query: str, form: str = "votable") -> int:
    answer = httpx.post(f"{base}/sync", data={"QUERY": query, "FORMAT": form, "MAXREC": 200_000}, timeout=120)
    assert answer.status_code == 200, answer.text
    return len(answer.content)


def asynchronous(base: str, query: str) -> int:
    """Create a job, wait for its end by polling, and read its result."""
    url = httpx.post(f"{base}/async", data={"QUERY": query, "PHASE": "RUN"}).headers["location"]
    while (phase := httpx.get(f"{url}/phase").text) != "COMPLETED":
        assert phase in ("QUEUED", "EXECUTING"), phase
        time.sleep(0.01)
    return len(httpx.get(f"{url}/results/result").content)


def run() -> str:
    """Return the table of times."""
    sources = "archive.sources"
    cone = f"SELECT * FROM {sources} WHERE 1 = CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', 200, 30, 5))"
    everything = f"SELECT * FROM {sources}"
    pair = f"SELECT COUNT(*) AS n FROM {sources} AS a, {sources} AS b WHERE a.z > 3.9 AND b.z < 1 AND "
    near = "DISTANCE(a.ra, a.dec, b.ra, b.dec) < 0.05"
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as base:
        rows = [
            ("cone, about 190 rows, VOTable", "92 to 136", *timed(lambda: synchronous(base, cone))),
            ("count(*)", "78 to 131", *timed(lambda: synchronous(base, f"SELECT COUNT(*) AS n FROM {sources}"))),
            ("100,000 rows, CSV", "1,540", *timed(lambda: synchronous(base, everything, "csv"), 3)),
            ("100,000 rows, VOTable", "1,080", *timed(lambda: synchronous(base, everything), 3)),
            ("100,000 rows, Parquet", "", *timed(lambda: synchronous(base, everything, "parquet"), 3)),
            ("UWS: create, run, result of the cone", "3,060", *timed(lambda: asynchronous(base, cone))),
            (
                "100,000 medians of PDFs",
                "",
                *timed(
                    lambda: synchronous(
                        base, f"SELECT AVG(pz_quantile(weights, means, sigmas, 0.5)) AS m FROM {sources}"
                    ),
                    3,
                ),
            ),
            ("join by position of 2,500 with 25,000", "", *timed(lambda: synchronous(base, pair + near), 3)),
            ("the same, pair by pair", "", *timed(lambda: synchronous(base, f"{pair} ({near} OR a.z < 0)"), 1)),
        ]
    lines = [f"| {name} | {ms:,.0f} | {peer} | {size:,} |" for name, peer, ms, size in rows]
    return "\n".join(["| | inzitu [ms] | DaCHS [ms] | bytes |", "|---|--:|--:|--:|", *lines])
