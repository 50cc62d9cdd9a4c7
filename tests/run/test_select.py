from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from inzitu.archive.lists import read_lists
from inzitu.archive.selection import select_rows
from inzitu.errors import ArchiveFault, LimitFault, TableFault
from inzitu.manifest import Manifest
from inzitu.pipelines.parameters import SelectParameters
from inzitu.prov.store import digest
from inzitu.run.select import select
from inzitu.run.work import Work
from story.stage import Stage

ARCSEC = 1 / 3600


def sent(folder: Path, name: str, **columns: object) -> Path:
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def selected(work: Work, inputs: dict[str, Path]) -> list[dict[str, object]]:
    outcome = select(SelectParameters(), inputs, work)
    rows: list[dict[str, object]] = pq.read_table(outcome.made["selection"]).to_pylist()
    return rows


def test_a_magnitude_of_a_band_called_z_never_takes_the_place_of_the_redshift(
    few: Stage, work: Work, tmp_path: Path
) -> None:
    quasars = few.quasars
    training = sent(tmp_path, "training", ra=list(quasars["ra"]), dec=list(quasars["dec"]), z=list(quasars["z"]))
    rows = selected(work, {"training": training})
    assert [row["z"] for row in rows] == list(quasars["z"])
    assert all(15 < row["mag_z"] < 25 for row in rows)  # type: ignore[operator]  # a number


def test_rows_keep_their_order_and_the_counterparts_are_theirs(few: Stage, work: Work, tmp_path: Path) -> None:
    quasars = few.quasars
    order = np.random.default_rng(1).permutation(len(quasars))
    dec = np.array(quasars["dec"])[order] + 0.7 * ARCSEC
    rows = selected(work, {"targets": sent(tmp_path, "targets", ra=np.array(quasars["ra"])[order], dec=dec)})
    assert [row["match_id"] for row in rows] == [str(name) for name in quasars["source_id"][order]]
    np.testing.assert_allclose([row["match_separation"] for row in rows], 0.7, atol=1e-6)  # type: ignore[arg-type]  # numbers
    assert [row["source_id"] for row in rows] == [f"targets:{i}" for i in range(len(order))]


def test_one_object_with_two_redshifts_is_not_trained_on_and_agreeing_ones_merge(
    few: Stage, work: Work, tmp_path: Path
) -> None:
    ra, dec, z = (list(few.quasars[name][:4]) for name in ("ra", "dec", "z"))
    ra, dec = [*ra, ra[0], ra[1]], [*dec, dec[0] + ARCSEC, dec[1] + ARCSEC]
    rows = selected(work, {"training": sent(tmp_path, "training", ra=ra, dec=dec, z=[*z, z[0] + 0.001, z[1] + 0.5])})
    assert [row["status"] for row in rows] == ["ok", "duplicate", "ok", "ok", "duplicate", "duplicate"]
    assert [row["flags"] for row in rows] == ["kept", "conflicting-redshift", "", "", "merged", "conflicting-redshift"]


def test_a_target_that_was_trained_on_is_flagged(few: Stage, work: Work, tmp_path: Path) -> None:
    ra, dec, z = (list(few.quasars[name]) for name in ("ra", "dec", "z"))
    lists = {
        "training": sent(tmp_path, "training", ra=ra[:8], dec=dec[:8], z=z[:8]),
        "targets": sent(tmp_path, "targets", ra=ra[6:], dec=dec[6:]),
    }
    rows = [row for row in selected(work, lists) if row["list"] == "targets"]
    assert [row["flags"] for row in rows] == ["in-training"] * 2 + [""] * 4


def test_a_source_that_the_catalogue_has_not_is_unmatched(few: Stage, work: Work, tmp_path: Path) -> None:
    ra, dec = (list(few.quasars[name][:2]) for name in ("ra", "dec"))
    rows = selected(work, {"targets": sent(tmp_path, "targets", ra=ra, dec=[dec[0] + 4 * ARCSEC, dec[1]])})
    assert [row["status"] for row in rows] == ["unmatched", "ok"]


def test_a_list_of_which_no_row_can_be_used_is_refused_with_the_tally(work: Work, tmp_path: Path) -> None:
    with pytest.raises(TableFault, match=r"1 invalid-position, 1 outside.*row 0 with ra nan"):
        selected(work, {"targets": sent(tmp_path, "targets", ra=[float("nan"), 10.0], dec=[0.0, -80.0])})


