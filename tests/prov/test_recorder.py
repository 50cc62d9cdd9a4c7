from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from inzitu.prov import schema
from inzitu.prov.facts import Activity, Agent, Artefact, Parameter, Product, Used, key_of
from inzitu.prov.recorder import Recorder, UnrecordedError
from inzitu.prov.store import ArtefactStore, digest
from record.sample import HOST, NOON, USER, Road, activity

type Write = Callable[[str, str], Path]


def product(path: Path, kind: str = "log") -> Product:
    return Product(path, kind, "text/plain", path.name)


def count(engine: sa.Engine, table: sa.Table) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_what_is_recorded_comes_back_as_it_was(recorder: Recorder, write: Write) -> None:
    upload = recorder.admit(write("a", "a"), kind="upload", media_type="text/csv", name="a.csv", agent=USER)
    facts = activity(used=(Used("list", upload.id),))
    made = recorder.record(facts, {"log": product(write("log", "line"))}, job="j")
    back = recorder.activity(facts.id)
    assert replace(back, made=()) == facts
    assert [(item.role, item.artefact) for item in back.made] == [("log", made["log"].id)]
    assert recorder.artefact(made["log"].id) == Artefact(made["log"].id, "log", "text/plain", 4, "log")
    assert recorder.store.path(made["log"].id).read_text() == "line"
    assert recorder.of_job("j") == [back]
    assert recorder.makers(made["log"].id) == [back]
    assert recorder.users(upload.id) == [back]
    assert recorder.attributed(upload.id) == {upload.id: (USER,)}


def test_an_upload_is_kept_where_it_was(recorder: Recorder, write: Write) -> None:
    path = write("a", "a")
    for _ in range(2):
        recorder.admit(path, kind="upload", media_type="text/csv", name="a.csv", agent=USER)
    assert path.exists()


def test_what_came_with_a_job_that_failed_before_it_recorded_anything_goes_with_it(
    recorder: Recorder, write: Write
) -> None:
    def brought(name: str, *, job: str) -> Artefact:
        return recorder.admit(write(name, name), kind="upload", media_type="text/csv", name=name, agent=USER, job=job)

    mine, shared = brought("mine", job="one"), brought("ours", job="one")
    assert brought("ours", job="two") == shared
    assert recorder.release("one") == [mine.id]
    assert recorder.sweep(grace=-1) == [mine.id]
    assert not recorder.store.contains(mine.id)
    assert recorder.store.contains(shared.id)
    assert recorder.release("two") == [shared.id]


def test_equal_runs_find_what_is_there_and_keep_it_for_the_later_job(recorder: Recorder, write: Write) -> None:
    facts = activity()
    made = recorder.record(facts, {"log": product(write("log", "line"))}, job="one")
    assert recorder.found(activity().key, job="two") == made
    assert recorder.found(activity(hour=1).key) is None
    assert recorder.jobs(facts.id) == ["one", "two"]
    assert recorder.release("one") == []
    assert recorder.release("two") == [made["log"].id]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"parameters": (Parameter("seed", 0), Parameter("radius", 1.5, "arcsec", "other words"))}, True),
        ({"parameters": (Parameter("radius", 1.5, "arcsec"), Parameter("seed", 1))}, False),
        ({"parameters": (Parameter("radius", 1.5, "deg"), Parameter("seed", 0))}, False),
        ({"code": "inzitu 0.1.1"}, False),
        ({"step": "cut"}, False),
        ({"used": (Used("list", "0" * 64),)}, False),
        ({"device": "cuda:0"}, True),
        ({"started": NOON - timedelta(days=1)}, True),
    ],
)
def test_the_key_is_what_the_products_depend_on(change: dict[str, object], same: bool) -> None:
    facts = activity()
    assert (replace(facts, key="", **change).key == facts.key) is same  # type: ignore[arg-type]


def test_content_that_is_gone_is_not_found(recorder: Recorder, write: Write) -> None:
    facts = activity()
    made = recorder.record(facts, {"log": product(write("log", "line"))})
    recorder.store.remove(made["log"].id)
    assert recorder.found(facts.key) is None


def test_content_that_is_made_again_is_there_again(recorder: Recorder, write: Write) -> None:
    for hour in range(2):
        made = recorder.record(activity(hour=hour), {"log": product(write("log", "line"))}, job=f"j{hour}")
        id = made["log"].id
        assert recorder.destroyed(id) == {}
        assert recorder.store.contains(id)
        assert recorder.release(f"j{hour}") == [id]
        assert recorder.destroyed(id) == {id: NOON}
        os.utime(recorder.store.path(id), (1, 1))
        assert recorder.sweep() == [id]
    assert [maker.parameters[1].value for maker in recorder.makers(id)] == [0, 1]


def test_a_released_job_keeps_its_record_and_readings(recorder: Recorder, road: Road) -> None:
    before = recorder.of_job("job-1")
    released = recorder.release("job-1")
    assert recorder.of_job("job-1") == before
    assert set(released) == {artefact.id for artefact in road.values()}
    cut = before[1]
    reading = next(item.artefact for item in cut.used if item.role == "tiles")
    assert recorder.artefact(reading).kind == "reading"
    assert reading not in released


def test_an_unrecorded_input_is_refused_and_nothing_is_written(
    recorder: Recorder, engine: sa.Engine, write: Write
) -> None:
    with pytest.raises(UnrecordedError, match="f" * 64):
        recorder.record(activity(used=(Used("list", "f" * 64),)), {"log": product(write("log", "line"))})
    assert {count(engine, table) for table in schema.metadata.sorted_tables} == {0}


