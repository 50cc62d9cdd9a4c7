"""Compiled programs kept on disk, so that a second start of the same training or predictor does not compile.

Loads no JAX: it may be asked for at a process's start, whether or not something will be compiled.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# A start compiles some hundred small programs besides the large one; together they take longer than it [s].
WORTH_KEEPING = 0.0
MOST_BYTES = 1 << 30


def keep(folder: Path, *, most: int = MOST_BYTES) -> None:
    """Keep this process's compiled programs in a folder, and take those that are there.

    A setting of JAX for the whole process and those it starts: for a worker or a script, not for a library. A disk that
    has less room than `most` is left alone: what only saves time must not be what fills it.

    Parameters
    ----------
    folder
        Made if it is not there; may be shared by processes.
    most
        Beyond this the programs kept longest go [byte].
    """
    folder.mkdir(parents=True, exist_ok=True)
    _make_room(folder, most)
    if shutil.disk_usage(folder).free < most:
        return
    settings: dict[str, object] = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": WORTH_KEEPING,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)
        if (jax := sys.modules.get("jax")) is not None:
            update: Callable[[str, object], None] = jax.config.update
            update(name, value)


def _make_room(folder: Path, most: int) -> None:
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process makes room as well
            about = path.stat()
            if stat.S_ISREG(about.st_mode):
                found.append((about.st_mtime, about.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > most:
            path.unlink(missing_ok=True)