@pytest.mark.parametrize(
    ("move", "z", "said"),
    [
        (
            0.0,
            [-1.5, -0.1],
            r"2 invalid-label\. The first invalid-label one is row 0 with z -1\.5\. .* zero or more\.$",
        ),
        (5 * ARCSEC, [1.0, 2.0], r"2 unmatched\. .* row 0 with ra .*nothing within RADIUS of it\.$"),
    ],
)
def test_the_remedy_is_that_of_what_most_rows_suffer_from(
    few: Stage, work: Work, tmp_path: Path, move: float, z: list[float], said: str
) -> None:
    ra, dec = (np.asarray(few.quasars[name][:2]) for name in ("ra", "dec"))
    with pytest.raises(TableFault, match=said):
        selected(work, {"training": sent(tmp_path, "training", ra=ra, dec=dec + move, z=z)})


def test_two_merged_lists_with_different_redshifts_are_settled_by_the_users_rules(
    few: Stage, work: Work, tmp_path: Path
) -> None:
    ra, dec, z = (list(few.quasars[name][:4]) for name in ("ra", "dec", "z"))
    merged = sent(
        tmp_path,
        "training",
        ra=ra + ra,
        dec=dec + [d + 0.5 * ARCSEC for d in dec],
        z=[*z, z[0] + 0.001, *(value + 0.5 for value in z[1:])],
        ZWARN_OK=[4, 1, 4, 4, 4, 4, 4, 4],
        origin=["a", "a", "a", "c", "b", "b", "b", "d"],
    )
    parameters = SelectParameters.model_validate({"quality": "zwarn_ok", "survey": "origin", "priority": "b, a"})
    rows = pq.read_table(select(parameters, {"training": merged}, work).made["selection"]).to_pylist()
    first, second = rows[:4], rows[4:]
    assert [row["status"] for row in first] == ["duplicate", "duplicate", "duplicate", "duplicate"]
    assert [row["status"] for row in second] == ["ok", "ok", "ok", "duplicate"]
    assert [row["flags"] for row in first] == ["merged", "overruled", "overruled", "conflicting-redshift"]
    assert [row["flags"] for row in second] == ["kept", "kept-by-quality", "kept-by-survey", "conflicting-redshift"]


def test_a_rule_that_names_no_column_is_refused_with_the_columns_there_are(few: Stage, tmp_path: Path) -> None:
    ra, dec, z = (list(few.quasars[name][:4]) for name in ("ra", "dec", "z"))
    path = sent(tmp_path, "training", ra=ra, dec=dec, z=z)
    with pytest.raises(TableFault, match=r"training list has no column 'zq'; its columns are ra, dec, z"):
        read_lists({"training": path}, SelectParameters(quality="zq"), most=10)
    with pytest.raises(ValueError, match="PRIORITY ranks surveys"):
        SelectParameters(priority=("sdss",))


def test_rubbish_among_good_rows_is_a_status_of_its_rows(few: Stage, work: Work, tmp_path: Path) -> None:
    quasars = few.quasars
    ra, dec, z = ([str(value) for value in quasars[name]] for name in ("ra", "dec", "z"))
    ra[1], dec[2], z[3], z[4], ra[5], dec[6] = "nan", "rubbish", "n.a.?", "-inf", "1e400", "-91"
    path = tmp_path / "training.csv"
    path.write_text("ra,dec,z\n" + "".join(f"{a},{d},{x}\n" for a, d, x in zip(ra, dec, z, strict=True)))
    rows = selected(work, {"training": path})
    words = ["ok", "invalid-position", "invalid-position", "invalid-label", "invalid-label"]
    assert [row["status"] for row in rows] == [*words, "invalid-position", "invalid-position", *["ok"] * 5]


