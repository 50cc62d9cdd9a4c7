from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from flax import nnx
from scipy.stats import norm

from inzitu.learn import networks
from inzitu.learn.bins import Histogram
from inzitu.learn.images import Normalisation
from inzitu.learn.mixture import Mixture
from inzitu.learn.ood import OodModel
from inzitu.learn.predict import BLOCK, estimates, in_blocks, predict, predictor
from inzitu.learn.recipe import Recipe
from inzitu.learn.scalars import ScalarScale
from inzitu.learn.train import Trained, train
from learn.tiny import coloured, offer, thirds

RECIPE = Recipe(
    network="tiny", head="mixture(2)", epochs=3, batch_size=16, learning_rate=3e-3, members=2, evaluations=1
)


def mixtures(trained: Trained, images: np.ndarray, *, average: bool = True) -> Mixture:
    found = predict(trained, images, average=average)
    assert isinstance(found, Mixture)
    return found


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    with pytest.MonkeyPatch.context() as patch:
        offer(patch)
        images, labels = coloured(60)
        yield train(images, labels, thirds(60), recipe=RECIPE)


def test_a_turned_image_has_exactly_the_same_pdf(trained: Trained) -> None:
    images, _ = coloured(20, seed=1)
    upright, turned = mixtures(trained, images), mixtures(trained, np.ascontiguousarray(np.rot90(images, 1, (1, 2))))
    for name in ("weights", "means", "sigmas"):
        np.testing.assert_array_equal(getattr(turned, name), getattr(upright, name))


def untrained(name: str, shape: tuple[int, int, int]) -> Trained:
    """A network with weights drawn at random, as wide as its layers ask for."""
    recipe, rng = dataclasses.replace(RECIPE, network=name, members=1).settled(60), np.random.default_rng(0)
    abstract = nnx.eval_shape(lambda: networks.of_recipe(recipe, key=jax.random.key(0), input_shape=shape))

    def drawn(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        return (rng.random((1, *leaf.shape), np.float32) - 0.5) * np.float32(np.sqrt(12 / np.prod(leaf.shape[:-1])))

    return Trained(
        recipe=recipe,
        input_shape=shape,
        normalisation=Normalisation((1.0,) * shape[2]),
        scalars=ScalarScale(),
        parameters=jax.tree.map(drawn, nnx.split(abstract)[1]),
        z_range=(0.0, 1.0),
        rows={},
        split_digest="",
        validation_crps=0.0,
        ood=OodModel.fit(rng.normal(size=(20, shape[2] - 1))),
        history=(),
    )


@pytest.mark.parametrize(("name", "least"), [("inzitu", 12), ("dcmdn-a", 16), ("dcmdn-b", 16), ("pasquet", 16)])
def test_each_network_of_the_house_gives_the_same_bits_for_all_8_symmetries(name: str, least: int) -> None:
    # A pixel more than it needs: what is cut off must not tell the turns apart.
    trained = untrained(name, (least + 1, least + 1, 2))
    rng, scalars = np.random.default_rng(1), np.zeros((1, 0), np.float32)
    image = 9 * rng.standard_normal((1, *trained.input_shape), np.float32)
    image[0, 3, 5, 1] = np.nan
    call = jax.jit(predictor(trained))
    quarters = [np.rot90(image, quarter, (1, 2)) for quarter in range(4)]
    upright, *turned = [
        call(trained.parameters, np.ascontiguousarray(way), scalars)
        for way in (*quarters, *[np.swapaxes(quarter, 1, 2) for quarter in quarters])
    ]
    assert len(turned) == 7
    for again in turned:
        for part in ("weights", "means", "sigmas"):
            assert np.isfinite(again[part]).all()
            np.testing.assert_array_equal(again[part], upright[part])


def test_without_the_average_it_has_not(trained: Trained) -> None:
    images, _ = coloured(20, seed=1)
    turned = mixtures(trained, np.ascontiguousarray(images[:, ::-1]), average=False)
    assert np.abs(turned.means - mixtures(trained, images, average=False).means).max() > 1e-4


def test_the_last_short_block_is_predicted_too(trained: Trained) -> None:
    # The first system's relative dropped it.
    images, _ = coloured(BLOCK + 3, seed=1)
    whole, last = mixtures(trained, images), mixtures(trained, images[BLOCK:])
    assert whole.means.shape == (BLOCK + 3, 4)
    np.testing.assert_allclose(whole.means[BLOCK:], last.means, atol=1e-5)


def test_no_images_give_no_pdfs(trained: Trained) -> None:
    assert mixtures(trained, coloured(0)[0]).means.shape == (0, 4)


def test_blocks_are_of_one_size() -> None:
    sizes: list[int] = []

    def call(images: np.ndarray, scalars: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(images))
        return {"sum": images.sum(axis=(1, 2, 3))}

    images = np.random.default_rng(0).normal(size=(300, 2, 2, 1)).astype(np.float32)
    found = in_blocks(call, images, np.zeros((300, 0)))["sum"]
    assert sizes == [BLOCK] * 3
    np.testing.assert_allclose(found, images.sum(axis=(1, 2, 3)))


def test_a_label_at_the_edge_of_the_bins_is_learned(trained: Trained) -> None:
    # In the first system it fell out of the last bin.
    images, labels = coloured(60)
    labels[0] = 2.0
    found = predict(
        train(images, labels, thirds(60), recipe=dataclasses.replace(RECIPE, head="bins(8, 2.0)")), images[:3]
    )
    assert isinstance(found, Histogram)
    assert found.probabilities.shape == (3, 8)
    np.testing.assert_allclose(found.probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_images_of_another_shape_are_refused(trained: Trained) -> None:
    with pytest.raises(ValueError, match=r"images are \(9, 9, 2\) .*, the model was trained on \(8, 8, 2\)"):
        mixtures(trained, np.zeros((1, 9, 9, 2), np.float32))


def test_the_estimates_of_one_normal_distribution_are_those_of_scipy() -> None:
    found = estimates(Mixture(np.ones((1, 1)), np.full((1, 1), 3.0), np.full((1, 1), 0.2)))
    expected = {"z_mean": 3, "z_median": 3, "z_mode": 3, "z_sigma": 0.2}
    expected |= {
        f"z_q{name}": norm.ppf(q, 3, 0.2) for name, q in (("025", 0.025), ("16", 0.16), ("84", 0.84), ("975", 0.975))
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, abs=1e-9)
