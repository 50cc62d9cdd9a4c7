from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inzitu.errors import ArchiveFault
from inzitu.hips import Flag, Status, Survey, cutouts
from inzitu.hips.tiles import Handle, Tile
from inzitu.pipelines.parameters import CutParameters, SelectParameters
from inzitu.run import cut as module
from inzitu.run.cut import cut
from inzitu.run.select import select
from inzitu.run.work import Outcome, Work
from run.conftest import Told
from story.stage import Stage


class Killed(BaseException):
    pass


@pytest.fixture
def selection(few: Stage, work: Work, tmp_path: Path) -> Path:
    path = tmp_path / "targets.parquet"
    pq.write_table(pa.table({"ra": list(few.quasars["ra"]), "dec": list(few.quasars["dec"])}), path)
    return select(SelectParameters(), {"targets": path}, work).made["selection"]


def done(work: Work, selection: Path, folder: Path) -> Outcome:
    folder.mkdir()
    return cut(CutParameters(size=28), {"selection": selection}, replace(work, folder=folder))


def pixels(outcome: Outcome) -> np.ndarray:
    return np.asarray(np.load(outcome.made["cutouts"] / "pixels.npy"))


def test_each_band_has_its_own_status_fraction_and_flags(
    few: Stage, work: Work, selection: Path, tmp_path: Path, told: Told
) -> None:
    tiles = sorted((few.folder / "hips/r").glob("Norder*/Dir*/Npix*.fits"))
    contents = {tile: tile.read_bytes() for tile in tiles}
    some = len(tiles) // 4
    for tile in tiles[:some]:
        tile.unlink()
    for tile in tiles[-some:]:
        tile.write_bytes(contents[tile][:4000])
    try:
        folder = done(work, selection, tmp_path / "first").made["cutouts"]
        picked = pq.read_table(selection).to_pydict()
        stamps = cutouts(
            [Survey.open(entry.hips) for entry in work.manifest.archive.surveys],
            picked["ra"],
            picked["dec"],
            size=28,
            scale=CutParameters().scale,
        )
    finally:
        for tile, content in contents.items():
            tile.write_bytes(content)
    rows, bands = pq.read_table(folder / "rows.parquet"), work.manifest.archive.bands
    for k, band in enumerate(bands):
        assert rows[f"status_{band}"].to_pylist() == [Status(value).word for value in stamps.status[:, k]]
        assert rows[f"fraction_{band}"].to_pylist() == stamps.fraction[:, k].tolist()
        assert rows[f"flags_{band}"].to_pylist() == [Flag(value).words for value in stamps.flags[:, k]]
    assert rows["status"].to_pylist() == stamps.status_words()
    counts = Counter(rows["status_r"].to_pylist())
    assert counts["error"]
    assert counts["blank"] + counts["partial"]
    assert json.loads((folder / "cutouts.json").read_text())["statuses"] == {
        band: counts if band == "r" else {"ok": rows.num_rows} for band in bands
    }
    assert [line.partition(":")[0] for line in told.lines if line.startswith("band ")] == ["band r"]


def test_an_attempt_that_dies_before_its_record_is_written_leaves_no_zeros_to_the_next(
    work: Work, selection: Path, tmp_path: Path
) -> None:
    whole = pixels(done(work, selection, tmp_path / "first"))
    shutil.rmtree(tmp_path / "first")  # as the runner does with what a killed attempt had half made
    again = pixels(done(work, selection, tmp_path / "second"))
    assert np.all(np.abs(again).max(axis=(1, 2, 3)) > 0)
    np.testing.assert_array_equal(again, whole)