def test_right_ascensions_in_hours_are_hinted_at(work: Work, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    hours = sent(tmp_path, "targets", ra=rng.uniform(0, 24, 200), dec=rng.uniform(-60, 60, 200))
    with pytest.raises(TableFault, match=r"Hint: targets: the right ascensions look like hours"):
        selected(work, {"targets": hours})


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("hour", 15.0), ("deg", 1.0), ("rad", 180 / np.pi), ("", 1.0), ("targets:hour", 15.0), ("others:hour", 1.0)],
)
def test_positions_of_a_list_that_states_no_unit_are_in_the_one_that_is_asked(
    tmp_path: Path, unit: str, factor: float
) -> None:
    ra, dec = np.linspace(0.1, 6.2, 120), np.linspace(-1.5, 1.5, 120)
    bare, said = tmp_path / "bare.csv", tmp_path / "said.vot"
    bare.write_text("ra,dec\n" + "".join(f"{a!r},{d!r}\n" for a, d in zip(ra.tolist(), dec.tolist(), strict=True)))
    Table({"ra": ra, "dec": dec}, units={"ra": "deg", "dec": "deg"}).write(said, format="votable")
    parameters = SelectParameters.model_validate({"ra_unit": unit})
    lists = read_lists({"targets": bare, "others": said}, parameters, most=1000)
    np.testing.assert_allclose(lists[0].ra, ra * factor % 360)
    np.testing.assert_allclose(lists[0].dec, dec * (factor if unit == "rad" else 1.0))
    np.testing.assert_allclose((lists[1].ra, lists[1].dec), (ra, dec))


@pytest.mark.parametrize("form", ["parquet", "fits"])
def test_a_list_that_is_too_long_is_refused_before_it_is_decoded(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"targets.{form}"
    table = Table({"ra": np.zeros(30), "dec": np.zeros(30)})
    table.write(path) if form == "fits" else pq.write_table(pa.table(dict(table)), path)
    monkeypatch.setattr("inzitu.archive.lists._columns", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(LimitFault, match="30 rows; this service takes 20 a job"):
        read_lists({"targets": path}, SelectParameters(), most=20)


def test_the_limit_counts_the_rows_of_all_lists(tmp_path: Path) -> None:
    lists = {
        name: sent(tmp_path, name, ra=np.zeros(15), dec=np.zeros(15), z=np.ones(15)) for name in ("training", "targets")
    }
    with pytest.raises(LimitFault, match="training and targets lists have 30 rows; this service takes 20"):
        read_lists(lists, SelectParameters(), most=20)


def test_a_cluster_selects_the_same_rows(few: Stage, work: Work, manifest: Manifest, tmp_path: Path) -> None:
    targets = sent(tmp_path, "targets", ra=list(few.quasars["ra"]), dec=list(few.quasars["dec"]))
    lists = read_lists({"targets": targets}, SelectParameters(), most=100)
    alone = select_rows(lists, SelectParameters(), manifest)
    shared = select_rows(lists, SelectParameters(), manifest, mapping=work.engine.map)
    assert alone.table.equals(shared.table)
    assert alone.in_bands == {"targets": dict.fromkeys(manifest.archive.bands, 12)}


def test_a_catalogue_is_hashed_once_until_it_changes(
    few: Stage, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = sent(tmp_path, "targets", ra=list(few.quasars["ra"]), dec=list(few.quasars["dec"]))
    catalogue = tmp_path / "catalogue.parquet"
    shutil.copy(work.manifest.archive.catalogue.path, catalogue)
    entry = work.manifest.archive.catalogue.model_copy(update={"path": str(catalogue)})
    archive = work.manifest.archive.model_copy(update={"catalogue": entry})
    work = replace(work, manifest=work.manifest.model_copy(update={"archive": archive}))
    hashed: list[Path] = []

    def noted(path: Path) -> str:
        hashed.append(path)
        return digest(path)

    monkeypatch.setattr("inzitu.run.select.digest", noted)
    for expected in (1, 1):
        reading = select(SelectParameters(), {"targets": targets}, work).readings["catalogue"]
        assert pq.read_table(reading)["sha256"].to_pylist() == [hashlib.sha256(catalogue.read_bytes()).hexdigest()]
        assert len(hashed) == expected
    os.utime(catalogue, ns=(1, 1))
    select(SelectParameters(), {"targets": targets}, work)
    assert len(hashed) == 2


def test_a_survey_whose_properties_lie_is_the_archives_fault(few: Stage, work: Work, tmp_path: Path) -> None:
    (tmp_path / "hips").mkdir()
    (tmp_path / "hips" / "properties").write_text("hips_order = nonsense\n")
    entry = work.manifest.archive.surveys[0].model_copy(update={"hips": str(tmp_path / "hips")})
    archive = work.manifest.archive.model_copy(update={"surveys": (entry,)})
    work = replace(work, manifest=work.manifest.model_copy(update={"archive": archive}))
    targets = sent(tmp_path, "targets", ra=list(few.quasars["ra"]), dec=list(few.quasars["dec"]))
    with pytest.raises(ArchiveFault, match="coverage of a survey cannot be read"):
        select(SelectParameters(), {"targets": targets}, work)
