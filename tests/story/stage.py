"""The story's stage: a small archive of real quasars, and the lists that a user sends."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvo
import requests
import yaml
from astropy.table import Table

from inzitu.archive.stamps import build, demo_stamps

COUNT = 60
KNOWN = 44
QUICK = {"EPOCHS": "2", "SIZE": "28", "MEMBERS": "1"}
"""Parameters that keep a training short; the network is the real one."""


@dataclass(frozen=True)
class Stage:
    """An archive of sixty quasars, and where its deployment lives."""

    folder: Path
    quasars: Table

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.yaml"

    def list(self, name: str, *, rows: slice = slice(None), redshifts: bool = True, **changes: object) -> Path:
        """Write a list of some of the quasars, with columns replaced, as a VOTable."""
        table = self.quasars[rows].copy()
        if not redshifts:
            table.remove_column("z")
        for column, values in changes.items():
            if values is None:
                table.remove_column(column)
            else:
                table[column] = values
        path = self.folder / f"{name}.vot"
        table.write(path, format="votable", overwrite=True)
        return path


def make_stage(folder: Path, *, count: int = COUNT) -> Stage:
    """Build an archive of the first quasars."""
    with np.load(demo_stamps()) as file:
        content = {key: file[key] for key in file.files}
    whole = len(content["ra"])
    few = {key: value[:count] if value.ndim and len(value) == whole else value for key, value in content.items()}
    np.savez(folder / "few.npz", **few)
    build(folder / "few.npz", folder)
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    manifest["engine"] = {"checkpoint_seconds": 0.5}
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    names = [str(name) for name in few["objID"]]
    return Stage(folder, Table({"source_id": names, "ra": few["ra"], "dec": few["dec"], "z": few["z"]}))


@contextmanager
def tap(url: str) -> Iterator[pyvo.dal.TAPService]:
    """The tables of a service, by pyvo; it leaves no connection open behind it."""
    with requests.Session() as session:
        yield pyvo.dal.TAPService(f"{url}/tap", session=session)
    with warnings.catch_warnings():
        # pyvo leaves the stream of an asynchronous result unread, and so its connection out of the session's pool.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def lists(stage: Stage) -> dict[str, Path]:
    """The two lists of the story: most quasars with redshift, the others without."""
    return {
        "training": stage.list("training", rows=slice(0, KNOWN)),
        "targets": stage.list("targets", rows=slice(KNOWN, COUNT), redshifts=False),
    }
