"""A catalogue behind TAP: our own service as the honest peer, and one that misbehaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archive.tap_server import CAPABILITIES, IMPATIENT, MORE_SO, TapServer, own_service, running
from inzitu.archive import nearby
from inzitu.archive.inspection import remote_catalogue
from inzitu.archive.nearby import fetch_nearby
from inzitu.archive.tap import TapLimits, TapService, identifier, table_identifier
from inzitu.errors import ArchiveFault, LimitFault, ManifestFault
from inzitu.manifest import CatalogueEntry
from inzitu.prov.readings import read_reading
from inzitu.sky import crossmatch

RADIUS = 2.0
RNG = np.random.default_rng(7)
CATALOGUE_RA, CATALOGUE_DEC = RNG.uniform(0, 360, 400), np.degrees(np.arcsin(RNG.uniform(-1, 1, 400)))
CATALOGUE_RA[0], CATALOGUE_DEC[1] = 359.99999, 89.99999
RA, DEC = CATALOGUE_RA[:120] + 1e-5, CATALOGUE_DEC[:120] - 1e-4 * np.sign(CATALOGUE_DEC[:120])


def entry(url: str, **changes: object) -> CatalogueEntry:
    keys = {"tap": url, "table": "ivoa.sources", "id": "objid", "magnitudes": ("rmag",)} | changes
    return CatalogueEntry.model_validate(keys)


@pytest.fixture
def server() -> Iterator[TapServer]:
    server = TapServer(CATALOGUE_RA, CATALOGUE_DEC)
    with running(server):
        yield server


def fetched(server: TapServer, folder: Path, **changes: object) -> pa.Table:
    path, _ = fetch_nearby(entry(server.url, **changes), RA, DEC, RADIUS, folder=folder, patience=IMPATIENT)
    return pq.read_table(path)


def expected() -> set[str]:
    """The rows within the radius of any position, by another formula: chords, all with all."""
    a, b = (
        np.stack([np.cos(d) * np.cos(r), np.cos(d) * np.sin(r), np.sin(d)], axis=1)
        for r, d in (map(np.radians, pair) for pair in ((CATALOGUE_RA, CATALOGUE_DEC), (RA, DEC)))
    )
    chords = np.linalg.norm(a[:, None] - b[None], axis=2).min(axis=1)
    return {str(i) for i in np.flatnonzero(chords < np.radians(RADIUS / 3600))}


def test_what_lies_around_the_positions_comes_with_its_columns_and_its_reading(
    server: TapServer, tmp_path: Path
) -> None:
    path, reading = fetch_nearby(entry(server.url), RA, DEC, RADIUS, folder=tmp_path, patience=IMPATIENT)
    table = pq.read_table(path)
    assert table.schema.names == ["objid", "ra", "dec", "rmag"]
    assert set(table["objid"].to_pylist()) == expected()
    assert len(table) == len(expected()) > 100
    [answer] = read_reading(reading)
    assert answer.uri.startswith(f"{server.url}/async/")
    assert answer.bytes == len(server.jobs["1"])


def test_the_query_quotes_what_is_no_plain_name(server: TapServer, tmp_path: Path) -> None:
    with pytest.raises(ArchiveFault, match="was asked for the columns"):
        fetched(server, tmp_path, table='"II/349/ps1".main', magnitudes=("r mag",))
    assert 'SELECT c.objid, c.ra, c.dec, c."r mag" FROM "II/349/ps1".main AS c' in server.queries[0]


@pytest.mark.parametrize("name", ["", 'a"b', "a;\n", "x\x00"])
def test_what_is_no_name_of_a_column_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a column"):
        identifier(name)


@pytest.mark.parametrize("name", ["", "a.b.c.d", 'a."b', "a..b", 'a" UNION SELECT "b'])
def test_what_is_no_name_of_a_table_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        table_identifier(name)


@pytest.mark.parametrize(
    "method", ["ivo://ivoa.net/std/TAPRegExt#upload-inline", "ivo://ivoa.org/tap/uploadmethods#inline"]
)
def test_lists_go_in_chunks_of_the_uploads_that_the_service_takes(
    server: TapServer, tmp_path: Path, method: str
) -> None:
    server.capabilities = CAPABILITIES.replace('<hard unit="byte">100000000', '<hard unit="row">50').replace(
        "ivo://ivoa.net/std/TAPRegExt#upload-inline", method
    )
    assert set(fetched(server, tmp_path)["objid"].to_pylist()) == expected()
    assert server.lengths == [50, 50, 20]


@pytest.mark.parametrize("manner", ["well", "silent overflow"])
def test_an_answer_that_overflows_is_asked_for_in_halves(server: TapServer, tmp_path: Path, manner: str) -> None:
    server.manner, server.most = manner, 40
    server.capabilities = CAPABILITIES.replace('<hard unit="row">10000000', '<hard unit="row">40')
    assert set(fetched(server, tmp_path)["objid"].to_pylist()) == expected()
    assert server.lengths[:3] == [120, 60, 30]


def test_one_position_that_overflows_by_itself_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    crowded = TapServer(np.full(100, 10.0), np.full(100, 20.0))
    crowded.most = 30
    with running(crowded), pytest.raises(ArchiveFault, match=r"no more than 30 rows.*smaller RADIUS"):
        fetch_nearby(
            entry(crowded.url), np.array([10.0]), np.array([20.0]), RADIUS, folder=tmp_path, patience=IMPATIENT
        )


def test_a_service_without_uploads_is_asked_with_cones(server: TapServer, tmp_path: Path) -> None:
    server.capabilities = CAPABILITIES.replace("#upload-inline", "#upload-ftp")
    assert set(fetched(server, tmp_path)["objid"].to_pylist()) == expected()
    assert server.lengths == [50, 50, 20]


def test_a_long_list_is_not_sent_in_cones(server: TapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearby, "MOST_BY_CONES", 100)
    server.capabilities = CAPABILITIES.replace("#upload-inline", "#upload-ftp")
    with pytest.raises(LimitFault, match=r"no uploads.*at most 100 positions.*there are 120"):
        fetched(server, tmp_path)


def test_a_busy_service_is_asked_again(server: TapServer, tmp_path: Path) -> None:
    server.manner = "busy at first"
    assert set(fetched(server, tmp_path)["objid"].to_pylist()) == expected()


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        ("busy", "503"),
        ("hang", "Read timed out"),
        ("trickle", "not complete after 0.5 s"),
        ("half", "IncompleteRead"),
        ("cut xml", "no element found|not well-formed"),
        ("html", "page for people, not data: 'Maintenance"),
        ("huge", "more than 1,048,576 bytes"),
        ("wrong columns", "asked for the columns objid, ra, dec, rmag .* sends objid, ra, dec, wrong"),
        ("elsewhere", "rows that lie more than 2 arcsec from all positions"),
        ("nrows", "says nrows=.* of a table with"),
        ("job error", "Column foo is unknown"),
        ("never ends", "still EXECUTING after 0.5 s"),
    ],
)
def test_a_service_that_misbehaves_is_named_in_bounded_time_and_the_finished_part_kept(
    server: TapServer, tmp_path: Path, manner: str, said: str
) -> None:
    impatient = replace(IMPATIENT, parts=1, attempts=2 if manner == "half" else 1, **MORE_SO.get(manner, {}))
    server.capabilities = CAPABILITIES.replace('<hard unit="byte">100000000', '<hard unit="row">60')
    server.manner, server.well_for = manner, 1
    began = time.monotonic()
    with pytest.raises(ArchiveFault, match=said):
        fetch_nearby(entry(server.url), RA, DEC, RADIUS, folder=tmp_path, patience=impatient)
    assert time.monotonic() - began < 30
    assert sorted(path.name for path in tmp_path.glob("part-*")) == ["part-0-60.parquet"]
    server.manner, asked = "well", len(server.queries)
    assert set(fetched(server, tmp_path)["objid"].to_pylist()) == expected()
    assert len(server.queries) == asked + 1  # only what was missing


@pytest.mark.parametrize("manner", ["keeps jobs", "hangs up on DELETE", "redirects DELETE nowhere"])
def test_a_job_that_cannot_be_deleted_does_not_cost_its_rows(server: TapServer, tmp_path: Path, manner: str) -> None:
    server.manner = manner
    assert set(fetched(server, tmp_path)["objid"].to_pylist()) == expected()
    assert len(server.queries) == 1


def test_another_question_starts_anew(server: TapServer, tmp_path: Path) -> None:
    fetched(server, tmp_path)
    fetched(server, tmp_path)
    assert len(server.queries) == 1
    fetch_nearby(entry(server.url), RA, DEC, 2 * RADIUS, folder=tmp_path, patience=IMPATIENT)
    assert len(server.queries) == 2


def test_no_position_is_no_question(server: TapServer, tmp_path: Path) -> None:
    none = np.array([])
    path, reading = fetch_nearby(entry(server.url), none, none, RADIUS, folder=tmp_path, patience=IMPATIENT)
    assert pq.read_table(path).num_rows == 0 == len(read_reading(reading))


def test_a_service_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveFault, match=r"127\.0\.0\.1:9/tap does not tell its capabilities: .*Connection failed"):
        fetch_nearby(entry("http://127.0.0.1:9/tap"), RA, DEC, RADIUS, folder=tmp_path, patience=IMPATIENT)


def test_the_check_of_a_manifest_says_what_the_service_takes(server: TapServer, tmp_path: Path) -> None:
    assert "lists are uploaded; it answers with at most 10,000,000 rows" in remote_catalogue(entry(server.url))
    server.manner = "job error"
    with pytest.raises(ManifestFault, match=r"archive\.catalogue: .*Column foo is unknown"):
        remote_catalogue(entry(server.url))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[str]:
    """The project's own TAP service, with a catalogue of 400 sources and narrow limits."""
    rows = {"objID": np.arange(400), "ra": CATALOGUE_RA, "dec": CATALOGUE_DEC, "rmag": np.full(400, 20.5)}
    with own_service(tmp_path / "own", pa.table(rows), upload_bytes=20_000, maxrec_hard=60) as url:
        yield url


@pytest.mark.parametrize("cones", [False, True])
def test_our_own_service_gives_the_counterparts_that_the_same_catalogue_in_a_file_gives(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cones: bool
) -> None:
    asked = CatalogueEntry(tap=own, table="archive.catalogue", magnitudes=("rmag",))
    if cones:
        monkeypatch.setattr(TapService, "limits", lambda _: TapLimits(False, None, 60))
    path, _ = fetch_nearby(asked, RA, DEC, RADIUS, folder=tmp_path)
    table = pq.read_table(path)
    assert set(table["objID"].to_pylist()) == expected()
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    here, there = crossmatch(RA, DEC, ra, dec, RADIUS), crossmatch(RA, DEC, CATALOGUE_RA, CATALOGUE_DEC, RADIUS)
    np.testing.assert_array_equal(here.first, there.first)
    assert [int(table["objID"][int(i)].as_py()) for i in here.second] == there.second.tolist()
    np.testing.assert_array_equal(here.separation, there.separation)
