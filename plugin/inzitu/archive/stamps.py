"""The demo archive: image stamps laid out on the sky as HiPS trees, a catalogue and a manifest.

Each stamp is taken as a gnomonic (TAN) image around its source, north up, east left, and resampled once onto HEALPix
pixels of about its own size by a cubic spline, which leaves point sources and noise nearly as they were. Where stamps
overlap, a pixel belongs to the stamp whose centre is nearest, so that none blends into another.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from astropy.coordinates import Latitude, Longitude
from cdshealpix.nested import healpix_to_lonlat, lonlat_to_healpix
from jaxtyping import Float, Integer
from mocpy import MOC
from scipy.ndimage import map_coordinates, spline_filter

from inzitu.archive.stampfile import Stamps
from inzitu.errors import ParameterFault
from inzitu.hips.writing import nested_to_image, write_properties, write_tile

TILE_WIDTH = 64
"""Pixels along a tile. A 64-pixel stamp touches 4.7 such tiles of 11.5 kB; with 32 or 128 the trees are larger."""
COVERAGE_CELL = 16
"""HEALPix pixels in a cell of `Moc.fits`: a cell is covered where all of them are."""
EMISSION = {
    "u": (3.0e-7, 4.0e-7),
    "g": (3.8e-7, 5.5e-7),
    "r": (5.4e-7, 7.0e-7),
    "i": (6.8e-7, 8.5e-7),
    "z": (8.0e-7, 11.0e-7),
}
"""SDSS's bands [m], for `em_min` and `em_max`."""

type Progress = Callable[[int, int], None]
"""Called with the tiles done and the tiles in all."""


def demo_stamps() -> Path:
    """Return the packaged stamps of 812 SDSS quasars."""
    return Path(str(files("inzitu.archive"))) / "data" / "sdss-qso.npz"


def build(
    stamps_npz: str | Path, out: str | Path, *, progress: Progress | None = None, released: datetime | None = None
) -> Path:
    """Lay the stamps of a file out as an archive; return its manifest.

    Writes `out/hips/<band>/`, `out/catalogue.parquet` and, last, `out/manifest.yaml`: an archive without its manifest
    was interrupted, and is built anew.

    Parameters
    ----------
    stamps_npz
        Stamp file; `inzitu.archive.stampfile` has its keys.
    out
        Folder to write to, made if need be.
    progress
        Called as the tiles are written.
    released
        Release date of the trees, UTC; now, if None.

    Raises
    ------
    TableFault
        The file is no stamp file.
    ParameterFault
        An archive is there already.
    """
    out = Path(out)
    manifest = out / "manifest.yaml"
    if manifest.exists():
        raise ParameterFault(f"{out} holds an archive already; remove it or choose another folder.")
    stamps = Stamps.read(stamps_npz)
    shutil.rmtree(out / "hips", ignore_errors=True)
    _write_trees(stamps, out / "hips", progress or (lambda done, total: None), released or datetime.now(UTC))
    _write_catalogue(stamps, out / "catalogue.parquet")
    manifest.write_text(yaml.safe_dump(_manifest(stamps), sort_keys=False), encoding="utf-8")
    return manifest


@dataclass(frozen=True, slots=True)
class _Grid:
    """The HEALPix pixels that stamps of a scale are laid on."""

    pixel_order: int
    tile_order: int
    width: int

    @classmethod
    def near(cls, scale: float) -> _Grid:
        """Return the grid whose pixels are nearest in size to `scale` [arcsec], in powers of two."""
        base = np.degrees(np.sqrt(np.pi / 3)) * 3600  # side of a base cell, were it a square
        pixel_order = int(np.clip(round(np.log2(base / scale)), 9, 29))
        return cls(pixel_order, pixel_order - TILE_WIDTH.bit_length() + 1, TILE_WIDTH)

    def tiles(self, stamps: Stamps) -> dict[int, list[int]]:
        """Return the stamps that touch each tile, by tile."""
        ny, nx = stamps.images.shape[2:]
        y, x = (
            axis.ravel() for axis in np.meshgrid(np.arange(2 * ny + 1) / 2, np.arange(2 * nx + 1) / 2, indexing="ij")
        )
        touching = defaultdict(list)
        for row in range(len(stamps.images)):
            xi, eta = (nx / 2 - x) * stamps.scale, (y - ny / 2) * stamps.scale
            lon, lat = _deproject(stamps.ra[row], stamps.dec[row], xi, eta)
            for tile in np.unique(_cells(lon, lat, self.tile_order)).tolist():
                touching[tile].append(row)
        return touching

    def pixels(self, tile: int) -> Float[np.ndarray, "3 p"]:
        """Return the unit vectors of a tile's pixel centres, in nested order."""
        area = self.width**2
        lon, lat = healpix_to_lonlat(np.arange(tile * area, (tile + 1) * area, dtype=np.uint64), self.pixel_order)
        return _unit(lon.rad, lat.rad)


