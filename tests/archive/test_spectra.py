"""Lists of redshifts from SDSS and from tables behind TAP; services that fail, cut, repeat and lie."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from archive.sdss_server import FIRST, ROWS, SdssServer
from archive.tap_server import IMPATIENT, MORE_SO, own_service, running
from inzitu.archive import spectra
from inzitu.archive.sdss import restricted
from inzitu.archive.spectra import check_download, fetch_spectra
from inzitu.errors import ArchiveFault, LimitFault, ParameterFault
from inzitu.manifest import Manifest, SdssSource, TapSource
from inzitu.pipelines.download import DownloadParameters
from inzitu.prov.readings import read_reading


@pytest.fixture
def server() -> Iterator[SdssServer]:
    server = SdssServer()
    with running(server):
        yield server


def fetched(server: SdssServer, folder: Path, **parameters: object) -> pa.Table:
    asked = DownloadParameters.model_validate(parameters)
    return fetch_spectra(asked, SdssSource(server=server.url), folder=folder, patience=IMPATIENT)[0]


def numbers(table: pa.Table) -> list[int]:
    """Which of the server's rows came."""
    return [int(name) - FIRST for name in table["specObjID"].to_pylist()]


def test_the_filters_are_what_comes(server: SdssServer, tmp_path: Path) -> None:
    table = fetched(server, tmp_path, z_min=1, z_max=4, spectral_class="qso", mag_max=22, circle="5 0.5 3")
    expected = [
        i
        for i in range(ROWS)
        if 1 <= i * 0.05 <= 4 and i % 2 == 0 and 15 + i * 0.1 <= 22 and (i * 0.1 - 5) ** 2 + (i * 0.01 - 0.5) ** 2 <= 9
    ]
    assert numbers(table) == [i for i in expected if i % 10 != 9]
    assert table.schema.names[:9] == ["specObjID", "ra", "dec", "z", "zErr", "zWarning", "class", "subClass", "survey"]
    assert table["survey"].to_pylist() == ["eboss"] * len(table)


def test_warnings_come_if_wanted(server: SdssServer, tmp_path: Path) -> None:
    assert numbers(fetched(server, tmp_path / "a")) == [i for i in range(ROWS) if i % 10 != 9]
    assert numbers(fetched(server, tmp_path / "b", clean=False)) == list(range(ROWS))


def test_identifiers_beyond_a_signed_number_keep_every_digit(server: SdssServer, tmp_path: Path) -> None:
    assert fetched(server, tmp_path, top=2)["specObjID"].to_pylist() == ["9300000000000000000", "9300000000000000001"]


def test_a_list_comes_in_pages_and_ends_where_none_comes(
    server: SdssServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "PAGE", 30)
    asked = DownloadParameters(clean=False)
    table, reading = fetch_spectra(asked, SdssSource(server=server.url), folder=tmp_path, patience=IMPATIENT)
    assert numbers(table) == list(range(ROWS))
    assert len(server.queries) == 5
    read = read_reading(reading)
    assert len(read) == 5
    assert read[0].uri.startswith(f"{server.url}/dr17/en/tools/search/x_results.aspx?cmd=+SELECT+TOP+30+s.specObjID")


def test_an_answer_that_was_cut_to_the_servers_limit_is_gone_on_with(server: SdssServer, tmp_path: Path) -> None:
    server.most = 13
    assert numbers(fetched(server, tmp_path, clean=False, top=50)) == list(range(50))


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        ("busy", "503"),
        ("hang", "Read timed out"),
        ("half", "IncompleteRead"),
        ("html", "page for people, not data: 'SkyServer Down for maintenance'"),
        ("cut", "ends in the middle of a row"),
        ("again", "sends rows twice"),
        ("more", "sends 80 rows, though asked for at most 20"),
        ("wrong columns", "sends no column ra"),
        ("error with 200", "refuses the query: .*60 queries allowed"),
        ("ragged", "is no table"),
    ],
)
def test_a_server_that_misbehaves_is_named_in_bounded_time_and_the_finished_pages_kept(
    server: SdssServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manner: str, said: str
) -> None:
    monkeypatch.setattr(spectra, "PAGE", 20)
    server.manner, server.well_for = manner, 1
    impatient, began = replace(IMPATIENT, parts=1, attempts=1, **MORE_SO.get(manner, {})), time.monotonic()
    source, asked = SdssSource(server=server.url), DownloadParameters(clean=False, top=60)
    with pytest.raises(ArchiveFault, match=said):
        fetch_spectra(asked, source, folder=tmp_path, patience=impatient)
    assert time.monotonic() - began < 30
    assert [path.name for path in tmp_path.glob("part-*")] == ["part-0.parquet"]
    server.manner, count = "well", len(server.queries)
    assert numbers(fetched(server, tmp_path, clean=False, top=60)) == list(range(60))
    assert len(server.queries) == count + 2


