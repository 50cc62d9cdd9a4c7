"""Cutouts beside their peers, on HiPS trees that CDS's Hipsgen made from SDSS frames.

The frames are of one field of 6 x 6 arcmin, so a dense list shares its tiles. For a sparse list, as quasars are, a tile
stands under many names (hard links) all over the northern sky: each stamp then opens tiles of its own, at the cost of
opening real ones, with their bytes in the page cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.coordinates import Latitude, Longitude
from astropy.io import fits
from astropy.wcs import WCS
from cdshealpix.nested import bilinear_interpolation

from inzitu.hips import Status, Survey, bytes_to_read, cutouts, groups
from inzitu.hips.projection import stamp_axes
from inzitu.hips.sampling import plan
from inzitu.hips.writing import nested_to_image, tile_path

DATA = Path("bench-data/cutouts")
FIELD = Path("../shared/data/fields/sdss-2010H")
ALADIN = "/usr/share/java/aladin.jar"
BANDS = {"u": "u", "g": "r", "r": "r", "i": "i", "z": "z"}  # there is no frame in g: r stands in, in files of its own
ORDER, SIZE, SCALE = 10, 28, 0.396
DENSE, SPARSE, LOOP, BATCH = 20_000, 60_000, 20, 400
ROUNDS = 3
LINKS = 40_000
"""Names for one file: file systems bound them."""


def run() -> str:
    if not FIELD.exists() or not Path(ALADIN).exists():
        return "Not run: it needs the SDSS frames of the shared data and Debian's aladin."
    dense = [Survey.open(_hipsgen(band, frame)) for band, frame in BANDS.items()]
    ra, dec = _in_field(DENSE)
    cutouts(dense, ra[:100], dec[:100], size=SIZE, scale=SCALE)  # compiled, and the tiles in the page cache
    contenders: list[tuple[str, int, Callable[[], object]]] = [
        ("loop", LOOP, lambda: _loop(dense, ra[:LOOP], dec[:LOOP])),
        ("loop, all at once", BATCH, lambda: _batched(dense, ra[:BATCH], dec[:BATCH])),
        ("inzitu, 1 thread", DENSE, lambda: _cut(dense, ra, dec, 1, False)),
        ("inzitu, 2 threads", DENSE, lambda: _cut(dense, ra, dec, 2, False)),
        ("inzitu, 2 threads, with digests", DENSE, lambda: _cut(dense, ra, dec, 2, True)),
        ("inzitu, 2 threads, area weights", BATCH, lambda: _cut(dense, ra[:BATCH], dec[:BATCH], 2, False, "area")),
    ]
    parts = [_table(contenders), _agreement(dense[0], ra, dec), _sparse(dense), _cold(dense), _roofline(dense, ra, dec)]
    return "\n\n".join(parts)


def _table(contenders: list[tuple[str, int, Callable[[], object]]]) -> str:
    """Time the contenders in turns; the best of their rounds counts, for a neighbour's load only ever adds."""
    lines = [
        "| 28 x 28, 5 bands, bilinear | stamps | s | Mpix/s | a core, by processor time | |",
        "|---|---|---|---|---|---|",
    ]
    rounds = [[_timed(work) for _, _, work in contenders] for _ in range(ROUNDS)]
    loop = 0.0
    for index, (name, rows, _) in enumerate(contenders):
        wall = min(times[index][0] for times in rounds)
        processor = min(times[index][1] for times in rounds)
        pixels = rows * SIZE**2 * len(BANDS) / 1e6
        loop = loop or pixels / wall
        lines.append(
            f"| {name} | {rows:,} | {wall:.2f} | {pixels / wall:.3g} | {pixels / processor:.3g} "
            f"| {pixels / wall / loop:.0f} x the loop |"
        )
    return "\n".join(lines)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return seconds by the clock and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def _cut(
    surveys: list[Survey],
    ra: np.ndarray,
    dec: np.ndarray,
    threads: int,
    digests: bool,
    resampling: str = "bilinear",
) -> None:
    cut = cutouts(surveys, ra, dec, size=SIZE, scale=SCALE, threads=threads, digests=digests, resampling=resampling)
    assert (cut.status == Status.OK).all()


