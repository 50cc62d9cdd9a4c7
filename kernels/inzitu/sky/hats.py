"""Catalogues in folders: which files hold the rows, and what a HATS catalogue says of itself (IVOA Note HATS 1.0).

A HATS catalogue is a folder of Parquet files by HEALPix cell, with previews, metadata and a file of properties beside
them. A HATS collection is a folder of several: the catalogue itself, the same rows again around each cell's margin, and
indices. A partitioned folder of any other kind is its Parquet files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

STATED = ("hats.properties", "properties")
"""Names of the file of properties, the present one first."""
COLLECTION = "collection.properties"
BESIDE = ("_", ".", "data_thumbnail.", "partition_info.")
"""How the names of Parquet files begin that hold no rows of the catalogue."""


def keywords(text: str) -> dict[str, str]:
    """Return the keywords of a file of properties, in the form that HiPS and HATS share; # begins a comment."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#") and "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def row_files(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder in the order in which their rows count: by their paths.

    Raises
    ------
    ValueError
        A collection does not name its catalogue, or one that is not there.
    """
    found = (file for file in _catalogue(folder).rglob("*.parquet") if file.is_file())
    return sorted(file for file in found if not file.name.startswith(BESIDE))


def position_names(folder: Path) -> tuple[str, str] | None:
    """Return the columns with right ascension and declination that a HATS catalogue states; None if it does not."""
    stated = _stated(_catalogue(folder))
    names = stated.get("hats_col_ra"), stated.get("hats_col_dec")
    return (names[0], names[1]) if names[0] and names[1] else None


def _catalogue(folder: Path) -> Path:
    """Return the folder itself, or of a collection that of its catalogue."""
    if not (folder / COLLECTION).is_file():
        return folder
    named = keywords((folder / COLLECTION).read_text(encoding="utf-8")).get("hats_primary_table_url", "")
    if not named or not (folder / named).is_dir():
        raise ValueError(
            f"The collection {folder.name} names the catalogue {named!r} (hats_primary_table_url), which is no folder "
            "in it; name that of the catalogue itself."
        )
    return folder / named


def _stated(folder: Path) -> Mapping[str, str]:
    path = next((folder / name for name in STATED if (folder / name).is_file()), None)
    return {} if path is None else keywords(path.read_text(encoding="utf-8", errors="replace"))
