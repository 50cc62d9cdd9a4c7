"""Cutouts on their way to a file: arrays on disk that fill row by row, until all rows are there.

While it runs, everything is in a folder beside the output, `<out>.part`: the arrays and a description of the request.
Room for them is taken at the start, so that a full disk is an error then; writing to a sparse file through a map would
end the process instead. When all rows are there, the output is put together, for which `.npz` and `.zarr` need room
again, and renamed into place; only then the folder goes.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
LOCK = "lock"
SUFFIXES = (".npz", ".npy", ".zarr")
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
        if stated.exists() and (folder / "pixels.npy").exists():  # else it died when they had been handed over
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
        """Move what is whole out of the folder; only then, the same request begins anew."""
        if out.is_dir():  # a Zarr group, which no rename replaces
            out.replace(self.folder / "earlier")
        path.replace(out)
        (self.folder / REQUEST).unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

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
                (self.folder / "rows.npz").replace(_rows_beside(out))
                new = self.folder / "pixels.npy"
            case _:
                with _disk_of(new, self.pixels.nbytes):
                    _write_zarr(new, self.pixels, rows)
        self.hand_over(new, out)


def check_place(out: Path) -> None:
    """Refuse an output that could not be put in its place, or in whose place lies something else than its like.

    Raises
    ------
    ParameterFault
        Its name has another ending, or what is there is of another kind.
    """
    if out.suffix not in SUFFIXES:
        raise ParameterFault(f"{out.name} must end in one of {', '.join(SUFFIXES)}.")
    if out.suffix == ".zarr":
        group = any((out / name).is_file() for name in ("zarr.json", ".zgroup"))
        wrong, kind = [out] if out.exists() and not group else [], "no Zarr group"
    else:
        wrong, kind = [path for path in (out, _rows_beside(out)) if path.is_dir()], "a folder"
    if wrong:
        raise ParameterFault(f"{wrong[0]} is there and is {kind}; move it away, or give another name.")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a folder to this process, by a lock that the kernel takes back from a process that dies.

    Raises
    ------
    ParameterFault
        Another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ParameterFault(f"another process is filling {folder}; wait for it, or give another name.") from None
        yield


def _begin(folder: Path, shape: tuple[int, int, int, int]) -> None:
    """Make the arrays, with all the room that they need on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != LOCK:
            left.unlink()
    try:
        _make(folder, shape)
    except BaseException:
        shutil.rmtree(folder)
        raise


def _make(folder: Path, shape: tuple[int, int, int, int]) -> None:
    n, bands = shape[0], shape[3]
    for name, kind, of in (
        ("pixels", "<f4", shape),
        ("status", "i1", (n, bands)),
        ("fraction", "<f4", (n, bands)),
        ("flags", "u1", (n, bands)),
    ):
        path, length = folder / f"{name}.npy", math.prod(of) * np.dtype(kind).itemsize
        with _disk_of(path, length), path.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": np.dtype(kind).str, "fortran_order": False, "shape": of}
            )
            file.flush()
            if length:
                os.posix_fallocate(file.fileno(), file.tell(), length)
    np.load(folder / "status.npy", mmap_mode="r+")[...] = UNDONE


def _rows_beside(out: Path) -> Path:
    """Return where all but the pixels goes of an output that is a plain array."""
    return out.with_name(out.name + ".rows.npz")


@contextmanager
def _disk_of(path: Path, length: int) -> Iterator[None]:
    """Let an error of the disk say what was written and how much it needs: those of writing say neither."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror} for {length:,} bytes", str(path)) from error


def _write_npz(path: Path, pixels: Path | None, rows: Mapping[str, Array]) -> None:
    length = (pixels.stat().st_size if pixels else 0) + sum(values.nbytes for values in rows.values())
    with _disk_of(path, length), zipfile.ZipFile(path, "w") as archive:
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
