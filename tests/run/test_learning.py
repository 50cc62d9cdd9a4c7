"""The steps train, calibrate, predict, evaluate and draw, on sources whose redshift is their colour."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import ndtr

from inzitu.errors import ParameterFault, TableFault
from inzitu.learn import bundles
from inzitu.learn.heads import MixtureHead
from inzitu.learn.recipe import Recipe
from inzitu.learn.ship import ship
from inzitu.manifest import Manifest
from inzitu.pipelines.parameters import (
    CalibrateParameters,
    DrawParameters,
    EvaluateParameters,
    PredictParameters,
    SearchParameters,
    TrainParameters,
)
from inzitu.prov.store import digest
from inzitu.run.calibrate import calibrate
from inzitu.run.draw import draw
from inzitu.run.evaluate import evaluate
from inzitu.run.predict import predict
from inzitu.run.scalars import scalars_of
from inzitu.run.search import search
from inzitu.run.stamps import StampSet
from inzitu.run.train import Lesson, train
from inzitu.run.work import Outcome, Work
from run.conftest import Told
from run.stampset import NETWORK, write_cutouts, write_stamps, z_of

QUICK: dict[str, Any] = {"network": "own", "epochs": 40, "learning_rate": 0.01, "validation_fraction": 0.3}


@pytest.fixture
def manifest() -> Manifest:
    """No step here looks at the archive."""
    archive = {"surveys": [{"band": "g", "hips": "none"}], "catalogue": {"path": "none"}}
    return Manifest.model_validate({"archive": archive, "engine": {"workers": 1}})


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "network").write_text(NETWORK)
    return {**write_stamps(tmp_path / "stamps"), "network": tmp_path / "network"}


def trained(inputs: dict[str, Path], work: Work, **chosen: Any) -> dict[str, Path]:
    """The inputs, and what a training adds to them."""
    made = train(TrainParameters(**(QUICK | chosen)), inputs, work).made
    return {**inputs, **made}


def elsewhere(work: Work, name: str) -> Work:
    """Give a second training folders of its own."""
    folders = {part: getattr(work, part) / name for part in ("folder", "checkpoints")}
    for folder in folders.values():
        folder.mkdir()
    return replace(work, **folders)


def predicted(inputs: dict[str, Path], work: Work) -> dict[str, Path]:
    made = predict(PredictParameters(), inputs, replace(work, identities={"model": "m" * 64})).made
    return {**inputs, **made}


def test_a_declared_network_learns_predicts_is_scored_and_drawn(inputs: dict[str, Path], work: Work) -> None:
    found = predicted(trained(inputs, work), work)
    rows = pq.read_table(found["predictions"]).sort_by("source_id").to_pydict()
    assert rows["status"] == ["ok"] * 12
    truth = z_of(72)[60:][np.argsort([f"s{row}" for row in range(60, 72)])]
    assert np.abs(np.array(rows["z_median"]) - truth).mean() < 0.1
    weights, means, sigmas = (np.array(rows[name]) for name in ("weights", "means", "sigmas"))
    below = (weights * ndtr((np.array(rows["z_q16"])[:, None] - means) / sigmas)).sum(axis=1)
    np.testing.assert_allclose(below, 0.16, atol=1e-4)
    assert all(0 <= score <= 1 for score in rows["ood"])
    scores = json.loads(evaluate(EvaluateParameters(bootstrap=10), found, work).made["scores"].read_text())
    assert scores["targets"] == {"rows": 0, "scores": []}
    assert scores["validation"]["scores"][0]["scores"]["crps"]["value"] < 0.15
    pictures = draw(DrawParameters(examples=3), found, work).made
    assert set(pictures) == {"pdfs", "redshifts", "pit"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures.values())


def test_a_stamp_whose_pdf_is_not_finite_is_a_row_with_a_status(
    inputs: dict[str, Path], work: Work, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = bundles.Bundle.arrays

    def broken(bundle: bundles.Bundle, images: np.ndarray, scalars: Any = None) -> dict[str, np.ndarray]:
        found = {name: values.copy() for name, values in arrays(bundle, images, scalars).items()}
        found["means"][images[:, 0, 0, 0] == 7.0] = np.nan
        return found

    images = np.load(inputs["cutouts"] / "pixels.npy")
    images[64, 0, 0, 0] = 7.0
    write_cutouts(inputs["cutouts"], images)
    learned = trained(inputs, work, epochs=2)
    monkeypatch.setattr(bundles.Bundle, "arrays", broken)
    rows = {row["source_id"]: row for row in pq.read_table(predicted(learned, work)["predictions"]).to_pylist()}
    assert {name for name, row in rows.items() if row["status"] == "error"} == {"s64"}
    assert rows["s64"]["z_median"] is rows["s64"]["means"] is None
    assert "1 stamps have no prediction: the network gives no finite PDF for them" in told.lines
    assert all(row["z_median"] is not None for name, row in rows.items() if name != "s64")


def test_scores_come_by_thirds_of_any_column(inputs: dict[str, Path], work: Work) -> None:
    found = predicted(trained(inputs, work, epochs=2), work)
    selection = pq.read_table(inputs["selection"])
    known = selection.set_column(6, "z", pa.array(z_of(72)))  # of the targets as well
    pq.write_table(known, inputs["selection"])
    targets = pq.read_table(inputs["targets"])
    pq.write_table(targets.drop_columns("Z_TRUE"), inputs["targets"])
    asked = EvaluateParameters(bootstrap=10, slices="z, mag_r, EBV, z_true")
    scores = json.loads(evaluate(asked, found, work).made["scores"].read_text())
    held = pq.read_table(found["split"]).to_pydict()
    validation = [row for row, part in zip(held["row"], held["part"], strict=True) if part == "validation"]
    lists = {name: pq.read_table(inputs[name]) for name in ("training", "targets")}
    z, magnitudes = z_of(72), np.array(selection["mag_r"], float)
    by_hand = {
        "targets": {"z": z[60:], "mag_r": magnitudes[60:], "EBV": np.array(lists["targets"]["EBV"])},
        "validation": {
            "z": z[validation],
            "mag_r": magnitudes[validation],
            "EBV": np.array(lists["training"]["EBV"])[validation],
            "z_true": z[validation],
        },
    }
    for name, columns in by_hand.items():
        sets = scores[name]["scores"][1:]
        assert list(dict.fromkeys(each["column"] for each in sets)) == [
            column for column, values in columns.items() if np.isfinite(values).sum() >= 15
        ]
        for each in sets:
            values = columns[each["column"]]
            assert each["rows"] == np.sum((values >= each["low"]) & (values < each["high"]))
    with pytest.raises(TableFault, match=r"SLICES names psf, which is no column of the training list .*\(mag_r\)"):
        evaluate(EvaluateParameters(slices=("psf",)), found, work)


def raw(parameters: Any, images: Any) -> Any:
    return images.mean(axis=(1, 2)) @ parameters["matrix"] + parameters["bias"]


def test_a_shipped_network_trains_and_the_bundle_predicts_without_it(inputs: dict[str, Path], work: Work) -> None:
    def initial(key: Any) -> Any:
        return {"matrix": jnp.zeros((2, 15)), "bias": jnp.zeros(15)}

    ship(raw, initial, input_shape=(8, 8, 2)).write(inputs["network"])
    found = predicted(trained(inputs, work, epochs=2), work)
    inputs["network"].unlink()
    about = bundles.load(found["model"]).json
    assert about["network"].keys() == {"format", "sha256"}
    assert pq.read_table(found["predictions"])["z_median"].null_count == 0
    assert "a shipped network" in (found["model"] / "card.md").read_text()


def test_bins_stand_in_the_table_as_a_mixture_and_are_had_back(inputs: dict[str, Path], work: Work) -> None:
    found = predicted(trained(inputs, work, head="bins(40, 2.0)", epochs=2), work)
    table = pq.read_table(found["predictions"])
    weights, means = (np.array(table[name].to_pylist(), float) for name in ("weights", "means"))
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(means[0], (np.arange(40) + 0.5) * 0.05, rtol=1e-5)
    edges = np.cumsum(weights, axis=1)
    row = np.arange(12)
    middle = np.array(table["z_median"], float)
    inside = (middle / 0.05).astype(int)
    below = edges[row, inside] - weights[row, inside] * (inside + 1 - middle / 0.05)
    np.testing.assert_allclose(below, 0.5, atol=1e-4)
    scores = json.loads(evaluate(EvaluateParameters(bootstrap=10), found, work).made["scores"].read_text())
    assert scores["validation"]["scores"][0]["scores"]["crps"]["value"] < 0.4


def test_scalars_come_from_catalogue_and_lists_and_rows_without_are_told(inputs: dict[str, Path], work: Work) -> None:
    found = predicted(trained(inputs, work, scalars="mag_r, ebv", epochs=2), work)
    assert pq.read_table(found["split"]).num_rows == 59
    rows = {row["source_id"]: row for row in pq.read_table(found["predictions"]).to_pylist()}
    assert {name for name, row in rows.items() if row["status"] == "invalid-scalar"} == {"s63"}
    assert rows["s63"]["z_median"] is None
    assert rows["s60"]["z_median"] is not None
    assert bundles.load(found["model"]).scalars == ("mag_r", "ebv")


def test_a_scalar_that_is_nowhere_or_the_redshift_is_refused(inputs: dict[str, Path], work: Work) -> None:
    with pytest.raises(TableFault, match=r"SCALARS names psf, which is no column of the training list .*\(mag_r\)"):
        trained(inputs, work, scalars="psf")
    same = pq.read_table(inputs["selection"]).slice(0, 60)["z"]
    training = pq.read_table(inputs["training"])
    pq.write_table(training.set_column(3, "Z_TRUE", same), inputs["training"])
    with pytest.raises(ParameterFault, match="SCALARS=z_true is the redshift itself"):
        trained(inputs, work, scalars="z_true")


def test_text_among_the_numbers_of_a_scalar_is_the_fault_of_its_row(inputs: dict[str, Path], work: Work) -> None:
    table = pq.read_table(inputs["training"])
    text = ["n/a" if row == 7 else f"{value:.3f}" for row, value in enumerate(table["EBV"].to_pylist())]
    pq.write_table(table.set_column(2, "EBV", [text]), inputs["training"])
    found = scalars_of(("ebv",), StampSet.open(inputs), inputs)["ebv"]
    np.testing.assert_allclose(found[:7], [float(value) for value in text[:7]])
    assert np.isnan(found[7])


def blank(inputs: dict[str, Path], band: int, rows: slice) -> None:
    """Take a band away from some stamps."""
    images = np.load(inputs["cutouts"] / "pixels.npy")
    images[rows, ..., band] = np.nan
    write_cutouts(inputs["cutouts"], images)


def test_sources_that_lack_a_band_are_used_by_a_masked_network_alone(inputs: dict[str, Path], work: Work) -> None:
    blank(inputs, 0, slice(50, 66))
    found = predicted(trained(inputs, work, masked=True, epochs=2), work)
    assert pq.read_table(found["split"]).num_rows == 60
    rows = pq.read_table(found["predictions"]).to_pylist()
    lacking = [row for row in rows if row["status"] == "partial-band"]
    assert {row["source_id"] for row in lacking} == {f"s{row}" for row in range(60, 66)}
    assert {row["flags"] for row in lacking} == {"no-g"}
    assert all(row["z_median"] is not None for row in rows)
    own = elsewhere(work, "unmasked")
    found = predicted(trained(inputs, own, epochs=2), own)
    assert pq.read_table(found["split"]).num_rows == 50
    rows = pq.read_table(found["predictions"]).to_pylist()
    assert [row["status"] for row in rows].count("blank") == 6


def test_calibration_derives_a_model_and_leaves_the_old_one(inputs: dict[str, Path], work: Work) -> None:
    found = trained(inputs, work, epochs=20, validation_fraction=0.5)
    old = (found["model"] / "model.json").read_bytes()
    kept = found["model"].rename(work.checkpoints / "old")
    made = calibrate(CalibrateParameters(calibration="pit"), {**found, "model": kept}, work).made
    assert (kept / "model.json").read_bytes() == old
    before, after = bundles.load(kept), bundles.load(made["model"])
    images = np.load(inputs["cutouts"] / "pixels.npy")[60:]
    factor = after.json["calibration"]["temperature"]
    widths = [bundle.predict(images).std() for bundle in (before, after)]
    assert np.all((widths[1] > widths[0]) == (factor > 1))
    assert "temperature" in (made["model"] / "card.md").read_text()
    table = pq.read_table(predicted({**found, **made}, work)["predictions"])
    weights, means, sigmas = (np.array(table[name].to_pylist(), float) for name in ("weights", "means", "sigmas"))
    below = (weights * ndtr((np.array(table["z_median"], float)[:, None] - means) / sigmas)).sum(axis=1)
    calibration = after.calibration
    assert calibration is not None
    np.testing.assert_allclose(np.interp(below, calibration.knots, calibration.levels), 0.5, atol=1e-3)


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "labels beyond the bins": ({}, {"head": "bins(10, 1.0)"}, r"cannot be learned .*covers 0 <= z <= 1; take a larger"),
    "all labels equal": ({"z": np.ones(72)}, {}, "all training labels are 1"),
    "too few rows": ({"list": ["targets"] * 60 + ["training"] * 12}, {}, "Only 12 training rows"),
}


@pytest.mark.parametrize(("columns", "chosen", "reason"), FAULTS.values(), ids=FAULTS)
def test_what_nothing_can_be_learned_from_is_refused_in_words(
    inputs: dict[str, Path], work: Work, columns: dict[str, Any], chosen: dict[str, Any], reason: str
) -> None:
    table = pq.read_table(inputs["selection"])
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, inputs["selection"])
    with pytest.raises((ValueError, TableFault), match=reason):
        trained(inputs, work, **chosen)


def test_a_band_that_is_blank_everywhere_is_refused_in_words(inputs: dict[str, Path], work: Work) -> None:
    blank(inputs, 1, slice(None))
    with pytest.raises(TableFault, match=r"Only 0 training rows .* 60 blank"):
        trained(inputs, work)
    with pytest.raises(ValueError, match="band 1 has a noise of nan: all blank"):
        trained(inputs, work, masked=True)


def test_one_bad_row_in_a_batch_is_sky_and_the_others_learn(inputs: dict[str, Path], work: Work) -> None:
    images = np.load(inputs["cutouts"] / "pixels.npy")
    images[5, 2, 2, :], images[6, 1, 1, 0] = np.inf, 1e30
    np.save(inputs["cutouts"] / "pixels.npy", images)
    found = predicted(trained(inputs, work, epochs=2), work)
    assert pq.read_table(found["predictions"])["z_median"].null_count == 0


def test_a_training_whose_mixture_collapses_is_told_in_the_log_of_the_job(
    inputs: dict[str, Path], work: Work, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = MixtureHead.initial_bias
    down = np.array([0, -30, -30, 0, 0, 0, 0, 0, 0], np.float32)  # so far that no gradient reaches these logits
    monkeypatch.setattr(MixtureHead, "initial_bias", lambda head, labels: begin(head, labels) + down)
    found = trained(inputs, work, head="mixture(3)", epochs=2)
    [line] = [line for line in told.lines if "collapsed" in line]
    assert "collapsed from 3 components to 1" in line
    assert bundles.load(found["model"]).json["remarks"] == [line]


def test_a_search_keeps_the_best_trial_and_trains_none_twice(inputs: dict[str, Path], work: Work) -> None:
    parameters = SearchParameters(**(QUICK | {"epochs": 10}), grid="learning_rate=1e-5/1e-2; head=mixture(1)")
    outcome = search(parameters, inputs, work)
    made = outcome.made
    best, worst = json.loads(made["trials"].read_text())
    # Two trials on the same rows: each sees them ten times, unless nothing improves any more.
    rows = bundles.load(made["model"]).json["rows"]["train"]
    assert 0 < best["images_trained"] <= 10 * rows + 64
    assert outcome.account == {"images_trained": best["images_trained"] + worst["images_trained"]}
    assert best["parameters"] == {"learning_rate": 0.01, "head": "mixture(1)"}
    assert best["validation_crps"] < worst["validation_crps"]
    assert bundles.load(made["model"]).json["validation_crps"] == best["validation_crps"]
    (work.folder / "trials.json").unlink()
    (other := work.folder / "again").mkdir()  # as after a kill between the winner's move and its record
    once_more = search(parameters, inputs, replace(work, folder=other)).made
    assert json.loads(once_more["trials"].read_text()) == [best, worst]
    assert digest(once_more["model"]) == digest(made["model"])


def test_a_network_beyond_the_limits_is_not_trained(inputs: dict[str, Path], work: Work) -> None:
    limits = work.manifest.limits.model_copy(update={"parameters": 10})
    narrow = replace(work, manifest=work.manifest.model_copy(update={"limits": limits}))
    with pytest.raises(ParameterFault, match=r"parameters .* 10 are allowed"):
        trained(inputs, narrow)
    with pytest.raises(ParameterFault, match=r"parameters .* 10 are allowed"):
        search(SearchParameters(**QUICK, grid="learning_rate=1e-4/1e-3"), inputs, narrow)


def test_a_trial_that_an_attempt_left_of_other_rows_or_parameters_is_not_taken(
    inputs: dict[str, Path], work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Recipe] = []

    def learned(_: Lesson, recipe: Recipe, __: object, *, checkpoints: Path) -> Any:
        assert not list(checkpoints.parent.iterdir())
        trained.append(recipe)
        return SimpleNamespace(validation_crps=float(len(trained)), remarks=())

    monkeypatch.setattr(Lesson, "learned", learned)
    monkeypatch.setattr(Lesson, "save", lambda *_: Outcome(made={}, account={"images_trained": 1.0}))
    monkeypatch.setattr("shutil.copy2", lambda *_: None)
    monkeypatch.setattr("shutil.copytree", lambda *_: None)

    def searched(seed: int, selection: str) -> int:
        parameters = SearchParameters(**QUICK, seed=seed, grid="learning_rate=1e-4/1e-3")
        search(parameters, inputs, replace(work, identities={"selection": selection}))
        return len(trained)

    assert [searched(1, "a"), searched(1, "a"), searched(2, "a"), searched(2, "b")] == [2, 2, 4, 6]


def test_each_trial_trains_the_network_that_it_names(
    inputs: dict[str, Path], work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Recipe] = []

    def learned(_: Lesson, recipe: Recipe, *__: object, **___: object) -> Any:
        trained.append(recipe)
        return SimpleNamespace(validation_crps=1.0, remarks=())

    monkeypatch.setattr(Lesson, "learned", learned)
    monkeypatch.setattr(Lesson, "require_room", lambda *_, **__: None)  # of so small a stamp that inzitu takes none
    monkeypatch.setattr(Lesson, "save", lambda *_: Outcome(made={}, account={"images_trained": 1.0}))
    monkeypatch.setattr("shutil.copy2", lambda *_: None)
    monkeypatch.setattr("shutil.copytree", lambda *_: None)
    search(SearchParameters(**QUICK, grid="network=own/inzitu"), inputs, work)
    assert {recipe.network if isinstance(recipe.network, str) else "own" for recipe in trained} == {"own", "inzitu"}


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        ("seed=1/2", "'seed' cannot be tried"),
        ("epochs=1/-2", "-2: Input should be greater"),
        ("epochs=3", "from 2 to 64 trials"),
        ("epochs=" + "/".join(map(str, range(1, 70))), "from 2 to 64 trials"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_before_the_job_queues(grid: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SearchParameters(grid=grid)
