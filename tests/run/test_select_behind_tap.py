"""The step select with a catalogue behind TAP: what a catalogue in files would give, and a record of the answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from archive.tap_server import TapServer, running
from inzitu.manifest import CatalogueEntry, Manifest
from inzitu.pipelines.parameters import SelectParameters
from inzitu.run.select import select
from inzitu.run.surroundings import archive_state
from inzitu.run.work import Work
from story.stage import Stage


def behind(work: Work, catalogue: CatalogueEntry) -> Work:
    archive = work.manifest.archive.model_copy(update={"catalogue": catalogue})
    return replace(work, manifest=work.manifest.model_copy(update={"archive": archive}))


def test_a_catalogue_behind_tap_selects_what_a_file_selects(few: Stage, work: Work, tmp_path: Path) -> None:
    ra, dec, z = (np.asarray(few.quasars[name]) for name in ("ra", "dec", "z"))
    rows = {"objid": np.arange(len(ra) - 1), "ra": ra[:-1], "dec": dec[:-1], "rmag": np.full(len(ra) - 1, 20.5)}
    pq.write_table(pa.table(rows), tmp_path / "catalogue.parquet")
    pq.write_table(pa.table({"ra": ra, "dec": dec + 1e-4, "z": z}), tmp_path / "training.parquet")
    inputs = {"training": tmp_path / "training.parquet"}
    keys = {"id": "objid", "magnitudes": ("rmag",)}
    in_file = CatalogueEntry.model_validate({"path": str(tmp_path / "catalogue.parquet"), **keys})
    of_file = select(SelectParameters(), inputs, behind(work, in_file))
    expected = pq.read_table(of_file.made["selection"])
    server = TapServer(rows["ra"], rows["dec"])
    with running(server):
        remote = CatalogueEntry.model_validate({"tap": server.url, "table": "ivoa.sources", **keys})
        of_tap = select(SelectParameters(), inputs, behind(work, remote))
    assert pq.read_table(of_tap.made["selection"]).equals(expected)
    assert expected["status"].to_pylist() == ["ok"] * (len(ra) - 1) + ["unmatched"]
    [read] = pq.read_table(of_tap.readings["catalogue"]).to_pylist()
    assert read["uri"].startswith(server.url)
    assert read["bytes"] == of_tap.account["bytes_read"] == len(server.jobs["1"])
    assert of_file.certain
    assert not of_tap.certain


def test_another_table_is_another_state_of_the_archive(manifest: Manifest) -> None:
    entries = [CatalogueEntry(tap="http://127.0.0.1:9/tap", table=table) for table in ("a", "b")]
    states = {archive_state(manifest.archive.model_copy(update={"catalogue": entry})) for entry in entries}
    assert len(states) == 2
