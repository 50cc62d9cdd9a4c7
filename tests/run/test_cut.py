from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inzitu.pipelines.catalogue import CutParameters, SelectParameters
from inzitu.run.cut import cut
from inzitu.run.select import select
from inzitu.run.work import Outcome, Work
from story.stage import Stage


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

    class Killed(BaseException):
        pass

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
