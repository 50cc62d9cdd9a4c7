from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inzitu.errors import TableFault
from inzitu.pipelines.catalogue import SelectParameters
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
    assert [row["flags"] for row in rows] == ["", "conflicting-redshift", "", "", "", "conflicting-redshift"]


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
    with pytest.raises(TableFault, match=r"1 invalid-position, 1 outside.*row 0 at ra nan"):
        selected(work, {"targets": sent(tmp_path, "targets", ra=[float("nan"), 10.0], dec=[0.0, -80.0])})
