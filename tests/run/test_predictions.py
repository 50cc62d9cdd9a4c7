from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from astropy import units
from astropy.io.votable.ucd import check_ucd

from inzitu.run.predictions import ESTIMATES, predictions_table, schema
from inzitu.run.stamps import StampSet

MADE = {"head": "mixture(3)", "model": "m" * 64}


def ready(stamps: StampSet) -> tuple[np.ndarray, np.ndarray]:
    return stamps.readiness(masked=False, scalars={})


@pytest.fixture
def stamps() -> StampSet:
    """Three selected rows of four, of which the last stamp is blank."""
    selection = pa.table(
        {
            "row": [0, 1, 2, 3],
            "list": ["targets"] * 4,
            "source_id": ["a", "b", "c", "d"],
            "ra": [10.0, None, 30.0, 5.0],
            "dec": [1.0, None, 3.0, 4.0],
            "z": pa.array([None] * 4, pa.float64()),
            "status": ["ok", "invalid-position", "ok", "ok"],
            "flags": ["", "", "in-training", ""],
            "cell": pa.array([50, None, 10, 30], pa.int64()),
        }
    )
    rows = selection.take([0, 2, 3])
    rows = rows.append_column("cut_status", pa.array(["ok", "partial", "blank"]))
    rows = rows.append_column("fraction", pa.array([1.0, 0.9, 0.0]))
    rows = rows.append_column("cut_flags", pa.array(["", "edge", ""]))
    return StampSet(np.zeros((3, 4, 4, 2), np.float32), rows, selection, {})


def test_every_row_is_there_sorted_by_cell_and_only_predicted_ones_have_numbers(stamps: StampSet) -> None:
    columns = {name: np.array([1.5, 2.5], np.float32) for name in (*ESTIMATES, "ood")}
    columns |= {name: np.full((2, 3), 1 / 3, np.float32) for name in ("weights", "means", "sigmas")}
    table = predictions_table(
        stamps, np.arange(4), np.array([0, 1]), columns, readiness=ready(stamps), components=3, **MADE
    )
    assert table.schema.equals(schema(3))
    assert table.schema.metadata == {b"head": b"mixture(3)"}
    found = {row["source_id"]: row for row in table.to_pylist()}
    assert [row["_healpix_29"] for row in table.to_pylist()] == [10, 30, 50, None]
    assert {name: row["status"] for name, row in found.items()} == {
        "a": "ok",
        "b": "invalid-position",
        "c": "partial",
        "d": "blank",
    }
    assert found["a"]["z_median"] == 1.5
    assert found["c"]["z_median"] == 2.5
    assert found["c"]["flags"] == "in-training,edge"
    assert found["b"]["z_median"] is found["d"]["weights"] is found["b"]["ra"] is None


def test_a_list_of_which_no_stamp_can_be_predicted_gives_a_table_without_numbers(stamps: StampSet) -> None:
    table = predictions_table(
        stamps, np.arange(4), np.array([], int), {}, readiness=ready(stamps), components=5, **MADE
    )
    assert table["z_median"].null_count == table["means"].null_count == 4


def test_units_and_ucds_are_those_of_the_standards() -> None:
    for field in schema(5):
        assert field.metadata[b"description"]
        assert check_ucd(field.metadata[b"ucd"].decode(), check_controlled_vocabulary=True), field.name
        units.Unit(field.metadata[b"unit"].decode(), format="vounit")