def test_the_record_goes_with_the_callers_transaction(recorder: Recorder, engine: sa.Engine, write: Write) -> None:
    with engine.connect() as connection:
        made = recorder.record(activity(), {"log": product(write("log", "line"))}, connection=connection)
        connection.rollback()
    assert count(engine, schema.activities) == 0
    os.utime(recorder.store.path(made["log"].id), (1, 1))
    assert recorder.sweep() == [made["log"].id]


def test_a_full_disk_records_nothing_and_loses_nothing(
    recorder: Recorder, engine: sa.Engine, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recorder.record(activity(), {"log": product(write("old", "old"))})["log"]
    adopt = ArtefactStore.adopt

    def full(store: ArtefactStore, path: Path, *, keep: bool = False) -> tuple[str, int]:
        if path.name == "second":
            raise OSError(errno.ENOSPC, "No space left on device")
        return adopt(store, path, keep=keep)

    monkeypatch.setattr(ArtefactStore, "adopt", full)
    made = {name: product(write(name, name)) for name in ("first", "second")}
    with pytest.raises(OSError, match="No space"):
        recorder.record(activity(hour=1), made)
    assert count(engine, schema.activities) == count(engine, schema.artefacts) == 1
    assert recorder.store.path(before.id).read_text() == "old"
    assert made["second"].path.read_text() == "second"


def test_a_full_database_is_a_full_disk(recorder: Recorder, sqlite: sa.Engine, write: Write) -> None:
    def limited(connection: object, record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]

    sqlite.dispose()
    sa.event.listen(sqlite, "connect", limited)
    facts = replace(activity(), description="x" * 1_000_000)
    with pytest.raises(OSError, match="No room") as caught:
        recorder.record(facts, {"log": product(write("log", "line"))})
    assert caught.value.errno == errno.ENOSPC
    assert count(sqlite, schema.activities) == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: replace(activity(), kind="Guess"), "must be one of Observation"),
        (lambda: replace(activity(), started=datetime(2026, 1, 1)), "time zone"),
        (lambda: replace(activity(), ended=NOON - timedelta(1)), "before it started"),
        (lambda: replace(activity(), parameters=(Parameter("a", 1), Parameter("a", 2))), "two values"),
        (lambda: Parameter("a", {"b": 1}), "give it as text"),  # type: ignore[arg-type]
        (lambda: Parameter("", 1), "no name"),
        (lambda: Agent("x", "x", "Robot"), "must be one of Person"),
        (lambda: Agent("", "x"), "needs an id"),
        (lambda: Artefact("abc", "log", "text/plain", 1, "x"), "64 lower-case"),
        (lambda: Artefact("0" * 64, "log", "text/plain", -1, "x"), "bytes"),
    ],
)
def test_illegal_facts_fail_where_they_are_made(wrong: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wrong()  # type: ignore[operator]


def test_lists_become_tuples_so_that_a_key_needs_no_order_of_calls() -> None:
    parameter = Parameter("bands", ["u", "g"])  # type: ignore[arg-type]
    assert parameter.value == ("u", "g")
    assert key_of(step="s", parameters=[parameter], used=[], code="") == key_of(
        step="s", parameters=[Parameter("bands", ("u", "g"))], used=[], code=""
    )


def test_unknown_identifiers_are_said_to_be_so(recorder: Recorder) -> None:
    for ask in (recorder.artefact, recorder.activity, recorder.created):
        with pytest.raises(UnrecordedError, match="0000"):
            ask("0" * 64)


WRITER = """
import sys
from pathlib import Path
import sqlalchemy as sa
from inzitu.prov.recorder import Recorder
from inzitu.prov.store import ArtefactStore
from record.sample import activity
recorder = Recorder(sa.create_engine(f"sqlite:///{sys.argv[1]}/record.db"), ArtefactStore(f"{sys.argv[1]}/artefacts"))
print("ready", flush=True)
for n in range(10_000):
    path = Path(sys.argv[1]) / f"scratch{n}"
    path.write_text(str(n))
    recorder.record(activity(hour=n), {"log": (path, "log", "text/plain", "log.txt")})
"""


def test_a_killed_writer_leaves_no_row_without_content(recorder: Recorder, sqlite: sa.Engine, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for milliseconds in (30, 60, 90):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(milliseconds / 1000)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    with sqlite.connect() as connection:
        ids = list(connection.scalars(sa.select(schema.artefacts.c.id)))
    assert ids
    assert all(digest(recorder.store.path(id)) == id for id in ids)
    assert count(sqlite, schema.made) == count(sqlite, schema.activities)


def test_activities_name_their_agent(recorder: Recorder, write: Write) -> None:
    facts: Activity = activity()
    recorder.record(facts, {"log": product(write("log", "line"))})
    assert recorder.activity(facts.id).agent == HOST


def test_what_a_job_has_found_or_made_stays_until_it_is_released(recorder: Recorder, write: Write) -> None:
    def work(worker: int) -> list[str]:
        lost = []
        for turn in range(6):
            job, facts = f"{worker}-{turn}", activity()
            made = recorder.found(facts.key, job=job)
            if made is None:
                made = recorder.record(facts, {"log": product(write(f"{job}.log", "line"))}, job=job)
            id = made["log"].id
            if recorder.destroyed(id) or not recorder.store.contains(id):
                lost.append(job)
            recorder.release(job)
            recorder.sweep()
        return lost

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[]] * 4
