"""`python -m benchmarks [NAME ...]`: run the benchmarks and print their tables; all of them, or those named.

A benchmark is a module of this package with a function `run() -> str`, which returns a table in Markdown: each figure
beside its peer's of the same run. What it generates goes to `bench-data/`. Traps that make a benchmark lie, and what is
done here: a cold cache (a first round is not counted), a busy machine (contenders take turns, medians are reported, and
processor time stands beside wall time), different answers (the answers are compared), imports left out (processes are
timed from start to end where that is what a user waits for).
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import platform
import sys
from pathlib import Path


def main(wanted: list[str]) -> int:
    """Run the benchmarks that are wanted."""
    here = Path(__file__).parent
    names = sorted(module.name for module in pkgutil.iter_modules([str(here)]) if not module.name.startswith("_"))
    if unknown := set(wanted) - set(names):
        print(f"No benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}.", file=sys.stderr)
        return 2
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    for name in wanted or names:
        module = importlib.import_module(f"benchmarks.{name}")
        if hasattr(module, "run"):
            print(f"## {name}\n\n{module.run()}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