def _write_trees(stamps: Stamps, root: Path, progress: Progress, released: datetime) -> None:
    grid = _Grid.near(stamps.scale)
    touching = sorted(grid.tiles(stamps).items())
    splines = _splines(stamps.images)
    image_order = nested_to_image(grid.width)
    covered: list[Integer[np.ndarray, " c"]] = []
    for done, (tile, rows) in enumerate(touching):
        progress(done, len(touching))
        values = _resampled(stamps, splines, grid.pixels(tile), rows)
        if np.isnan(values).all():
            continue
        for band, plane in zip(stamps.bands, values, strict=True):
            write_tile(root / band, grid.tile_order, tile, plane[image_order])
        whole = np.isfinite(values[0]).reshape(-1, COVERAGE_CELL).all(axis=1)
        covered.append(np.flatnonzero(whole) + tile * len(whole))
    progress(len(touching), len(touching))
    moc_order = grid.pixel_order - (COVERAGE_CELL.bit_length() - 1) // 2
    moc = _moc(np.concatenate(covered), moc_order)
    for index, band in enumerate(stamps.bands):
        moc.save(root / band / "Moc.fits", format="fits", overwrite=True)
        write_properties(root / band, _properties(stamps, index, grid, moc, released))


def _splines(images: Float[np.ndarray, "n band y x"]) -> Float[np.ndarray, "n band y x"]:
    """Return the cubic spline coefficients of each image."""
    return np.stack(
        [[spline_filter(image, order=3, output=np.float32, mode="mirror") for image in row] for row in images]
    )


def _resampled(
    stamps: Stamps, splines: Float[np.ndarray, "n band y x"], vectors: Float[np.ndarray, "3 p"], rows: Sequence[int]
) -> Float[np.ndarray, "band p"]:
    """Return the values of pixels at these directions from the stamps that hold them, NaN where none does."""
    ny, nx = stamps.images.shape[2:]
    values = np.full((len(stamps.bands), vectors.shape[1]), np.nan, np.float32)
    nearest = np.full(vectors.shape[1], np.inf)
    for row in rows:
        x, y = _project(stamps.ra[row], stamps.dec[row], vectors, stamps.scale)
        distance = np.hypot(x, y)
        x, y = x + (nx - 1) / 2, y + (ny - 1) / 2
        mine = (np.abs(x - (nx - 1) / 2) <= nx / 2) & (np.abs(y - (ny - 1) / 2) <= ny / 2) & (distance < nearest)
        nearest[mine] = distance[mine]
        for band, coefficients in enumerate(splines[row]):
            values[band, mine] = map_coordinates(
                coefficients, (y[mine], x[mine]), order=3, mode="mirror", prefilter=False
            )
    return values