def test_finished_groups_are_not_cut_again(
    work: Work, selection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inzitu.run.cut.ROWS_A_GROUP", 4)

    def die(done: float, _total: float, /, **_: object) -> None:
        if done >= 8:
            raise Killed

    with pytest.raises(Killed):
        done(replace(work, progress=die), selection, tmp_path / "first")
    taken = []
    engine_map = work.engine.map

    def counted(function: object, items: list[object]) -> object:
        taken.extend(items)
        return engine_map(function, items)  # type: ignore[arg-type]  # whatever the step hands over

    monkeypatch.setattr(work.engine, "map", counted)
    outcome = done(work, selection, tmp_path / "second")
    assert 0 < len(taken) < 3
    assert np.all(np.abs(pixels(outcome)).max(axis=(1, 2, 3)) > 0)
    assert len(pq.read_table(outcome.readings["tiles"])) == outcome.account["tiles"]


def begun(work: Work, selection: Path, folder: Path) -> None:
    """An attempt that dies when its first groups are done."""

    def die(*_: object, **__: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        done(replace(work, progress=die), selection, folder)


def test_stamps_of_another_edition_are_not_taken_up(
    few: Stage, work: Work, selection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inzitu.run.cut.ROWS_A_GROUP", 4)
    begun(work, selection, tmp_path / "first")
    properties = few.folder / "hips/r/properties"
    whole, engine_map = properties.read_text(), work.engine.map
    taken: list[Any] = []

    def counted(function: object, items: list[object]) -> object:
        taken.extend(items)
        return engine_map(function, items)  # type: ignore[arg-type]  # whatever the step hands over

    monkeypatch.setattr(work.engine, "map", counted)
    properties.write_text(whole + "hips_release_date = 2031-01-01T00:00Z\n")
    try:
        outcome = done(work, selection, tmp_path / "second")
    finally:
        properties.write_text(whole)
    assert sum(len(ra) for ra, _ in taken) == len(pixels(outcome))


def test_stamps_of_other_sources_are_not_taken_up(work: Work, selection: Path, tmp_path: Path) -> None:
    begun(work, selection, tmp_path / "first")
    rows = pq.read_table(selection)
    turned = tmp_path / "turned.parquet"  # as many sources, and not the same: as of a catalogue that has changed
    pq.write_table(rows.take(list(reversed(range(rows.num_rows)))), turned)
    again = pixels(done(work, turned, tmp_path / "second"))
    others = pixels(done(replace(work, checkpoints=tmp_path / "others"), turned, tmp_path / "third"))
    np.testing.assert_array_equal(again, others)


def test_a_disk_that_fills_keeps_the_finished_groups(
    work: Work, selection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_A_GROUP", 4)
    groups, note = [], module._note

    def full_at_the_second(reads: object, path: Path) -> None:
        groups.append(path.name)
        if len(groups) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        note(reads, path)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(module, "_note", full_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        done(work, selection, tmp_path / "first")
    outcome = done(work, selection, tmp_path / "second")
    assert groups[0] not in groups[1:]
    others = done(replace(work, checkpoints=tmp_path / "others"), selection, tmp_path / "third")
    np.testing.assert_array_equal(pixels(outcome), pixels(others))
    assert outcome.account["tiles"] == len(set(pq.read_table(outcome.readings["tiles"])["uri"].to_pylist()))


def test_a_disk_without_room_for_the_stamps_ends_the_step_before_anything_is_cut(
    work: Work, selection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", full)  # a write to a map of a file without room would be a SIGBUS
    with pytest.raises(OSError, match="No space left"):
        done(work, selection, tmp_path / "first")


def test_a_tile_replaced_during_the_run_is_told_by_the_digest_of_what_was_read(
    few: Stage, work: Work, selection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = next((few.folder / "hips/r").glob("Norder*/Dir*/Npix*.fits"))
    whole, opened = tile.read_bytes(), Tile.__init__
    other = whole[:2880] + whole[2880:][::-1]

    def replaced_once_open(self: Tile, handle: Handle, uri: str, **options: Any) -> None:
        opened(self, handle, uri, **options)
        if uri == tile.as_uri():
            tile.write_bytes(other)

    monkeypatch.setattr(Tile, "__init__", replaced_once_open)
    try:
        outcome = done(work, selection, tmp_path / "first")
        [read] = [row for row in pq.read_table(outcome.readings["tiles"]).to_pylist() if row["uri"] == tile.as_uri()]
        assert read["sha256"] == hashlib.sha256(whole).hexdigest()
        assert tile.read_bytes() == other
    finally:
        tile.write_bytes(whole)


def test_a_survey_whose_properties_lie_is_the_archives_fault(
    few: Stage, work: Work, selection: Path, tmp_path: Path
) -> None:
    properties = few.folder / "hips/r/properties"
    whole = properties.read_text()
    properties.write_text(re.sub(r"(?m)^hips_order .*$", "hips_order = 3", whole))
    try:
        with pytest.raises(ArchiveFault, match="states hips_order 3, but its deepest FITS tiles are in Norder13"):
            done(work, selection, tmp_path / "first")
    finally:
        properties.write_text(whole)
