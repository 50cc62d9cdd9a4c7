"""What commands print with: two consoles and a progress bar, for all that takes more than two seconds."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

# Messages hold what users sent, brackets and all, so none of it is markup.
OUT = Console(highlight=False, soft_wrap=True, markup=False)
ERR = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def progress_bar() -> Progress:
    """Return a progress bar on stderr, so that what a command prints can be piped."""
    columns = (TextColumn("{task.description:44}"), BarColumn(), TaskProgressColumn("{task.percentage:3.0f} %"))
    return Progress(*columns, TimeElapsedColumn(), console=ERR)