def _project(
    ra: float, dec: float, vectors: Float[np.ndarray, "3 p"], scale: float
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Return gnomonic pixel offsets from a centre [deg], x to the west and y to the north."""
    centre, east, north = _axes(ra, dec)
    pixel = np.radians(scale / 3600)
    depth = centre @ vectors
    return -(east @ vectors) / depth / pixel, (north @ vectors) / depth / pixel


def _deproject(
    ra: float, dec: float, xi: Float[np.ndarray, " p"], eta: Float[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Return longitude and latitude [rad] at gnomonic offsets [arcsec] to the east and north."""
    centre, east, north = _axes(ra, dec)
    x, y, z = centre[:, None] + np.radians(xi / 3600) * east[:, None] + np.radians(eta / 3600) * north[:, None]
    return np.arctan2(y, x) % (2 * np.pi), np.arctan2(z, np.hypot(x, y))


def _axes(ra: float, dec: float) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    """Return the unit vectors to a position [deg], and to the east and north of it."""
    a, d = np.radians(ra), np.radians(dec)
    centre = np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    east = np.array([-np.sin(a), np.cos(a), 0.0])
    return centre, east, np.cross(centre, east)


def _unit(lon: Float[np.ndarray, " p"], lat: Float[np.ndarray, " p"]) -> Float[np.ndarray, "3 p"]:
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _cells(lon: Float[np.ndarray, " p"], lat: Float[np.ndarray, " p"], order: int) -> Integer[np.ndarray, " p"]:
    cells: Integer[np.ndarray, " p"] = lonlat_to_healpix(Longitude(lon, "rad"), Latitude(lat, "rad"), order)
    return cells


def _moc(cells: Integer[np.ndarray, " c"], order: int) -> MOC:
    return MOC.from_healpix_cells(cells.astype(np.uint64), np.uint8(order), max_depth=order)


def _properties(stamps: Stamps, index: int, grid: _Grid, moc: MOC, released: datetime) -> dict[str, str | int | float]:
    band = stamps.bands[index]
    low, high = np.nanpercentile(stamps.images[:, index], [1, 99.5])
    base = np.degrees(np.sqrt(np.pi / 3))
    properties: dict[str, str | int | float] = {
        "creator_did": f"ivo://inzitu/P/stamps/{band}",
        "hips_creator": "inzitu",
        "hips_version": "1.4",
        "hips_builder": "inzitu archive stamps",
        "obs_title": f"Stamps around sources, {band} band",
        "obs_collection": stamps.origin,
        "obs_description": "Stamps, each at its true place on the sky, resampled once by a cubic spline.",
        "prov_progenitor": stamps.origin,
        "obs_regime": "Optical",
        "dataproduct_type": "image",
        "hips_release_date": f"{released:%Y-%m-%dT%H:%MZ}",
        "hips_creation_date": f"{released:%Y-%m-%dT%H:%MZ}",
        "hips_status": "private master unclonable",
        "hips_frame": "equatorial",
        "hips_order": grid.tile_order,
        "hips_order_min": grid.tile_order,
        "hips_tile_width": grid.width,
        "hips_tile_format": "fits",
        "hips_pixel_bitpix": 16,
        "data_pixel_bitpix": -32,
        "hips_pixel_scale": f"{base / 2**grid.pixel_order:.10g}",
        "s_pixel_scale": f"{stamps.scale / 3600:.10g}",
        "hips_pixel_cut": f"{low:.5g} {high:.5g}",
        "hips_initial_ra": f"{stamps.ra[0]:.6f}",
        "hips_initial_dec": f"{stamps.dec[0]:+.6f}",
        "hips_initial_fov": f"{4 * stamps.images.shape[2] * stamps.scale / 3600:.5f}",
        "moc_sky_fraction": f"{moc.sky_fraction:.6g}",
    }
    if band in EMISSION:
        properties |= dict(zip(("em_min", "em_max"), EMISSION[band], strict=True))
    return properties


def _write_catalogue(stamps: Stamps, path: Path) -> None:
    """Write the catalogue: identifiers, positions, magnitudes. No redshifts: those are what users bring."""
    fields = [
        _field("objID", pa.string(), ucd="meta.id;meta.main", description="Identifier of the source"),
        _field("ra", pa.float64(), unit="deg", ucd="pos.eq.ra;meta.main", description="Right ascension (ICRS)"),
        _field("dec", pa.float64(), unit="deg", ucd="pos.eq.dec;meta.main", description="Declination (ICRS)"),
    ]
    fields += [
        _field(
            band,
            pa.float32(),
            unit="mag",
            ucd=f"phot.mag;em.opt.{_ucd_band(band)}",
            description=f"Magnitude in the {band} band",
        )
        for band in stamps.bands
    ]
    columns = [pa.array(stamps.object_id), pa.array(stamps.ra), pa.array(stamps.dec)]
    columns += [pa.array(column.astype(np.float32), from_pandas=True) for column in stamps.magnitudes.T]
    pq.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)), path)


def _ucd_band(band: str) -> str:
    """Return the UCD's name of the optical band: SDSS's g is nearest to B, z to I."""
    return {"u": "U", "g": "B", "r": "R", "i": "I", "z": "I"}.get(band, "V")


def _field(name: str, kind: pa.DataType, **metadata: str) -> pa.Field[pa.DataType]:
    return pa.field(name, kind, metadata={key: value.encode() for key, value in metadata.items()})


def _manifest(stamps: Stamps) -> dict[str, object]:
    """Return the manifest of a deployment of the archive, with paths from its own folder."""
    return {
        "name": "inzitu",
        "title": "inzitu: photometric redshifts where the pixels are",
        "state": "state",
        "archive": {
            "surveys": [{"band": band, "hips": f"hips/{band}"} for band in stamps.bands],
            "catalogue": {
                "path": "catalogue.parquet",
                "id": "objID",
                "ra": "ra",
                "dec": "dec",
                "magnitudes": list(stamps.bands),
            },
        },
    }
