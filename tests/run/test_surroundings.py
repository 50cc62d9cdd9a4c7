from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inzitu.manifest import Manifest
from inzitu.run.surroundings import archive_state

PROPERTIES = (
    "obs_title = {title}\nhips_order = 3\nhips_tile_format = fits\nhips_frame = equatorial\nhips_tile_width = 512\n"
)


@pytest.fixture
def archive(tmp_path: Path) -> Manifest:
    for band in ("g", "r"):
        (tmp_path / band / "Norder3" / "Dir0").mkdir(parents=True)
        (tmp_path / band / "properties").write_text(PROPERTIES.format(title=band))
        (tmp_path / band / "Norder3" / "Dir0" / "Npix0.fits").touch()
        (tmp_path / band / "Moc.fits").write_bytes(b"one")
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "catalogue" / "part.parquet").write_bytes(b"one")
    path = tmp_path / "manifest.yaml"
    path.write_text("archive: {surveys: [{band: g, hips: g}, {band: r, hips: r}], catalogue: {path: catalogue}}")
    return Manifest.load(path)


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "catalogue" / "part.parquet").write_bytes(b"longer"),
        lambda folder: touched(folder / "catalogue" / "part.parquet"),
        lambda folder: (folder / "catalogue" / "more.parquet").write_bytes(b"two"),
        lambda folder: (folder / "r" / "Moc.fits").write_bytes(b"longer"),
        lambda folder: (folder / "r" / "Moc.fits").unlink(),
        lambda folder: (folder / "g" / "properties").write_text(PROPERTIES.format(title="new")),
    ],
)
def test_whatever_changes_in_the_archive_changes_its_state(
    archive: Manifest, change: Callable[[Path], object], tmp_path: Path
) -> None:
    before = archive_state(archive.archive)
    assert archive_state(archive.archive) == before
    change(tmp_path)
    assert archive_state(archive.archive) != before
