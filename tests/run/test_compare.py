"""The step compare, held against the definitions; what the first system got wrong in its own is pinned here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.special import ndtr

from inzitu.errors import LimitFault, TableFault
from inzitu.learn.mixture import Mixture
from inzitu.learn.predict import estimates
from inzitu.manifest import Limits, Manifest
from inzitu.pipelines.parameters import CompareParameters, PredictParameters, TrainParameters
from inzitu.prov.store import digest
from inzitu.run import pictures
from inzitu.run.compare import climatology_crps, compare
from inzitu.run.engine import Engine
from inzitu.run.predictions import schema
from inzitu.run.work import Outcome, Work
from run.stampset import write_stamps
from story.stage import Stage

ROWS = 80
ASKED = CompareParameters(network="own", against=("inzitu",), bootstrap=50)


@dataclass(frozen=True)
class Ready:
    """What a job has that has trained a small network and predicted the test rows."""

    inputs: dict[str, Path]
    work: Work

    def compared(self, name: str) -> tuple[dict[str, Any], dict[str, Path]]:
        """Compare, in a folder of that name; what an earlier comparison has trained is gone on with."""
        folder = self.work.folder / name
        folder.mkdir()
        made = dict(compare(ASKED, self.inputs, replace(self.work, folder=folder)).made)
        return json.loads(made["comparison"].read_text()), made


def fake_train(parameters: TrainParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Write a split, and a model that is a name; training itself has its own tests, and the story's are real."""
    rows = pq.read_table(inputs["selection"])["row"].to_numpy()
    part = np.resize(["train", "train", "validation", "test"], len(rows))
    pq.write_table(pa.table({"row": rows, "part": part}), work.folder / "split.parquet")
    (work.folder / "model").mkdir()
    (work.folder / "model" / "model.json").write_text(parameters.network)
    (work.checkpoints / "trained").touch()
    return Outcome(made={"split": work.folder / "split.parquet", "model": work.folder / "model"})


