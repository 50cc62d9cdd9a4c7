"""Compiled programs kept on disk, so that a second start of the same training or predictor does not compile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax

# Programs that compile faster are not worth a file [s].
WORTH_KEEPING = 0.3


def keep(folder: Path) -> None:
    """Keep this process's compiled programs in a folder, and take those that are there.

    A setting of JAX for the whole process: for a worker or a script at its start, not for a library.

    Parameters
    ----------
    folder
        Made if it is not there; may be shared by processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    update: Callable[[str, object], None] = jax.config.update
    update("jax_compilation_cache_dir", str(folder))
    update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)
    update("jax_persistent_cache_min_entry_size_bytes", 0)
