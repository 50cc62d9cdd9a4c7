"""Cutouts on their way to a file: arrays on disk that fill row by row, until all rows are there.

While it runs, everything is in a folder beside the output, `<out>.part`: the arrays and a description of the request.
Room on the disk is taken at the start, so that a full disk is an error then; writing to a sparse file through a map
would end the process instead. When all rows are there, the output is put together and renamed into place, and the
folder goes.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from inzitu.errors import ParameterFault
from inzitu.hips import Cutouts

CHUNK_BYTES = 16 << 20
"""Bytes of a chunk of the Zarr array, before compression."""
REQUEST = "request.json"
UNDONE = -1
"""Stands in `status` for a row that has not been cut."""

type Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Unfinished:
    """The arrays of an output that is not whole yet."""

    folder: Path
    pixels: Float[np.memmap, "n y x band"]
    status: Integer[np.ndarray, "n band"]
    fraction: Float[np.ndarray, "n band"]
    flags: Integer[np.ndarray, "n band"]

    @classmethod
    def open(cls, folder: Path, request: Mapping[str, object], shape: tuple[int, int, int, int]) -> Unfinished:
        """Take up the unfinished run of a request, or begin one.

        Raises
        ------
        ParameterFault
            The folder holds an unfinished run of another request.
        OSError
            The disk has no room.
        """
        stated = folder / REQUEST
        if stated.exists():
            if (before := json.loads(stated.read_text(encoding="utf-8"))) != request:
                differing = ", ".join(key for key in request if before.get(key) != request[key])
                raise ParameterFault(
                    f"{folder} holds an unfinished run with another {differing}; remove it, or ask for the same again."
                )
        else:
            _begin(folder, shape)
            stated.write_text(json.dumps(request), encoding="utf-8")  # last: without it, the run begins anew
        return cls(
            folder,
            *(np.load(folder / f"{name}.npy", mmap_mode="r+") for name in ("pixels", "status", "fraction", "flags")),
        )

    @property
    def undone(self) -> Integer[np.ndarray, " m"]:
        """Rows that have not been cut."""
        return np.flatnonzero((self.status == UNDONE).any(axis=1))

    def store(self, rows: Integer[np.ndarray, " m"], stamps: Cutouts) -> None:
        """Put rows in their places; their status last, and only when the pixels are on the disk."""
        self.pixels[rows], self.fraction[rows], self.flags[rows] = stamps.pixels, stamps.fraction, stamps.flags
        self.pixels.flush()
        self.status[rows] = stamps.status

    def hand_over(self, path: Path, out: Path) -> None:
        """Move what is whole out of the folder; from here on, the same request begins anew."""
        (self.folder / REQUEST).unlink()
        path.replace(out)
        shutil.rmtree(self.folder)

    def finish(self, out: Path, ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"]) -> None:
        """Put the output together, rename it into place and remove the folder."""
        rows = {
            "status": self.status.max(axis=1),
            "statuses": np.asarray(self.status),
            "fraction": np.asarray(self.fraction),
            "flags": np.asarray(self.flags),
            "ra": ra,
            "dec": dec,
        }
        new = self.folder / f"whole{out.suffix}"
        match out.suffix:
            case ".npz":
                _write_npz(new, self.folder / "pixels.npy", rows)
            case ".npy":
                _write_npz(self.folder / "rows.npz", None, rows)
                (self.folder / "rows.npz").replace(out.with_name(out.name + ".rows.npz"))
                new = self.folder / "pixels.npy"
            case _:
                _write_zarr(new, self.pixels, rows)
                shutil.rmtree(out, ignore_errors=True)
        self.hand_over(new, out)


def _begin(folder: Path, shape: tuple[int, int, int, int]) -> None:
    """Make the arrays, with all the room that they need on the disk."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    n, bands = shape[0], shape[3]
    for name, kind, of in (
        ("pixels", "<f4", shape),
        ("status", "i1", (n, bands)),
        ("fraction", "<f4", (n, bands)),
        ("flags", "u1", (n, bands)),
    ):
        with (folder / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": np.dtype(kind).str, "fortran_order": False, "shape": of}
            )
            file.flush()
            if length := int(np.prod(of)) * np.dtype(kind).itemsize:
                os.posix_fallocate(file.fileno(), file.tell(), length)
    np.load(folder / "status.npy", mmap_mode="r+")[...] = UNDONE


def _write_npz(path: Path, pixels: Path | None, rows: Mapping[str, Array]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        if pixels:
            archive.write(pixels, "pixels.npy")
        for name, values in rows.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _write_zarr(path: Path, pixels: Float[np.ndarray, "n y x band"], rows: Mapping[str, Array]) -> None:
    import zarr

    store = zarr.open_group(path, mode="w")
    many = max(1, min(len(pixels), CHUNK_BYTES // max(1, pixels[:1].nbytes)))
    array = store.create_array("pixels", shape=pixels.shape, dtype=pixels.dtype, chunks=(many, *pixels.shape[1:]))
    for start in range(0, len(pixels), many):
        array[start : start + many] = pixels[start : start + many]
    for name, values in rows.items():
        store.create_array(name, data=values)
