"""What lies in the output's place, what fails at the end, who else is at it: nothing cut or kept is lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from archive.test_cutting import pixels_of
from hips.conftest import Sky, noise
from inzitu.archive.cutting import Summary, cut_to_file
from inzitu.errors import ParameterFault
from inzitu.hips import Survey, cutouts

RNG = np.random.default_rng(7)
RA, DEC = RNG.uniform(0, 360, 30), RNG.uniform(-80, 80, 30)
STAMP = {"size": 4, "scale": 900.0}
NAMES = ["cut.npz", "cut.npy", "cut.zarr"]

type Cut = Callable[..., Summary]


@pytest.fixture
def hips(tmp_path: Path) -> Path:
    return Sky(noise(1, 8), 1, 8).write(tmp_path / "hips")


@pytest.fixture
def cut(hips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cut:
    monkeypatch.setattr("inzitu.archive.cutting.GROUP_BYTES", 4 * 4 * 4 * 6)  # groups of 6 rows

    def run(name: str, **others: Any) -> Summary:
        return cut_to_file([Survey.open(hips)], RA, DEC, tmp_path / name, threads=1, **{**STAMP, **others})

    return run


def stop_at(rows: int) -> Callable[[int, int], None]:
    def stop(done: int, total: int) -> None:
        if done >= rows:
            raise KeyboardInterrupt

    return stop


def expected(hips: Path) -> np.ndarray:
    return cutouts([Survey.open(hips)], RA, DEC, **STAMP).pixels  # type: ignore[arg-type]


# What lies in its place


def a_file(path: Path) -> None:
    path.write_bytes(b"precious")


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_bytes(b"precious")


@pytest.mark.parametrize(
    ("name", "place", "make"),
    [
        ("cut.npz", "cut.npz", a_folder),
        ("cut.npy", "cut.npy", a_folder),
        ("cut.npy", "cut.npy.rows.npz", a_folder),
        ("cut.zarr", "cut.zarr", a_file),
        ("cut.zarr", "cut.zarr", a_folder),
    ],
)
def test_what_is_of_another_kind_is_refused_and_kept(
    cut: Cut, tmp_path: Path, name: str, place: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / place)
    with pytest.raises(ParameterFault, match=rf"{place} .*; move it away, or give another name"):
        cut(name)
    found = tmp_path / place
    assert (found / "mine.txt" if found.is_dir() else found).read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([place, "hips"])


@pytest.mark.parametrize("name", NAMES)
def test_an_earlier_output_gives_way_to_the_new_one(cut: Cut, hips: Path, tmp_path: Path, name: str) -> None:
    cut(name, size=2)
    cut(name)
    np.testing.assert_array_equal(pixels_of(tmp_path / name), expected(hips))
    assert sorted(path.name for path in tmp_path.glob("cut*") if ".rows." not in path.name) == [name]


def test_a_group_of_the_earlier_format_of_zarr_gives_way_too(cut: Cut, hips: Path, tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "cut.zarr", mode="w", zarr_format=2).create_array("old", data=np.ones(3))
    cut("cut.zarr")
    np.testing.assert_array_equal(pixels_of(tmp_path / "cut.zarr"), expected(hips))


# What fails at the end


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_at_the_end_loses_nothing_that_was_cut(
    cut: Cut, hips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    replace = Path.replace

    def denied(path: Path, to: Path) -> Path:
        if Path(to).name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(to))
        return replace(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", denied)
        with pytest.raises(PermissionError):
            cut(name)
    assert cut(name).resumed == len(RA)
    np.testing.assert_array_equal(pixels_of(tmp_path / name), expected(hips))


def test_a_run_that_died_between_its_last_two_steps_does_not_block_the_next(
    cut: Cut, hips: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        cut("cut.npy", progress=stop_at(len(RA)))
    (tmp_path / "cut.npy.part/pixels.npy").replace(tmp_path / "cut.npy")  # as its end does first
    assert cut("cut.npy").resumed == 0
    np.testing.assert_array_equal(pixels_of(tmp_path / "cut.npy"), expected(hips))


def test_a_disk_without_room_is_named_with_what_is_needed_and_left_as_it_was(
    cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device.*1,920 bytes.*cut\.npz\.part/pixels\.npy"):
        cut("cut.npz")  # 30 stamps of 4 x 4 pixels of 4 bytes
    assert [path.name for path in tmp_path.iterdir()] == ["hips"]


@pytest.mark.parametrize(
    ("name", "inside"), [("cut.npz", "zipfile.ZipFile.write"), ("cut.zarr", "zarr.Group.create_array")]
)
def test_a_disk_that_fills_at_the_end_is_named_and_keeps_what_was_cut(
    cut: Cut, monkeypatch: pytest.MonkeyPatch, name: str, inside: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(inside, full)
        with pytest.raises(OSError, match=rf"No space left on device.*{name}\.part/whole"):
            cut(name)
    assert cut(name).resumed == len(RA)


@pytest.mark.parametrize("key", ["hips_release_date", "obs_title"])
def test_an_unfinished_run_is_not_gone_on_with_in_another_edition_of_a_survey(
    cut: Cut, hips: Path, tmp_path: Path, key: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        cut("cut.npy", progress=stop_at(12))
    stated = (hips / "properties").read_text()
    (hips / "properties").write_text(f"{stated}{key} = 2030-01-01T00:00Z\n")
    with pytest.raises(
        ParameterFault, match=r"cut\.npy\.part holds an unfinished run with another edition of a survey"
    ):
        cut("cut.npy")
    (hips / "properties").write_text(f"# the same, in other words\n{stated}")
    assert cut("cut.npy").resumed >= 12


# Who else is at it


def test_a_second_run_on_the_same_output_is_refused_and_the_first_ends_well(
    cut: Cut, hips: Path, tmp_path: Path
) -> None:
    refused: list[int] = []

    def second(done: int, total: int) -> None:
        if not refused:
            with pytest.raises(ParameterFault, match=r"another process is filling .*cut\.npy\.part; wait for it"):
                cut("cut.npy")
            refused.append(done)

    cut("cut.npy", progress=second)
    assert refused
    np.testing.assert_array_equal(pixels_of(tmp_path / "cut.npy"), expected(hips))


KILLED = """
import sys, time
import numpy as np
from inzitu.archive import cutting
from inzitu.hips import Survey
cutting.GROUP_BYTES = 4 * 4 * 4 * 6
hips, out, ra, dec = sys.argv[1:]

def told(done, total):
    if done >= 12:
        print(done, flush=True)
        time.sleep(60)

numbers = [np.array(text.split(), float) for text in (ra, dec)]
cutting.cut_to_file([Survey.open(hips)], *numbers, out, size=4, scale=900.0, threads=1, progress=told)
"""


def test_a_run_that_is_killed_lets_go_of_the_lock_and_the_next_goes_on(cut: Cut, hips: Path, tmp_path: Path) -> None:
    numbers = [" ".join(map(repr, values.tolist())) for values in (RA, DEC)]
    words = [sys.executable, "-c", KILLED, str(hips), str(tmp_path / "cut.npz"), *numbers]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            assert process.stdout.readline()
            with pytest.raises(ParameterFault, match="another process"):
                cut("cut.npz")
        finally:
            process.send_signal(signal.SIGKILL)
    assert cut("cut.npz").resumed >= 12
    np.testing.assert_array_equal(pixels_of(tmp_path / "cut.npz"), expected(hips))
