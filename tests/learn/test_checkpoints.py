from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from inzitu.learn.checkpoints import CheckpointError, Checkpoints

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:orbax")


def state(value: float) -> dict[str, np.ndarray]:
    return {"a": np.full((3, 2), value, np.float32), "b": np.array(int(value), np.int32)}


def saved(folder: Path, *steps: int) -> None:
    with Checkpoints.open(folder, identity="x") as store:
        for step in steps:
            store.save(step, state(step), [])


def restored(folder: Path) -> Any:
    with Checkpoints.open(folder, identity="x") as store:
        return store.restore(state(0))


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    with Checkpoints.open(tmp_path, identity="x") as store:
        store.save(4, state(4.5), [{"step": 4.0, "loss": 0.25}])
    found, history = restored(tmp_path) or (None, None)
    assert found is not None
    np.testing.assert_array_equal(found["a"], state(4.5)["a"])
    assert found["b"] == 4
    assert history == [{"step": 4.0, "loss": 0.25}]


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert restored(tmp_path / "new") is None


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["2", "3"]


@pytest.mark.parametrize("harm", ["cut", "emptied", "gone"])
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, 1, 2)
    for path in [path for path in (tmp_path / "2").rglob("*") if path.is_file()]:
        match harm:
            case "cut":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            case "emptied":
                path.write_bytes(b"")
            case _:
                path.unlink()
    with caplog.at_level(logging.WARNING):
        found, _ = restored(tmp_path) or (None, None)
    assert found is not None
    assert found["b"] == 1
    assert "checkpoint 2 is damaged" in caplog.text


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (tmp_path / "2.orbax-checkpoint-tmp-7").mkdir()
    found, _ = restored(tmp_path) or (None, None)
    assert found is not None
    assert found["b"] == 1


def test_checkpoints_of_another_training_are_refused_and_kept(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    with (
        Checkpoints.open(tmp_path, identity="y") as store,
        pytest.raises(CheckpointError, match="belongs to another recipe or other data"),
    ):
        store.restore({"other": np.zeros(9)})
    assert (tmp_path / "1").exists()


def test_a_folder_that_another_has_is_refused_in_words_and_free_again_when_that_one_is_done(tmp_path: Path) -> None:
    with (
        Checkpoints.open(tmp_path, identity="x"),
        pytest.raises(CheckpointError, match=r"another process trains .* did not end within 0.2 s: stop it, or"),
    ):
        Checkpoints.open(tmp_path, identity="x", patience=0.2)
    assert restored(tmp_path) is None


_SAVE_ON_AND_ON = """
import sys, pathlib
from inzitu.learn.checkpoints import Checkpoints
from learn.test_checkpoints import state
with Checkpoints.open(pathlib.Path(sys.argv[1]), identity="x") as store:
    store.save(1, state(1), [])
    print("saved", flush=True)
    for step in range(2, 1000):
        store.save(step, state(step), [])
"""


def test_who_takes_over_waits_for_a_process_that_is_killed_while_it_saves_and_finds_a_whole_checkpoint(
    tmp_path: Path,
) -> None:
    command, environment = [sys.executable, "-c", _SAVE_ON_AND_ON, str(tmp_path)], os.environ | {"PYTHONPATH": "tests"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"saved\n"
        with pytest.raises(CheckpointError, match="another process trains"):
            Checkpoints.open(tmp_path, identity="x", patience=0.0)
        threading.Timer(0.3, process.kill).start()
        found, _ = restored(tmp_path)
    np.testing.assert_array_equal(found["a"], np.full((3, 2), found["b"], np.float32))
    assert found["b"] >= 1
