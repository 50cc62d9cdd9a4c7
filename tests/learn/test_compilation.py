from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from inzitu.learn import compilation

if TYPE_CHECKING:
    import pytest

_COMPILE_TWICE = """
import pathlib, sys
import jax, jax.numpy as jnp
from inzitu.learn import compilation
compilation.WORTH_KEEPING = 0.0
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None)
compilation.keep(pathlib.Path(sys.argv[1]))
program = jax.jit(lambda x: jnp.linalg.norm(jnp.sin(x) @ x))
program(jnp.ones((3, 3)))
jax.clear_caches()
program(jnp.ones((3, 3)))
print(len(hits))
"""


def test_a_program_that_was_compiled_once_is_taken_from_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _COMPILE_TWICE, str(tmp_path / "programs")]
    done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    assert int(done.stdout) > 0
    assert list((tmp_path / "programs").iterdir())


_FIRST_STEP = """
import pathlib, sys
import jax, pytest
from inzitu.learn import compilation
compilation.keep(pathlib.Path(sys.argv[1]))
found = []
jax.monitoring.register_event_listener(lambda event, **_: found.append(event.rpartition("/")[2]))
from inzitu.learn.recipe import Recipe
from inzitu.learn.train import train
from learn.tiny import coloured, offer, thirds
def stop(report):
    print(found.count("cache_misses"), found.count("cache_hits"))
    raise SystemExit
with pytest.MonkeyPatch.context() as patch:
    offer(patch)
    train(*coloured(60), thirds(60), recipe=Recipe(network="tiny", batch_size=16), report=stop)
"""


def test_a_second_start_of_a_training_compiles_nothing_and_looks_up_few_programs(tmp_path: Path) -> None:
    def started() -> tuple[int, int]:
        command, environment = [sys.executable, "-c", _FIRST_STEP, str(tmp_path)], os.environ | {"PYTHONPATH": "tests"}
        done = subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True, text=True)
        compiled, taken = map(int, done.stdout.split())
        return compiled, taken

    assert started()[0] > 0
    compiled, taken = started()
    assert compiled == 0
    assert 2 <= taken <= 25  # each is traced, lowered and looked up in some milliseconds


def test_the_programs_kept_longest_go_first(tmp_path: Path) -> None:
    keep = "from inzitu.learn import compilation; compilation.keep(pathlib.Path(sys.argv[1]), most=250)"
    program = f"import pathlib, sys; {keep}; sys.exit('jax' in sys.modules)"
    for age in range(4):
        path = tmp_path / f"program-{age}"
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program-0", "program-1"]


def test_a_program_that_another_worker_removes_meanwhile_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gone", "going", "new"):
        (tmp_path / name).write_bytes(bytes(100))
    stat = Path.stat

    def late(path: Path, **options: bool) -> os.stat_result:
        if path.name == "gone":
            path.unlink(missing_ok=True)
        about = stat(path, **options)
        if path.name == "going":
            path.unlink()
        return about

    monkeypatch.setattr(Path, "stat", late)
    compilation._make_room(tmp_path, 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    compilation.keep(tmp_path, most=1 << 60)
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
