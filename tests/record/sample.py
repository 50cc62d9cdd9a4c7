"""A small record: two uploads, a selection made of them, cutouts, a model, its predictions and their scores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.prov.facts import Activity, Agent, Artefact, Parameter, Product, Used
from inzitu.prov.recorder import Recorder
from inzitu.prov.store import digest

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
USER = Agent("orcid:0000-0001", "A. Stronomer", "Person")
HOST = Agent("host", "Data centre", "Organization")


class Road(dict[str, Artefact]):
    """The artefacts of the small record by role, with the outside files that were read."""

    outside: list[Path]


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file of some text, and return its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def activity(step: str = "select", *, kind: str = "Selection", hour: int = 0, used: tuple[Used, ...] = ()) -> Activity:
    """Return a run of a step that began some hours after noon and took a minute."""
    started = NOON + timedelta(hours=hour)
    return Activity(
        step=step,
        kind=kind,
        started=started,
        ended=started + timedelta(minutes=1),
        agent=HOST,
        parameters=(Parameter("radius", 1.5, "arcsec", "Search radius"), Parameter("seed", hour)),
        software={"numpy": "2.3.1", "jax": "0.12.0"},
        device="cpu:2",
        code="inzitu 0.1.0",
        used=used,
    )


def reading(path: Path, files: list[Path]) -> Path:
    """Write the list of the files that were read, one band each, and return its path."""
    columns = {
        "uri": [file.as_uri() for file in files],
        "sha256": [digest(file) for file in files],
        "bytes": [file.stat().st_size for file in files],
        "band": list("ugriz"[: len(files)]),
    }
    pq.write_table(pa.table(columns), path)
    return path


def record_road(recorder: Recorder, scratch: Path, job: str = "job-1") -> Road:
    """Record five steps, from the uploads to the scores."""
    road = Road()
    for name in ("training", "targets"):
        path = write(scratch, f"{name}.csv", f"ra,dec\n1,2\n# {name}\n")
        road[name] = recorder.admit(path, kind="upload", media_type="text/csv", name=path.name, agent=USER)

    def run(step: str, kind: str, hour: int, uses: list[str], makes: dict[str, str], **readings: Path) -> None:
        used = tuple(Used(role, road[role].id) for role in uses)
        made = {
            role: Product(write(scratch, role, f"{role} of {step}"), what, "text/plain", f"{role}.txt")
            for role, what in makes.items()
        }
        facts = activity(step, kind=kind, hour=hour, used=used)
        road.update(recorder.record(facts, made, readings=readings, job=job))

    road.outside = [write(scratch, f"hips/Npix{n}.fits", f"tile {n}") for n in range(3)]
    tiles = reading(scratch / "tiles.parquet", road.outside)
    run("select", "Selection", 0, ["training", "targets"], {"selection": "selection", "log": "log"})
    run("cut", "Reduction", 1, ["selection"], {"cutouts": "cutouts"}, tiles=tiles)
    run("train", "Reconstruction", 2, ["selection", "cutouts"], {"split": "split", "model": "model"})
    run("predict", "Reconstruction", 3, ["selection", "cutouts", "model"], {"predictions": "predictions"})
    run("evaluate", "Analysis", 4, ["selection", "predictions"], {"scores": "scores", "pit": "picture"})
    return road
