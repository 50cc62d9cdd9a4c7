"""Every form of a tile that HiPS knows gives the same sky, and every broken one is a row status with a diagnosis."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from hips.conftest import Array, Sky, noise
from inzitu.hips import Status, Survey, TileError, bytes_to_read, cutouts
from inzitu.hips.tiles import parse_header

RA, DEC = [30.0, 120.0, 250.0], [10.0, -35.0, 70.0]


def cut(root: Path, **options: object) -> Array:
    pixels, status = Survey.open(root).cutouts(RA, DEC, size=9, scale=1800.0)
    assert (status == Status.OK).all()
    return pixels.astype(float)


@pytest.fixture(scope="module")
def sky() -> Sky:
    return Sky(noise(1, 16), 1, 16)


@pytest.fixture(scope="module")
def plain(sky: Sky, tmp_path_factory: pytest.TempPathFactory) -> Array:
    return cut(sky.write(tmp_path_factory.mktemp("plain"), encode=lambda tile: tile))


SCALED: dict[int, tuple[str, float, float]] = {
    8: ("u1", 2.0, -100.0),
    16: ("i2", 0.01, 100.0),
    32: ("i4", 1e-6, 50.0),
    64: ("i8", 1e-6, 0.0),
}


@pytest.mark.parametrize("bitpix", SCALED)
def test_scaled_integers_equal_floats_to_half_a_step(sky: Sky, plain: Array, tmp_path: Path, bitpix: int) -> None:
    kind, scale, zero = SCALED[bitpix]
    sky = Sky(sky.values, 1, 16, cards={"BSCALE": scale, "BZERO": zero, "BLANK": 0})
    root = sky.write(tmp_path, encode=lambda tile: np.rint((tile - zero) / scale).astype(kind))
    assert fits.getheader(next(root.rglob("*.fits")))["BITPIX"] == bitpix
    np.testing.assert_allclose(cut(root), plain, atol=scale / 2 + 1e-4)


@pytest.mark.parametrize("bitpix", [-32, -64])
def test_floats_may_be_scaled_too(sky: Sky, plain: Array, tmp_path: Path, bitpix: int) -> None:
    sky = Sky(sky.values, 1, 16, cards={"BSCALE": 0.5, "BZERO": 3.0})
    root = sky.write(tmp_path, encode=lambda tile: ((tile - 3) / 0.5).astype(f"f{-bitpix // 8}"))
    np.testing.assert_allclose(cut(root), plain, rtol=1e-5)


def test_gzipped_tiles_are_read_as_they_are(sky: Sky, plain: Array, tmp_path: Path) -> None:
    np.testing.assert_allclose(cut(sky.write(tmp_path, encode=lambda tile: tile, zipped=True)), plain)


@pytest.mark.parametrize(("order", "width"), [(1, 4), (2, 2), (3, 1)])
def test_the_width_of_the_tiles_changes_nothing(tmp_path: Path, order: int, width: int) -> None:
    values = noise(0, 8)
    wide, narrow = Sky(values, 0, 8).write(tmp_path / "wide"), Sky(values, order, width).write(tmp_path / "narrow")
    np.testing.assert_allclose(cut(narrow), cut(wide))


def test_trimmed_tiles_are_blank_where_they_were_trimmed(sky: Sky, tmp_path: Path) -> None:
    whole, trimmed = tmp_path / "whole", tmp_path / "trimmed"

    def bordered(tile: Array) -> Array:
        tile = tile.copy()
        tile[:3], tile[:, :2], tile[14:] = np.nan, np.nan, np.nan
        return tile

    sky.write(whole, encode=bordered)
    Sky(sky.values, 1, 16, cards={"TRIM1": 2, "TRIM2": 3, "ONAXIS1": 16, "ONAXIS2": 16}).write(
        trimmed, encode=lambda tile: bordered(tile)[3:14, 2:]
    )
    a, b = (Survey.open(root).cutouts(RA, DEC, size=30, scale=1200.0) for root in (whole, trimmed))
    np.testing.assert_array_equal(a[0], b[0])
    assert np.isnan(a[0]).any()
    assert a[1].tolist() == b[1].tolist() == [Status.PARTIAL] * 3


@pytest.mark.parametrize("kind", ["f4", "i2"])
def test_blank_in_blank_out(sky: Sky, tmp_path: Path, kind: str) -> None:
    blank = -32768 if kind == "i2" else np.nan
    cards: dict[str, float | int] = {"BLANK": -32768} if kind == "i2" else {}

    def holed(tile: Array) -> np.ndarray:
        coded = tile.astype(kind)
        coded[5:9, 5:9] = blank
        return coded

    root = Sky(sky.values, 1, 16, cards=cards).write(tmp_path, encode=holed)
    whole = Sky(sky.values, 1, 16).write(tmp_path / "whole", encode=lambda tile: tile.astype(kind))
    result = cutouts([Survey.open(root)], RA, DEC, size=30, scale=1200.0)
    full = cutouts([Survey.open(whole)], RA, DEC, size=30, scale=1200.0).pixels
    seen = np.isfinite(result.pixels)
    np.testing.assert_array_equal(result.pixels[seen], full[seen])
    assert (result.status == Status.PARTIAL).all()
    np.testing.assert_allclose(result.fraction[:, 0], seen.mean(axis=(1, 2, 3)))


def test_a_missing_tile_is_blank_where_the_survey_is_said_to_reach_and_outside_where_not(
    sky: Sky, tmp_path: Path
) -> None:
    from inzitu.sky import Coverage

    root = sky.write(tmp_path, tiles=range(20))
    survey = Survey.open(root)
    ra, dec = np.linspace(0, 350, 40), np.linspace(-80, 80, 40)
    result = cutouts([survey], ra, dec, size=3, scale=60.0)
    inside = Coverage.from_cells(1, np.arange(20, dtype=np.uint64)).contains(ra, dec)
    lost = np.isnan(result.pixels).all(axis=(1, 2, 3))
    assert (result.status[lost & ~inside] == Status.OUTSIDE).all()
    assert (result.status[~lost] <= Status.PARTIAL).all()
    assert not result.errors
    Coverage.from_cells(1, np.arange(48, dtype=np.uint64)).write(root / "Moc.fits")
    assert (cutouts([Survey.open(root)], ra, dec, size=3, scale=60.0).status[lost] == Status.BLANK).all()


def test_a_position_that_is_not_on_the_sky_is_a_row_outside(sky: Sky, tmp_path: Path) -> None:
    survey = Survey.open(sky.write(tmp_path))
    result = cutouts([survey], [np.nan, 10, 10, np.inf], [0, 95, 20, 0], size=3, scale=60.0)
    assert result.status[:, 0].tolist() == [Status.OUTSIDE, Status.OUTSIDE, Status.OK, Status.OUTSIDE]
    assert result.status_words() == ["outside", "outside", "ok", "outside"]
    assert np.isnan(result.pixels[[0, 1, 3]]).all()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def without_header(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><html>moved</html>" * 200)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def narrower(path: Path) -> None:
    fits.writeto(path, np.zeros((8, 8), np.float32), overwrite=True)


def endless(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:80] + b" " * 300_000)


def damaged_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes())[:-30])


def odd_bitpix(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"BITPIX  =                  -32", b"BITPIX  =                  -33"))


def unreadable_number(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"NAXIS1  =                   16", b"NAXIS1  =                 many"))


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (truncated, "truncated: it has 3000 bytes of 3904"),
    (without_header, "not a FITS file"),
    (empty, "not a FITS file"),
    (narrower, "8 x 8 pixels, but hips_tile_width is 16"),
    (endless, "no END"),
    (damaged_gzip, "gzip stream is damaged"),
    (odd_bitpix, "BITPIX is -33"),
    (unreadable_number, "cannot be read"),
    (folder_instead, "cannot be read"),
]


@pytest.mark.parametrize(("spoil", "reason"), BROKEN, ids=[spoil.__name__ for spoil, _ in BROKEN])
@pytest.mark.parametrize("digests", [True, False])
def test_a_broken_tile_fails_its_rows_by_name_and_no_others(
    sky: Sky, tmp_path: Path, spoil: Callable[[Path], None], reason: str, digests: bool
) -> None:
    good, bad = sky.write(tmp_path / "good"), sky.write(tmp_path / "bad")
    npix = 17
    spoil(bad / f"Norder1/Dir0/Npix{npix}.fits")
    ra, dec = np.linspace(0, 350, 200), np.full(200, 5.0)
    result = cutouts([Survey.open(good), Survey.open(bad)], ra, dec, size=4, scale=600.0, digests=digests)
    failed = result.status[:, 1] == Status.ERROR
    assert failed.any()
    assert (result.status[:, 0] == Status.OK).all()
    assert (result.status[~failed, 1] == Status.OK).all()
    assert np.isnan(result.pixels[failed, :, :, 1]).any()
    [error] = result.errors
    assert isinstance(error, TileError)
    assert error.uri.endswith(f"bad/Norder1/Dir0/Npix{npix}.fits")
    assert reason in str(error)


def test_a_tile_cut_short_while_it_is_read_is_an_error_and_no_crash(sky: Sky, tmp_path: Path) -> None:
    # A tile larger than what is read at first, truncated after its header was seen.
    root = Sky(noise(0, 256), 0, 256).write(tmp_path)
    survey = Survey.open(root)
    tile = survey.tile(4, digest=False)
    assert tile is not None
    path = root / "Norder0/Dir0/Npix4.fits"
    with path.open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(TileError, match="truncated while it was read"):
        tile.need(100, 200)
    tile.close()


def test_a_tile_that_another_replaces_stays_the_one_that_was_opened(tmp_path: Path) -> None:
    sky = Sky(noise(0, 256), 0, 256)
    survey = Survey.open(sky.write(tmp_path))
    tile = survey.tile(4, digest=False)
    assert tile is not None
    path = tmp_path / "Norder0/Dir0/Npix4.fits"
    path.unlink()
    path.write_bytes(b"another")
    tile.need(0, 255)
    np.testing.assert_allclose(tile.values(), sky.tile(4), rtol=1e-6)
    tile.close()


def test_each_tile_read_is_accounted_with_its_digest(sky: Sky, tmp_path: Path) -> None:
    root = sky.write(tmp_path)
    result = cutouts([Survey.open(root)] * 2, RA, DEC, size=9, scale=1800.0, threads=2)
    for read in result.tiles:
        content = Path(read.uri.removeprefix("file://")).read_bytes()
        assert read.sha256 == hashlib.sha256(content).hexdigest()
        assert (read.bytes, read.ranges) == (len(content), "")


@pytest.mark.parametrize("zipped", [False, True])
def test_the_digest_is_that_of_the_bytes_named_and_these_decide_the_pixels(tmp_path: Path, zipped: bool) -> None:
    root = Sky(noise(0, 512), 0, 512).write(tmp_path, zipped=zipped)
    ask = {"ra": [0.0, 10.0], "dec": [0.0, 20.0], "size": 16, "scale": 400.0}
    result = cutouts([Survey.open(root)], **ask)  # type: ignore[arg-type]
    for read in result.tiles:
        path = Path(read.uri.removeprefix("file://"))
        content = path.read_bytes()
        spans = [tuple(map(int, span.split("-"))) for span in read.ranges.split(",") if span]
        named = b"".join(content[first : last + 1] for first, last in spans or [(0, len(content))])
        assert (read.sha256, read.bytes) == (hashlib.sha256(named).hexdigest(), len(named))
        if spans:  # all other bytes may be anything
            blank = bytearray(b"\xff" * len(content))
            for first, last in spans:
                blank[first : last + 1] = content[first : last + 1]
            path.write_bytes(blank)
    assert any(read.ranges for read in result.tiles) != zipped
    np.testing.assert_array_equal(cutouts([Survey.open(root)], **ask).pixels, result.pixels)  # type: ignore[arg-type]


def test_only_the_rows_needed_are_read(tmp_path: Path) -> None:
    root = Sky(noise(0, 512), 0, 512).write(tmp_path)
    result = cutouts([Survey.open(root)], [0.0], [0.0], size=16, scale=400.0, digests=False)
    [read] = result.tiles
    rows = 16 * 400 * np.sqrt(2) / (58.6 * 3600 / 512) + 3  # of a square standing on its corner
    assert read.sha256 == ""
    assert read.bytes < 5760 + rows * 512 * 4
    tiles, estimate = bytes_to_read([Survey.open(root)], [0.0], [0.0], 16, 400.0)
    assert tiles == 1
    assert estimate == pytest.approx(read.bytes, rel=0.1)


def test_of_many_tiles_a_sample_stands_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Sky(noise(1, 64), 1, 64).write(tmp_path)
    lon, lat = (grid.ravel() for grid in np.meshgrid(np.arange(0.0, 360, 10), np.arange(-80.0, 81, 10)))
    exact = bytes_to_read([Survey.open(root)], lon, lat, 16, 100.0)
    assert exact[0] == 48
    monkeypatch.setattr("inzitu.hips.survey.WEIGHED", 20)
    assert bytes_to_read([Survey.open(root)], lon, lat, 16, 100.0) == pytest.approx(exact, rel=0.1)


def test_a_header_longer_than_two_blocks_is_read_to_its_end(sky: Sky, tmp_path: Path) -> None:
    sky = Sky(noise(0, 256), 0, 256, cards={f"KEY{k}": k for k in range(100)})
    result = cutouts([Survey.open(sky.write(tmp_path))], RA, DEC, size=9, scale=400.0, digests=False)
    assert (result.status == Status.OK).all()


def test_a_header_of_a_cube_or_of_no_image_is_refused() -> None:
    for axes, reason in ((3, "3 axes"), (0, "0 axes")):
        header = fits.PrimaryHDU(np.zeros((2, 4, 4)) if axes else None).header.tostring()
        with pytest.raises(TileError, match=reason):
            parse_header(header.encode(), "tile")