def fake_predict(_: PredictParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Write mixtures about the redshifts of the test rows, worse by the name of the network."""
    name = (inputs["model"] / "model.json").read_text()
    split = pq.read_table(inputs["split"])
    rows = split["row"].to_numpy()[np.asarray(split["part"]) == "test"]
    z = pq.read_table(inputs["selection"])["z"].to_numpy()[rows]
    rng = np.random.default_rng(len(name))
    means = z[:, None] + rng.normal(0, {"own": 0.3}.get(name, 0.1), (len(z), 2))
    mixture = Mixture(np.full((len(z), 2), 0.5), means, np.full((len(z), 2), 0.2))
    kinds = schema(2).with_metadata({"head": "mixture(2)"})
    columns = {"source_id": [f"s{row}" for row in rows], "_row": rows, "model_id": [work.identities["model"]] * len(z)}
    columns |= {field: np.asarray(getattr(mixture, field)).tolist() for field in ("weights", "means", "sigmas")}
    columns |= {field: np.asarray(values) for field, values in estimates(mixture).items()}
    empty = {field.name: pa.nulls(len(z), field.type) for field in kinds}
    table = pa.table({name: columns.get(name, empty[name]) for name in kinds.names}, schema=kinds)
    pq.write_table(table, work.folder / "predictions.parquet")
    return Outcome(made={"predictions": work.folder / "predictions.parquet"})


@pytest.fixture(scope="module")
def ready(few: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    folder = tmp_path_factory.mktemp("compare")
    inputs = write_stamps(folder / "stamps", training=ROWS, targets=0, size=28)
    for name in ("made", "checkpoints"):
        (folder / name).mkdir()
    manifest = Manifest.load(few.manifest)
    work = Work(
        manifest=manifest,
        folder=folder / "made",
        checkpoints=folder / "checkpoints",
        identities={},
        engine=Engine(manifest.engine),
        progress=lambda *_, **__: None,
        log=lambda _: None,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inzitu.run.compare.train", fake_train)
        patch.setattr("inzitu.run.compare.predict", fake_predict)
        inputs |= fake_train(TrainParameters(network="own"), inputs, work).made
        work = replace(work, identities={"model": digest(inputs["model"])})
        inputs["predictions"] = fake_predict(PredictParameters(), inputs, work).made["predictions"]
        yield Ready(inputs, work)


@pytest.fixture(scope="module")
def compared(ready: Ready) -> tuple[dict[str, Any], dict[str, Path]]:
    return ready.compared("first")


def truths(inputs: dict[str, Path], rows: dict[str, list[Any]]) -> np.ndarray:
    return np.array(pq.read_table(inputs["selection"])["z"].to_pylist())[rows["_row"]]


def crps(weights: list[float], means: list[float], sigmas: list[float], z: float) -> float:
    """Integrate the square of the distance of the CDFs (Gneiting & Raftery 2007, eq. 20)."""
    w, m, s = (np.asarray(values) for values in (weights, means, sigmas))

    def cdf(x: float) -> float:
        return float(w @ ndtr((x - m) / s))

    below = quad(lambda x: cdf(x) ** 2, z - 20, z, limit=500, points=[*np.clip(m, z - 20, z)])[0]
    above = quad(lambda x: (1 - cdf(x)) ** 2, z, z + 20, limit=500, points=[*np.clip(m, z, z + 20)])[0]
    return float(below + above)


def test_the_comparison_scores_pdfs_against_truths_on_the_same_rows(
    ready: Ready, compared: tuple[dict[str, Any], dict[str, Path]]
) -> None:
    table, made = compared
    predictions = {"own": ready.inputs["predictions"], "inzitu": made["predictions-inzitu"]}
    assert [row["network"] for row in table["networks"]] == list(predictions)
    expected = {}
    for row in table["networks"]:
        rows = pq.read_table(predictions[row["network"]]).to_pydict()
        z = truths(ready.inputs, rows)
        assert table["rows"] == len(z) > 10
        mixtures = zip(rows["weights"], rows["means"], rows["sigmas"], z, strict=True)
        expected[row["network"]] = np.array([crps(*mixture) for mixture in mixtures])
        assert row["scores"]["crps"]["value"] == pytest.approx(expected[row["network"]].mean(), abs=2e-5)
        dz = (np.array(rows["z_median"]) - z) / (1 + z)
        assert row["scores"]["bias"]["value"] == pytest.approx(dz.mean(), abs=1e-6)
        assert set(rows["model_id"]) == {row["model"]}
    first, other = table["networks"]
    assert first["crps_difference"] == {"value": 0, "low": 0, "high": 0, "error": 0}
    difference = expected["inzitu"] - expected["own"]
    assert other["crps_difference"]["value"] == pytest.approx(difference.mean(), abs=4e-5)
    # Row by row the error is that of one mean, whatever the two scores share.
    assert other["crps_difference"]["error"] == pytest.approx(difference.std() / np.sqrt(len(difference)), rel=0.4)
    assert digest(made["model-inzitu"]) == other["model"]


def test_each_network_has_checkpoints_of_its_own_and_a_picture_is_drawn(
    ready: Ready, compared: tuple[dict[str, Any], dict[str, Path]]
) -> None:
    table, made = compared
    assert (ready.work.checkpoints / "inzitu" / "trained").exists()
    assert made["comparison-picture"].read_bytes().startswith(b"\x89PNG")
    assert table["networks"][0]["crps_difference"]["value"] > table["networks"][1]["crps_difference"]["high"]


def test_the_picture_draws_what_the_table_says(tmp_path: Path) -> None:
    def row(name: str, value: float) -> dict[str, Any]:
        interval = {"value": value, "low": value - 0.01, "high": value + 0.02, "error": 0.01}
        return {"network": name, "scores": dict.fromkeys(pictures.COMPARED, interval)}

    table: dict[str, Any] = {
        "rows": 9,
        "level": 0.68,
        "climatology": {"crps": 0.3},
        "networks": [row("a", 0.1), row("b", 0.2)],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "_saved", lambda figure, _: figure)
        figure: Any = pictures.draw_comparison(tmp_path / "c.png", table)
    for axis in figure.axes:
        [bars] = axis.containers
        line, _, _ = bars
        np.testing.assert_allclose(line.get_xdata(), [0.1, 0.2])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
    del table["networks"][0]["scores"]["nmad"]
    with pytest.raises(KeyError):  # a score that is not there is never passed over
        pictures.draw_comparison(tmp_path / "c.png", table)


def test_climatology_is_the_answer_of_who_knows_the_redshifts_only() -> None:
    rng = np.random.default_rng(0)
    known, z = rng.gamma(3, 1, 40), rng.gamma(3, 1, 15)

    def integrated(true: float) -> float:
        grid = np.linspace(-5, 30, 350_001)
        cdf = np.searchsorted(np.sort(known), grid, side="right") / len(known)
        return float(np.sum((cdf - (grid >= true)) ** 2) * (grid[1] - grid[0]))

    assert climatology_crps(known, z) == pytest.approx(np.mean([integrated(true) for true in z]), abs=1e-4)


def test_too_few_rows_with_truth_are_refused(ready: Ready) -> None:
    few = ready.work.folder / "few.parquet"
    pq.write_table(pq.read_table(ready.inputs["predictions"]).slice(0, 3), few)
    with pytest.raises(TableFault, match=r"Only 3 predicted rows have a redshift.*Raise TEST_FRACTION"):
        Ready(ready.inputs | {"predictions": few}, ready.work).compared("few")


def test_a_network_that_learns_from_other_rows_is_no_comparison(ready: Ready) -> None:
    other = ready.work.folder / "other.parquet"
    pq.write_table(pq.read_table(ready.inputs["split"]).slice(1), other)
    with pytest.raises(TableFault, match="inzitu can use other rows than the first"):
        Ready(ready.inputs | {"split": other}, ready.work).compared("other")


def test_a_network_that_cannot_be_is_known_before_any_trains(ready: Ready) -> None:
    poor = ready.work.manifest.model_copy(update={"limits": Limits(parameters=10)})
    with pytest.raises(LimitFault, match="parameters"):
        Ready(ready.inputs, replace(ready.work, manifest=poor)).compared("poor")
    assert not list((ready.work.folder / "poor").iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"against": ""}, "AGAINST must name networks besides dcmdn-a"),
        ({"against": "dcmdn-a"}, "AGAINST must name networks besides dcmdn-a"),
        ({"against": "inzitu,inzitu"}, "AGAINST must name networks besides dcmdn-a, each once"),
        ({"against": "inzitu,resnet"}, "resnet: Input should be"),
        ({"against": "own"}, "the others are of the house"),
    ],
)
def test_networks_that_are_not_there_are_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CompareParameters.model_validate(given)
