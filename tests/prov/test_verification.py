from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from inzitu.prov import schema
from inzitu.prov.readings import read_reading
from inzitu.prov.recorder import Recorder
from inzitu.prov.verification import State, read_local, verify
from record.sample import Road, activity, write


def overwrite(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


def test_an_intact_chain_holds(recorder: Recorder, road: Road) -> None:
    seen: list[int] = []
    verdict = verify(recorder, road["scores"].id, read=read_local, progress=seen.append)
    assert verdict.holds
    assert {link.state for link in verdict.links} == {State.INTACT}
    assert seen == list(range(1, 12))
    assert str(verdict) == "The chain holds: 11 intact."


def test_the_links_go_from_the_origins_to_the_end(recorder: Recorder, road: Road) -> None:
    order = [link.name for link in verify(recorder, road["scores"].id).links]
    assert set(order[:2]) == {"training.csv", "targets.csv"}
    assert order[-1] == "scores.txt"
    assert order.index("tiles.parquet") < order.index("cutouts.txt") < order.index("model.txt")


def test_every_single_fault_is_found_and_named(recorder: Recorder, road: Road) -> None:
    for role in ("training", "targets", "selection", "cutouts", "model", "predictions", "scores"):
        path = recorder.store.path(road[role].id)
        before = path.read_text()
        overwrite(path, before + "!")
        failure = verify(recorder, road["scores"].id).failure
        assert failure is not None
        assert (failure.id, failure.state) == (road[role].id, State.CHANGED)
        path.unlink()
        failure = verify(recorder, road["scores"].id).failure
        assert failure is not None
        assert (failure.id, failure.state) == (road[role].id, State.MISSING)
        path.write_text(before)
    assert verify(recorder, road["scores"].id).holds


def test_the_first_of_several_faults_is_named(recorder: Recorder, road: Road) -> None:
    for role in ("predictions", "selection", "model"):
        overwrite(recorder.store.path(road[role].id), "changed")
    verdict = verify(recorder, road["scores"].id)
    assert verdict.failure is not None
    assert verdict.failure.name == "selection.txt"
    assert verdict.count(State.CHANGED) == 3
    assert str(verdict).startswith("The chain is broken: selection.txt has changed")


def test_an_outside_file_that_changed_vanished_or_cannot_be_read_is_named(recorder: Recorder, road: Road) -> None:
    tile = road.outside[1]
    tile.write_text("other pixels")
    changed = verify(recorder, road["cutouts"].id, read=read_local).failure
    assert changed is not None
    assert (changed.id, changed.state) == (tile.as_uri(), State.CHANGED)
    tile.unlink()
    missing = verify(recorder, road["cutouts"].id, read=read_local).failure
    assert missing is not None
    assert (missing.id, missing.state) == (tile.as_uri(), State.MISSING)
    tile.mkdir()
    unreadable = verify(recorder, road["cutouts"].id, read=read_local).failure
    assert unreadable is not None
    assert unreadable.state == State.UNREADABLE
    unchecked = verify(recorder, road["cutouts"].id)
    assert unchecked.holds
    assert unchecked.count(State.UNCHECKED) == 3


def test_of_a_file_that_was_read_in_part_that_part_is_verified(recorder: Recorder, tmp_path: Path) -> None:
    tile = write(tmp_path, "tile.fits", "header, unread, pixels, unread")
    columns = {
        "uri": [tile.as_uri()],
        "sha256": [hashlib.sha256(b"header, pixels").hexdigest()],
        "bytes": [14],
        "ranges": ["0-7,16-21"],
    }
    pq.write_table(pa.table(columns), tmp_path / "tiles.parquet")
    product = {"log": (write(tmp_path, "log", "line"), "log", "text/plain", "log.txt")}
    recorder.record(activity("cut"), product, readings={"tiles": tmp_path / "tiles.parquet"}, job="j")
    for content, state in (
        ("header, xxxxxx, pixels, xxxxxx", State.INTACT),
        ("header, unread, pixel?, unread", State.CHANGED),
        ("header, unread, pix", State.CHANGED),
    ):
        tile.write_text(content)
        verdict = verify(recorder, "j", read=read_local)
        assert [link.state for link in verdict.links if link.id == tile.as_uri()] == [state]


def test_what_retention_destroyed_is_no_fault(recorder: Recorder, road: Road) -> None:
    for id in recorder.release("job-1"):
        recorder.store.remove(id)
    verdict = verify(recorder, road["scores"].id, read=read_local)
    assert verdict.holds
    assert verdict.count(State.DESTROYED) == 7
    assert "destroyed by retention at 2026-11-21T12:00:00Z" in verdict.links[-1].message


def test_an_artefact_that_nobody_made_or_brought_is_unrecorded(
    recorder: Recorder, road: Road, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(schema.attributions.delete().where(schema.attributions.c.artefact == road["training"].id))
    failure = verify(recorder, road["scores"].id).failure
    assert failure is not None
    assert (failure.id, failure.state) == (road["training"].id, State.UNRECORDED)


def test_an_unknown_identifier_is_unrecorded(recorder: Recorder) -> None:
    failure = verify(recorder, "0" * 64).failure
    assert failure is not None
    assert failure.state == State.UNRECORDED


def test_files_elsewhere_or_without_a_digest_are_left_unchecked(recorder: Recorder, tmp_path: Path) -> None:
    columns = {"uri": ["http://localhost/tile.fits", "part.fits"], "sha256": ["0" * 64, ""], "bytes": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "tiles.parquet")
    made = {"log": write(tmp_path, "log", "line")}
    product = {role: (path, "log", "text/plain", "log.txt") for role, path in made.items()}
    recorder.record(activity("cut"), product, readings={"tiles": tmp_path / "tiles.parquet"}, job="j")
    verdict = verify(recorder, "j", read=read_local)
    assert verdict.holds
    assert verdict.count(State.UNCHECKED) == 2


GOOD = {"uri": ["a"], "sha256": ["0" * 64], "bytes": [1]}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"uri": ["a"], "bytes": [1]}, "no column sha256"),
        (GOOD | {"sha256": ["xyz"]}, "64 lower-case"),
        (GOOD | {"sha256": [None]}, "needed"),
        (GOOD | {"uri": [""]}, "no uri"),
        (GOOD | {"uri": [1]}, "needed"),
        (GOOD | {"bytes": [-1]}, "0 or more"),
        (GOOD | {"bytes": ["many"]}, "needed"),
        (GOOD | {"ranges": ["all"]}, "write them as in 0-5759,8640-9999"),
    ],
)
def test_a_list_that_is_no_reading_is_refused_in_words(
    tmp_path: Path, columns: dict[str, list[object]], words: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "tiles.parquet")
    with pytest.raises(ValueError, match=words):
        read_reading(tmp_path / "tiles.parquet")


def test_so_is_a_truncated_one(tmp_path: Path) -> None:
    path = tmp_path / "tiles.parquet"
    pq.write_table(pa.table(GOOD), path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cannot be read as Parquet"):
            read_reading(path)


def test_a_band_is_optional(tmp_path: Path) -> None:
    pq.write_table(pa.table(GOOD), tmp_path / "tiles.parquet")
    assert read_reading(tmp_path / "tiles.parquet")[0].band == ""
