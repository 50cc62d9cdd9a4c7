from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor as Pool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from archive.test_stamps import written
from inzitu.archive import stamps
from inzitu.archive.cutting import _can_have, cut_to_file
from inzitu.archive.stampfile import Stamps
from inzitu.errors import ParameterFault
from inzitu.hips import Status, Survey, cutouts

ROWS = 24
SIZE, SCALE = 16, 0.396


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stamps, list[Survey]]:
    folder = tmp_path_factory.mktemp("cutting")
    stamps.build(written(folder / "stamps.npz", ROWS), folder / "out")
    read = Stamps.read(folder / "stamps.npz")
    return read, [Survey.open(folder / "out/hips" / band) for band in read.bands]


def test_the_npz_holds_every_row_in_the_order_of_the_list(source: tuple[Stamps, list[Survey]], tmp_path: Path) -> None:
    read, surveys = source
    ra, dec = np.append(read.ra, [np.nan, 10.0]), np.append(read.dec, [0.0, 10.0])
    summary = cut_to_file(surveys, ra, dec, tmp_path / "cut.npz", size=SIZE, scale=SCALE)
    whole = cutouts(surveys, ra, dec, size=SIZE, scale=SCALE)
    with np.load(tmp_path / "cut.npz") as cut:
        np.testing.assert_array_equal(cut["pixels"], whole.pixels)
        np.testing.assert_array_equal(cut["status"], whole.status.max(axis=1))
        np.testing.assert_array_equal(cut["flags"], whole.flags)
        assert cut["status"][-2:].tolist() == [Status.OUTSIDE, Status.OUTSIDE]
        assert np.isnan(cut["pixels"][-2:]).all()
    assert summary.statuses == {"ok": ROWS, "outside": 2}
    assert summary.rows == ROWS + 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.npz"]


def test_npy_and_zarr_hold_the_same_pixels(source: tuple[Stamps, list[Survey]], tmp_path: Path) -> None:
    read, surveys = source
    for name in ("cut.npy", "cut.zarr"):
        cut_to_file(surveys, read.ra, read.dec, tmp_path / name, size=SIZE, scale=SCALE)
    plain = np.load(tmp_path / "cut.npy", mmap_mode="r")
    assert plain.shape == (ROWS, SIZE, SIZE, 5)
    store = zarr.open_group(tmp_path / "cut.zarr", mode="r")
    np.testing.assert_array_equal(np.asarray(store["pixels"]), plain)
    with np.load(tmp_path / "cut.npy.rows.npz") as rows:
        np.testing.assert_array_equal(np.asarray(store["status"]), rows["status"])


def pixels_of(path: Path) -> np.ndarray:
    match path.suffix:
        case ".npy":
            return np.asarray(np.load(path))
        case ".npz":
            with np.load(path) as cut:
                return np.asarray(cut["pixels"])
        case _:
            return np.asarray(zarr.open_group(path, mode="r")["pixels"])


@pytest.mark.parametrize("name", ["cut.npy", "cut.npz", "cut.zarr"])
def test_an_interrupted_run_goes_on_where_it_stopped(
    source: tuple[Stamps, list[Survey]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read, surveys = source
    monkeypatch.setattr("inzitu.archive.cutting.GROUP_BYTES", 4 * SIZE * SIZE * 5 * 6)  # groups of 6 rows

    def stop(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_to_file(surveys, read.ra, read.dec, tmp_path / name, size=SIZE, scale=SCALE, threads=1, progress=stop)
    assert not (tmp_path / name).exists()
    summary = cut_to_file(surveys, read.ra, read.dec, tmp_path / name, size=SIZE, scale=SCALE)
    assert summary.resumed >= 12
    whole = cutouts(surveys, read.ra, read.dec, size=SIZE, scale=SCALE)
    np.testing.assert_array_equal(pixels_of(tmp_path / name), whole.pixels)


def test_an_unfinished_run_of_another_request_is_left_alone(
    source: tuple[Stamps, list[Survey]], tmp_path: Path
) -> None:
    read, surveys = source

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_to_file(surveys, read.ra, read.dec, tmp_path / "cut.npy", size=SIZE, scale=SCALE, progress=stop)
    with pytest.raises(ParameterFault, match="another size"):
        cut_to_file(surveys, read.ra, read.dec, tmp_path / "cut.npy", size=SIZE + 1, scale=SCALE)


def test_a_disk_without_room_is_an_error_before_anything_is_cut(
    source: tuple[Stamps, list[Survey]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, surveys = source

    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        cut_to_file(surveys, read.ra, read.dec, tmp_path / "cut.npz", size=SIZE, scale=SCALE)


def test_no_rows_make_an_empty_file(source: tuple[Stamps, list[Survey]], tmp_path: Path) -> None:
    nothing = np.empty(0)
    summary = cut_to_file(source[1], nothing, nothing, tmp_path / "cut.npz", size=SIZE, scale=SCALE)
    assert summary.rows == 0
    assert np.load(tmp_path / "cut.npz")["pixels"].shape == (0, SIZE, SIZE, 5)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"scale": 0.0}, {"resampling": "cubic"}])
def test_what_cannot_be_cut_leaves_nothing_in_the_way_of_what_can(
    source: tuple[Stamps, list[Survey]], tmp_path: Path, wrong: dict[str, Any]
) -> None:
    read, surveys = source
    with pytest.raises(ValueError, match=r"pixel|Resampling"):
        cut_to_file(surveys, read.ra, read.dec, tmp_path / "cut.npz", **{"size": SIZE, "scale": SCALE} | wrong)
    assert list(tmp_path.iterdir()) == []


def test_no_more_stamps_are_cut_side_by_side_than_there_is_memory_for(
    source: tuple[Stamps, list[Survey]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, surveys = source
    one = SIZE**2 * (60 + 4 * 5)  # of the entries of a bilinear plan and the pixels of five bands
    for there_is, threads in ((5 * one, 4), (3.5 * one, 3), (one, 1)):
        monkeypatch.setattr("inzitu.archive.cutting._can_have", lambda memory, most=there_is: memory <= most)
        taken: list[int] = []
        monkeypatch.setattr(
            "inzitu.archive.cutting.ThreadPoolExecutor", lambda many, taken=taken: taken.append(many) or Pool(many)
        )
        cut_to_file(surveys, read.ra, read.dec, tmp_path / "cut.npz", size=SIZE, scale=SCALE, threads=4)
        assert taken == [threads]
    monkeypatch.setattr("inzitu.archive.cutting._can_have", lambda memory: memory < one)
    (tmp_path / "cut.npz").unlink()
    with pytest.raises(ParameterFault, match=r"16 x 16 pixels takes 2e-05 GB of memory.*ask for a smaller size"):
        cut_to_file(surveys, read.ra, read.dec, tmp_path / "cut.npz", size=SIZE, scale=SCALE, threads=4)
    assert list(tmp_path.iterdir()) == []


def test_memory_that_no_machine_has_cannot_be_had() -> None:
    assert _can_have(1 << 10)
    assert not _can_have(1 << 60)


def test_an_unknown_ending_is_refused(source: tuple[Stamps, list[Survey]], tmp_path: Path) -> None:
    with pytest.raises(ParameterFault, match=r"must end in one of \.npz, \.npy, \.zarr"):
        cut_to_file(source[1], np.zeros(1), np.zeros(1), tmp_path / "cut.hdf5", size=SIZE, scale=SCALE)
