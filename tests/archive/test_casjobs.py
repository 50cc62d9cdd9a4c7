"""Lists of SDSS by way of CasJobs: jobs that are gone on with, tables of others, credentials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archive.sdss_server import SdssServer
from archive.tap_server import IMPATIENT, MORE_SO
from archive.test_spectra import fetched, server
from inzitu.archive import spectra
from inzitu.archive.spectra import fetch_spectra
from inzitu.errors import ArchiveFault, ManifestFault
from inzitu.manifest import SdssSource
from inzitu.pipelines.download import DownloadParameters
from inzitu.prov.readings import read_reading

__all__ = ["server"]  # a fixture

CASJOBS = {"casjobs_user": "TEST_CAS_USER", "casjobs_password": "TEST_CAS_PASSWORD"}


@pytest.fixture
def casjobs(server: SdssServer, monkeypatch: pytest.MonkeyPatch) -> SdssSource:
    monkeypatch.setenv("TEST_CAS_USER", "hubble")
    monkeypatch.setenv("TEST_CAS_PASSWORD", "redshift")
    return SdssSource(server=server.url, casjobs_login=f"{server.url}/keystone/v3/tokens", **CASJOBS)


def test_casjobs_gives_the_list_that_skyserver_gives(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "PAGE", 30)
    expected = fetched(server, tmp_path / "sky", z_max=3)
    server.queries.clear()
    asked = DownloadParameters(z_max=3)
    table, reading = fetch_spectra(asked, casjobs, folder=tmp_path / "cas", patience=IMPATIENT)
    assert table.equals(expected)
    assert " INTO mydb.inzitu_" in server.queries[0]
    assert server.queries[0].startswith("SELECT TOP 1000 s.specObjID")  # not all that there is, into a small MyDB
    assert server.queries[-1].startswith("DROP TABLE inzitu_")
    assert {headers["X-Auth-Token"] for headers in server.headers} == {"a-token"}
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"redshift" not in kept.replace(b"redshifts", b"")
    assert b"a-token" not in kept
    assert all("token" not in file.uri for file in read_reading(reading))


def leave(casjobs: SdssSource, folder: Path, what: str) -> None:
    """Ask for all spectra, and end at some function of the adapter."""

    def killed(*_: object) -> None:
        raise ArchiveFault("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"inzitu.archive.casjobs.{what}", killed)
        with pytest.raises(ArchiveFault, match="killed"):
            fetch_spectra(DownloadParameters(), casjobs, folder=folder, patience=replace(IMPATIENT, parts=1))


def written(server: SdssServer) -> int:
    return sum(" INTO " in query for query in server.queries)


@pytest.mark.parametrize("what", ["table_of", "time.sleep"])  # while it reads the table, while that is written
def test_casjobs_goes_on_with_the_job_that_an_earlier_attempt_began(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path, what: str
) -> None:
    leave(casjobs, tmp_path, what)
    [job] = server.tables
    assert len(fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=IMPATIENT)[0]) > 50
    assert written(server) == 1
    assert set(server.polls) == {job}
    assert not server.tables


def test_casjobs_does_not_take_a_table_whose_job_did_not_finish(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path
) -> None:
    server.manner = "job fails"
    with pytest.raises(ArchiveFault, match="cancelled"):
        fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=replace(IMPATIENT, parts=1))
    server.failed, server.manner = set(server.tables), "well"
    assert len(fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=IMPATIENT)[0]) > 50
    assert written(server) == 2


def test_what_another_job_left_in_mydb_is_neither_an_answer_nor_removed(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path
) -> None:
    leave(casjobs, tmp_path / "yesterday", "table_of")
    left = dict(server.tables)
    server.hold(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([0.5, 0.6]))
    today, _ = fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path / "today", patience=IMPATIENT)
    assert today["z"].to_pylist() == [0.5, 0.6]
    assert server.tables == left


def test_a_table_that_cannot_be_dropped_does_not_cost_the_list(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.manner = "keeps tables"
    assert len(fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=IMPATIENT)[0]) > 50
    [name] = server.tables.values()
    assert f"The table {name} stays in MyDB" in caplog.text
    assert "The table is locked" in caplog.text


@pytest.mark.parametrize(
    ("manner", "said"), [("job fails", "Query was cancelled by its limit"), ("never ends", "has not ended after 0.5 s")]
)
def test_a_job_of_casjobs_that_fails_is_named(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path, manner: str, said: str
) -> None:
    server.manner = manner
    impatient = replace(IMPATIENT, parts=1, **MORE_SO.get(manner, {}))
    with pytest.raises(ArchiveFault, match=said):
        fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=impatient)


def test_wrong_credentials_are_not_repeated_in_the_error(
    casjobs: SdssSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CAS_PASSWORD", "opensesame")
    with pytest.raises(ArchiveFault, match=r"answers 401.*TEST_CAS_USER") as caught:
        fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=IMPATIENT)
    assert "opensesame" not in str(caught.value)
    monkeypatch.delenv("TEST_CAS_PASSWORD")
    with pytest.raises(ManifestFault, match="TEST_CAS_PASSWORD for CasJobs, which is not set"):
        fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=IMPATIENT)