def test_a_broken_answer_is_asked_for_again(server: SdssServer, tmp_path: Path) -> None:
    server.manner = "cut"
    patience = replace(IMPATIENT, pause=0.2)

    def mend(seconds: float) -> None:
        server.manner = "well"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inzitu.archive.patience.time.sleep", mend)
        source = SdssSource(server=server.url)
        table, _ = fetch_spectra(DownloadParameters(top=5), source, folder=tmp_path, patience=patience)
    assert numbers(table) == [0, 1, 2, 3, 4]


def test_sql_that_the_server_refuses_is_refused_in_its_words(server: SdssServer, tmp_path: Path) -> None:
    with pytest.raises(ArchiveFault, match=r"answers 400 to the query: .*no_such_column"):
        fetched(server, tmp_path, query="SELECT no_such_column FROM SpecObj")


def test_a_query_of_ones_own_is_limited(server: SdssServer, tmp_path: Path) -> None:
    table = fetched(server, tmp_path, query="select ra, dec, z from SpecObj where z > 1 order by z", top=7)
    assert table["z"].to_pylist() == pytest.approx([0.05 * i for i in range(21, 28)])
    assert server.queries == [" SELECT TOP 7 ra, dec, z FROM SpecObj WHERE z > 1 ORDER BY z"]
    assert "TOP 3 " in restricted("SELECT TOP 3 ra FROM SpecObj", 7)


@pytest.fixture(scope="module")
def table_behind_tap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TapSource]:
    """A table of 100 spectra behind the project's own TAP service."""
    i = np.arange(ROWS)
    rows = {
        "objID": 1000 + i,
        "ra": i * 0.1,
        "dec": i * 0.01,
        "Z_BEST": i * 0.05,
        "warn": (i % 10 == 9) * 4,
        "rmag": 15 + i * 0.1,
    }
    rows |= {"kind": np.where(i % 2, "GALAXY", "QSO")}
    with own_service(tmp_path_factory.mktemp("own"), pa.table(rows)) as url:
        columns = {"id": "objID", "z": "Z_BEST", "warning": "warn", "spectral_class": "kind", "columns": ("rmag",)}
        asked = {"kind": "tap", "url": url, "table": "archive.catalogue", "magnitudes": {"r": "rmag"}}
        yield TapSource.model_validate(asked | columns)


def test_a_table_behind_tap_is_asked_with_the_same_filters(
    table_behind_tap: TapSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "PAGE", 15)
    asked = DownloadParameters(z_min=1, spectral_class="galaxy", mag_max=23, circle="5 0.5 5", clean=True, top=50)
    found, reading = fetch_spectra(asked, table_behind_tap, folder=tmp_path)
    assert found.column_names == ["source_id", "ra", "dec", "z", "kind", "warn", "rmag"]
    expected = [
        i for i in range(20, 81) if i % 2 == 1 and i % 10 != 9 and (i * 0.1 - 5) ** 2 + (i * 0.01 - 0.5) ** 2 <= 25
    ]
    assert found["source_id"].to_pylist() == [1000 + i for i in expected]
    assert len(read_reading(reading)) > 1


def test_a_query_in_adql_is_passed_on_with_the_limit(table_behind_tap: TapSource, tmp_path: Path) -> None:
    asked = DownloadParameters(query="SELECT ra, dec, Z_BEST AS z FROM archive.catalogue ORDER BY Z_BEST DESC", top=4)
    found, _ = fetch_spectra(asked, table_behind_tap, folder=tmp_path)
    assert found["z"].to_pylist() == pytest.approx([4.95, 4.9, 4.85, 4.8])


SOURCES = {"sdss": {"kind": "sdss"}, "bare": {"kind": "tap", "url": "http://127.0.0.1:9", "table": "t", "id": "id"}}


@pytest.mark.parametrize(
    ("given", "fault", "said"),
    [
        ({"source": "gaia"}, ParameterFault, "SOURCE=gaia is no source of this service; it has sdss, bare"),
        ({"top": 2_000_000}, LimitFault, "TOP=2,000,000 is more than the 1,000,000 rows"),
        ({"band": "w1", "mag_max": 20}, ParameterFault, "BAND=w1 is no band of SDSS"),
        ({"query": "DROP TABLE SpecObj"}, ParameterFault, "one SELECT"),
        ({"source": "bare", "spectral_class": "qso"}, ParameterFault, "SPECTRAL_CLASS: the manifest names no column"),
        ({"source": "bare", "mag_min": 20}, ParameterFault, "MAG_MIN in r: the manifest names no column"),
    ],
)
def test_what_a_source_cannot_be_asked_is_known_before_it_is(
    given: dict[str, object], fault: type[Exception], said: str
) -> None:
    archive = {"surveys": [{"band": "r", "hips": "r"}], "catalogue": {"path": "c"}}
    manifest = Manifest.model_validate({"archive": archive, "sources": SOURCES})
    with pytest.raises(fault, match=said):
        check_download(DownloadParameters.model_validate(given), manifest)
