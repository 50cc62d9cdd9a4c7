from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inzitu.learn.checkpoints import CheckpointError, Checkpoints

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:orbax")


def state(value: float) -> dict[str, np.ndarray]:
    return {"a": np.full((3, 2), value, np.float32), "b": np.array(int(value), np.int32)}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    store = Checkpoints.open(tmp_path, identity="x")
    store.save(4, state(4.5), [{"step": 4.0, "loss": 0.25}])
    found, history = Checkpoints.open(tmp_path, identity="x").restore(state(0)) or (None, None)
    assert found is not None
    np.testing.assert_array_equal(found["a"], state(4.5)["a"])
    assert found["b"] == 4
    assert history == [{"step": 4.0, "loss": 0.25}]


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert Checkpoints.open(tmp_path / "new", identity="x").restore(state(0)) is None


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    store = Checkpoints.open(tmp_path, identity="x")
    for step in (1, 2, 3):
        store.save(step, state(step), [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


@pytest.mark.parametrize("harm", ["cut", "emptied", "gone"])
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Checkpoints.open(tmp_path, identity="x")
    store.save(1, state(1), [])
    store.save(2, state(2), [])
    for path in [path for path in (tmp_path / "2").rglob("*") if path.is_file()]:
        match harm:
            case "cut":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            case "emptied":
                path.write_bytes(b"")
            case _:
                path.unlink()
    with caplog.at_level(logging.WARNING):
        found, _ = Checkpoints.open(tmp_path, identity="x").restore(state(0)) or (None, None)
    assert found is not None
    assert found["b"] == 1
    assert "checkpoint 2 is damaged" in caplog.text


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path) -> None:
    Checkpoints.open(tmp_path, identity="x").save(1, state(1), [])
    (tmp_path / "2.orbax-checkpoint-tmp-7").mkdir()
    found, _ = Checkpoints.open(tmp_path, identity="x").restore(state(0)) or (None, None)
    assert found is not None
    assert found["b"] == 1


def test_checkpoints_of_another_training_are_refused_and_kept(tmp_path: Path) -> None:
    Checkpoints.open(tmp_path, identity="x").save(1, state(1), [])
    with pytest.raises(CheckpointError, match="belongs to another recipe or other data"):
        Checkpoints.open(tmp_path, identity="y").restore({"other": np.zeros(9)})
    assert (tmp_path / "1").exists()
