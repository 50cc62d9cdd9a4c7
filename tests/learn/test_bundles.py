from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jax import export

from inzitu.learn import bundles
from inzitu.learn.bundles import BundleError
from inzitu.learn.predict import predict
from inzitu.learn.recipe import Recipe
from inzitu.learn.train import Trained, train
from learn.tiny import coloured, offer, thirds

RECIPE = Recipe(
    network="tiny", head="mixture(2)", epochs=2, batch_size=16, learning_rate=3e-3, members=2, evaluations=1
)
ABOUT = {"bands": ("g", "r"), "scale": 0.4, "units": "nanomaggy"}


@pytest.fixture(scope="module")
def trained() -> Trained:
    with pytest.MonkeyPatch.context() as patch:
        offer(patch)
        images, labels = coloured(60)
        return train(images, labels, thirds(60), recipe=RECIPE)


@pytest.fixture
def folder(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    offer(monkeypatch)
    bundles.save(trained, tmp_path / "model", **ABOUT, extra={"split": "abc"})  # type: ignore[arg-type]
    return tmp_path / "model"


def test_a_bundle_predicts_what_the_training_did(trained: Trained, folder: Path) -> None:
    images, _ = coloured(150, seed=2)
    expected, found = predict(trained, images), bundles.load(folder).predict(images)
    for name in ("weights", "means", "sigmas"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)


def test_a_gpus_part_of_a_bundle_predicts_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).normal(size=(30, 16, 16, 5)).astype(np.float32)
    recipe = Recipe(network="dcmdn-a", epochs=1, evaluations=1, members=1)
    labels = np.random.default_rng(1).uniform(0, 0.4, 30).astype(np.float32)
    bundles.save(train(images, labels, thirds(30), recipe=recipe), tmp_path / "model", **(ABOUT | {"bands": "ugriz"}))  # type: ignore[arg-type]
    here = bundles.load(tmp_path / "model").arrays(images)
    # A program for two platforms asks which it runs on by their order.
    read = export.deserialize
    monkeypatch.setattr(export, "deserialize", lambda data: replace(read(data), platforms=("cuda", "cpu")))
    there = bundles.load(tmp_path / "model").arrays(images)
    assert any(np.any(here[name] != there[name]) for name in here), "the forms of a convolution differ"
    for name in here:
        np.testing.assert_allclose(there[name], here[name], atol=1e-5, err_msg=name)


_ALONE = """
import sys
import numpy as np
from inzitu.learn import bundles
bundle = bundles.load(__import__("pathlib").Path(sys.argv[1]))
images = np.load(sys.argv[2])
np.save(sys.argv[3], bundle.predict(images).mean())
"""


def test_a_bundle_predicts_in_a_process_that_does_not_know_the_network(folder: Path, tmp_path: Path) -> None:
    # The network `tiny` exists in this test alone.
    images, _ = coloured(5, seed=2)
    np.save(tmp_path / "images.npy", images)
    paths = [str(path) for path in (folder, tmp_path / "images.npy", tmp_path / "means.npy")]
    subprocess.run([sys.executable, "-c", _ALONE, *paths], check=True, timeout=120)
    found = bundles.load(folder).predict(images)
    np.testing.assert_allclose(np.load(tmp_path / "means.npy"), found.mean(), atol=1e-6)


def test_a_bundle_predicts_without_inzitu_as_the_docs_say(folder: Path, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs/use/learning.md"
    [example] = re.findall(r"### Without inzitu\n.*?```python\n(.*?)```", page.read_text("utf-8"), re.S)
    images, _ = coloured(5, seed=2)
    np.save(tmp_path / "images.npy", images)
    # An import of what is None fails.
    alone = "import sys\nsys.modules['inzitu'] = sys.modules['flax'] = None\n" + example
    subprocess.run([sys.executable, "-c", alone], cwd=tmp_path, check=True, timeout=120)
    with np.load(tmp_path / "pdfs.npz") as file:
        found = dict(file)
    expected = bundles.load(folder).arrays(images)
    assert set(found) == set(expected) == {"weights", "means", "sigmas", "ood"}
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5)


def test_the_files_are_data(folder: Path) -> None:
    names = {"model.safetensors", "model.json", "predictor.stablehlo", "card.md"}
    assert {path.name for path in folder.iterdir()} == names
    about = json.loads((folder / "model.json").read_text())
    assert about["bands"] == ["g", "r"]
    assert about["head"] == {"head": "mixture", "k": 2, "truncated": False}
    assert about["split"] == "abc"
    assert "Redshift PDFs from 8 x 8 pixel images in g, r" in (folder / "card.md").read_text()


def test_a_bundle_says_what_it_is_for(folder: Path) -> None:
    bundle = bundles.load(folder)
    assert bundle.components == 4
    bundle.check(bands=["g", "r"], scale=0.4, size=8)
    with pytest.raises(BundleError, match="the images have the bands r, g, the model g, r"):
        bundle.check(bands=["r", "g"], scale=0.4, size=8)
    with pytest.raises(BundleError, match="9 x 9 pixels, the model takes 8 x 8"):
        bundle.check(bands=["g", "r"], scale=0.4, size=9)
    with pytest.raises(BundleError, match=r"0\.2 arcsec a pixel, the model was trained on 0\.4"):
        bundle.check(bands=["g", "r"], scale=0.2, size=8)


def test_other_colours_are_stranger_than_those_of_the_training(folder: Path) -> None:
    bundle = bundles.load(folder)
    usual = coloured(50, seed=3)[0]
    strange = usual * np.array([1, 5], np.float32)
    assert np.median(bundle.ood(usual)) < 0.8
    assert np.median(bundle.ood(strange)) > 0.95


@pytest.mark.parametrize("name", ["model.safetensors", "predictor.stablehlo"])
def test_a_damaged_file_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is not the file that model.json names"):
        bundles.load(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"digests"', '"digest_s"'),
        lambda text: text.replace('"scale": 0.4', '"scale": 0.8'),
        lambda text: "\ufffe",
    ],
    ids=["truncated", "a list", "a key fewer", "another scale", "no text"],
)
def test_a_damaged_description_is_named(folder: Path, damage: Callable[[str], str]) -> None:
    text = (folder / "model.json").read_text()
    assert damage(text) != text
    (folder / "model.json").write_text(damage(text), encoding="utf-16")
    with pytest.raises(BundleError, match=r"model\.json is not the file that was written"):
        bundles.load(folder)
    (folder / "model.json").write_text(text)
    bundles.load(folder)


def test_a_missing_file_and_a_later_format_are_told(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"model.safetensors is missing"):
        bundles.load(folder)
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(BundleError, match="bundle format 99; this version reads 1"):
        bundles.load(folder)


def test_bands_must_be_named_as_many_as_there_are(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="1 band names for images of 2 bands"):
        bundles.save(trained, tmp_path, bands=["g"], scale=0.4, units="nanomaggy")