def _hipsgen(band: str, frame: str) -> Path:
    """Return the HiPS of a frame, made by Hipsgen unless it is there."""
    root = DATA / band
    if not (root / "properties").exists():
        images = DATA / f"in-{band}"
        images.mkdir(parents=True, exist_ok=True)
        shutil.copy(FIELD / f"SDSS_{frame}.fits", images)
        command = ["java", "-Djava.awt.headless=true", "-jar", ALADIN, "-hipsgen", f"in={images}", f"out={root}"]
        command += [f"creator_did=X/P/{band}", f"hips_order={ORDER}", "INDEX", "TILES"]
        subprocess.run(command, check=True, capture_output=True)
    return root


def _in_field(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(121.56, 121.645, count), rng.uniform(0.995, 1.078, count)


def _target(ra: float, dec: float) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = (SIZE + 1) / 2, (SIZE + 1) / 2
    wcs.wcs.cdelt = -SCALE / 3600, SCALE / 3600
    return wcs


def _sky(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    places = [_target(a, d).pixel_to_world_values(x.ravel(), y.ravel()) for a, d in zip(ra, dec, strict=True)]
    lon, lat = np.concatenate([place[0] for place in places]), np.concatenate([place[1] for place in places])
    return lon, lat


def _loop(surveys: list[Survey], ra: np.ndarray, dec: np.ndarray) -> None:
    """A stamp and band at a time, with astropy's WCS, cdshealpix and astropy.io.fits: what a notebook does."""
    for k in range(len(ra)):
        for survey in surveys:
            _batched([survey], ra[k : k + 1], dec[k : k + 1])


def _batched(surveys: list[Survey], ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """All stamps at once, with the same libraries."""
    lon, lat = _sky(ra, dec)
    stamps = np.empty((len(ra), SIZE, SIZE, len(surveys)))
    for band, survey in enumerate(surveys):
        width = survey.tile_width
        pixels, weights = bilinear_interpolation(Longitude(lon, "deg"), Latitude(lat, "deg"), survey.stated.pixel_order)
        place = np.empty(width**2, int)
        place[nested_to_image(width).ravel()] = np.arange(width**2)
        values = np.empty(pixels.shape)
        tiles = (pixels // width**2).astype(int)
        for npix in np.unique(tiles).tolist():
            with fits.open(Path(survey.uri.removeprefix("file://")) / tile_path(survey.order, npix)) as file:
                mine = tiles == npix
                values[mine] = file[0].data.ravel()[place[(pixels[mine] % width**2).astype(int)]]
        stamps[..., band] = (values * weights).sum(axis=1).reshape(len(ra), SIZE, SIZE)
    return stamps


def _agreement(survey: Survey, ra: np.ndarray, dec: np.ndarray) -> str:
    """Compare with the loop, and with reproject on a tile's own projection."""
    from reproject import reproject_interp

    ours = cutouts([survey], ra[:BATCH], dec[:BATCH], size=SIZE, scale=SCALE).pixels
    theirs = _batched([survey], ra[:BATCH], dec[:BATCH])
    worst = np.abs(ours - theirs).max() / np.abs(theirs).max()
    tile = _fullest(survey)
    with warnings.catch_warnings(), fits.open(tile) as file:
        warnings.simplefilter("ignore")
        header, data = file[0].header, file[0].data.astype(float)
        # Around the middle of the tile, for reproject sees one tile only and repeats pixels at its edges.
        at = WCS(header).pixel_to_world(survey.tile_width / 2, survey.tile_width / 2)
        target = _target(at.ra.deg, at.dec.deg)
        reprojected, _ = reproject_interp((data, header), target, shape_out=(SIZE, SIZE), order="bilinear")
    stamp = cutouts([survey], at.ra.deg, at.dec.deg, size=SIZE, scale=SCALE).pixels[0, ..., 0]
    apart = np.abs(stamp - reprojected).max() / np.abs(reprojected).max()
    return (
        f"Agreement, largest difference over largest value: with the loop {worst:.1e} on {BATCH} stamps, "
        f"with reproject on a tile of Hipsgen's {apart:.1e}."
    )


def _fullest(survey: Survey) -> Path:
    tiles = Path(survey.uri.removeprefix("file://")).glob(f"Norder{ORDER}/*/*.fits")
    return max(tiles, key=lambda path: np.isfinite(fits.getdata(path)).sum())


def _sparse(dense: list[Survey]) -> str:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, SPARSE), np.degrees(np.arcsin(rng.uniform(0, 1, SPARSE)))
    axes = stamp_axes(ra, dec, np.zeros(SPARSE), "equatorial")
    tiles = plan(axes, size=SIZE, step=np.radians(SCALE / 3600), grid=dense[0].grid, resampling="bilinear").tiles
    surveys = [_linked(survey, tiles, band) for survey, band in zip(dense, BANDS, strict=True)]
    cutouts(surveys, ra, dec, size=SIZE, scale=SCALE, digests=False, threads=2)
    plain, processor = _timed(lambda: cutouts(surveys, ra, dec, size=SIZE, scale=SCALE, digests=False, threads=2))
    hashed, hashing = _timed(lambda: cutouts(surveys, ra, dec, size=SIZE, scale=SCALE, threads=2))
    job, working, account = _as_a_job(surveys, ra, dec)
    estimate, _ = _timed(lambda: bytes_to_read(surveys, ra, dec, SIZE, SCALE))
    grouped, _ = _timed(lambda: groups(surveys, ra, dec, size=SIZE, scale=SCALE))
    count, read = bytes_to_read(surveys, ra, dec, SIZE, SCALE)
    really = 5 * len(tiles)
    return (
        f"Sparse: {SPARSE:,} stamps x 5 bands over half the sky, {really:,} tiles of 1 MB (order {ORDER}, 512 pixels, "
        f"float32), 2 threads: {plain:.1f} s ({processor:.0f} s of processor time); with digests of what is read "
        f"{hashed:.1f} s ({hashing:.0f} s); as a job's step, with digests and stamps on disk, {job:.1f} s "
        f"({working:.0f} s): {account['tiles']:,} tiles, {account['bytes_read'] / 1e9:.1f} GB. "
        f"The estimate beforehand: {estimate:.1f} s, {count:,} tiles ({count / really - 1:+.2%}), "
        f"{read / 1e9:.1f} GB ({read / account['bytes_read'] - 1:+.2%}); groups: {grouped:.2f} s."
    )


def _as_a_job(surveys: list[Survey], ra: np.ndarray, dec: np.ndarray) -> tuple[float, float, Mapping[str, float]]:
    """Cut as the step of a job does; return seconds by the clock and of the processor, and the account."""
    from inzitu import manifest
    from inzitu.pipelines.parameters import CutParameters
    from inzitu.run.cut import cut
    from inzitu.run.engine import Engine
    from inzitu.run.work import Work

    entries = [manifest.SurveyEntry(band=band, hips=survey.uri) for band, survey in zip(BANDS, surveys, strict=True)]
    archive = manifest.ArchiveSection(surveys=tuple(entries), catalogue=manifest.CatalogueEntry(path="none"))
    with tempfile.TemporaryDirectory(dir=DATA) as scratch, Engine(manifest.Engine(workers=2)) as engine:
        folder = Path(scratch)
        selection = {"row": np.arange(len(ra)), "ra": ra, "dec": dec, "status": ["ok"] * len(ra)}
        pq.write_table(pa.table(selection), folder / "selection.parquet")
        for name in ("made", "checkpoints"):
            (folder / name).mkdir()
        work = Work(
            manifest=manifest.Manifest(archive=archive),
            folder=folder / "made",
            checkpoints=folder / "checkpoints",
            identities={},
            engine=engine,
            progress=lambda *_, **__: None,
            log=lambda _: None,
        )
        list(engine.map(abs, [0]))  # a worker has its cluster, too
        wall, processor = time.perf_counter(), time.process_time()
        outcome = cut(CutParameters(size=SIZE, scale=SCALE), {"selection": folder / "selection.parquet"}, work)
        return time.perf_counter() - wall, time.process_time() - processor, outcome.account


def _linked(survey: Survey, tiles: np.ndarray, band: str) -> Survey:
    """Return a HiPS that has these tiles, each a hard link to one of the survey's."""
    root, source = DATA / f"sparse-{band}", Path(survey.uri.removeprefix("file://"))
    if not (root / "properties").exists():
        shutil.rmtree(root, ignore_errors=True)
        whole = _fullest(survey)
        for k, npix in enumerate(tiles.tolist()):
            path = root / tile_path(ORDER, npix)
            path.parent.mkdir(parents=True, exist_ok=True)
            if k % LINKS == 0:
                shutil.copy(whole, path)
                first = path
            else:
                path.hardlink_to(first)
        shutil.copy(source / "properties", root)
    return Survey.open(root)


def _cold(surveys: list[Survey]) -> str:
    """Bytes from the disk for one stamp a tile, nothing of them being in memory."""
    centres: dict[int, tuple[float, float]] = {}
    ra, dec = _in_field(2000)
    for a, d in zip(ra, dec, strict=True):
        axes = stamp_axes(np.array([a]), np.array([d]), np.zeros(1), "equatorial")
        tiles = plan(axes, size=SIZE, step=np.radians(SCALE / 3600), grid=surveys[0].grid, resampling="bilinear").tiles
        if len(tiles) == 1:
            centres.setdefault(int(tiles[0]), (a, d))
    ra, dec = np.array(list(centres.values())).T
    for band in BANDS:
        for path in (DATA / band).glob(f"Norder{ORDER}/*/*.fits"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = _disk()
    cut = cutouts(surveys, ra, dec, size=SIZE, scale=SCALE, digests=False)
    read = _disk() - before
    used = sum(_pages(a, d, surveys[0]) for a, d in zip(ra, dec, strict=True)) * len(surveys)
    asked = sum(tile.bytes for tile in cut.tiles)
    whole = sum(Path(tile.uri.removeprefix("file://")).stat().st_size for tile in cut.tiles)
    return (
        f"Cold: {len(ra)} stamps x 5 bands, one a tile: {read / 1e6:.2f} MB from the disk, {asked / 1e6:.2f} MB "
        f"asked for; the pages that hold the pixels used are {used / 1e6:.2f} MB, the tiles {whole / 1e6:.0f} MB: "
        f"{read / used:.2f} times the least (the gate is 2)."
    )


def _disk() -> int:
    """Bytes that this process has had read from a disk."""
    stated = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(stated["read_bytes"])


def _pages(ra: float, dec: float, survey: Survey) -> int:
    """Bytes of the pages that hold the pixels of a stamp, with the header's."""
    axes = stamp_axes(np.array([ra]), np.array([dec]), np.zeros(1), "equatorial")
    way = plan(axes, size=SIZE, step=np.radians(SCALE / 3600), grid=survey.grid, resampling="bilinear")
    return 4096 * (1 + len(np.unique((2880 + 4 * way.offsets) // 4096)))


def _roofline(surveys: list[Survey], ra: np.ndarray, dec: np.ndarray) -> str:
    """Say what a pixel costs one core, beside the bytes that it moves."""
    ra, dec = ra[:2000], dec[:2000]
    axes = stamp_axes(ra[:64], dec[:64], np.zeros(64), "equatorial")
    step, grid = np.radians(SCALE / 3600), surveys[0].grid

    def best(work: Callable[[], object]) -> float:
        return min(_timed(work)[1] for _ in range(9))

    geometry = best(lambda: plan(axes, size=SIZE, step=step, grid=grid, resampling="bilinear")) / (64 * SIZE**2 * 5)
    whole = best(lambda: cutouts(surveys, ra, dec, size=SIZE, scale=SCALE, digests=False)) / (2000 * SIZE**2 * 5)
    source, copy = np.ones(64 << 20, np.uint8), np.ones(64 << 20, np.uint8)
    bandwidth = 2 * source.nbytes / best(lambda: np.copyto(copy, source))
    moved = 4 * 12 + 4 * 4 + 2 * 4  # entries of the plan, raw pixels, the stamp written and looked at for flags
    return (
        f"One core, a pixel and band, processor time: {whole * 1e9:.1f} ns, of it {geometry * 1e9:.1f} ns for the "
        f"geometry (shared by 5 bands). Roofline: {moved} bytes moved, at the {bandwidth / 1e9:.1f} GB/s of a copy "
        f"{moved / bandwidth * 1e9:.1f} ns: {moved / bandwidth / whole:.0%} of it is reached; arithmetic counts."
    )


if __name__ == "__main__":
    print(run())
