from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

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
