"""The out-of-domain score, on real quasars beyond the training redshifts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from inzitu.learn.ood import NEIGHBOURS, OodModel, colours

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(500, 4)) * [1.0, 5.0, 0.1, 2.0] + 3.0
SHARED = Path(__file__).parents[2] / "../shared/data/sdss-qso/stamps.npz"


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """The probability that a row outside scores higher than one inside."""
    ranks = rankdata(np.concatenate([inside, outside]))[len(inside) :]
    return float((ranks.mean() - (len(outside) + 1) / 2) / len(inside))


def test_distances_are_those_of_a_tree() -> None:
    model = OodModel.fit(FEATURES)
    scaled = (FEATURES - FEATURES.mean(axis=0)) / FEATURES.std(axis=0)
    own = cKDTree(scaled).query(scaled, k=NEIGHBOURS + 1)[0][:, 1:].mean(axis=1)
    np.testing.assert_allclose(model.distances, np.sort(own), rtol=1e-3, atol=1e-3)


def test_the_score_is_uniform_inside_and_rises_beyond() -> None:
    model = OodModel.fit(FEATURES)
    fresh = RNG.normal(size=(500, 4)) * [1.0, 5.0, 0.1, 2.0] + 3.0
    inside = np.asarray(model.score(jnp.asarray(fresh, jnp.float32)))
    assert np.quantile(inside, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.12)
    far = FEATURES.mean(axis=0) + np.outer([3, 6, 20, 100, 1000], FEATURES.std(axis=0))
    scores = np.asarray(model.score(jnp.asarray(far, jnp.float32)))
    assert (np.diff(scores) > 0).all()
    assert 0.99 < scores[0] < scores[-1] <= 1.0


def test_the_score_goes_through_jit_export_and_its_arrays() -> None:
    model = OodModel.fit(FEATURES)
    again = OodModel(**model.arrays())
    (n,) = jax.export.symbolic_shape("n")
    abstract: Any = jax.ShapeDtypeStruct
    exported = jax.export.export(jax.jit(again.score), platforms=("cpu", "cuda"))(abstract((n, 4), jnp.float32))
    call: Any = exported.call
    features = jnp.asarray(FEATURES[:7], jnp.float32)
    np.testing.assert_allclose(call(features), model.score(features), rtol=1e-5, atol=1e-6)


def test_too_few_or_bad_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 10 rows"):
        OodModel.fit(FEATURES[:5])
    with pytest.raises(ValueError, match="finite features"):
        OodModel.fit(np.full((50, 2), np.nan))


def test_colours_are_of_the_central_source_alone() -> None:
    images = np.zeros((2, 24, 24, 3), np.float32)
    images[:, 11:13, 11:13] = [1.0, 2.0, 4.0]
    images[1, :4] = 50.0
    found = np.asarray(colours(jnp.asarray(images), jnp.ones(3)))
    assert found.shape == (2, 2)
    np.testing.assert_allclose(found[0], found[1])
    assert (np.diff(images[0, 12, 12]) > 0).all() == (found[0] < 0).all()


@pytest.mark.skipif(not SHARED.exists(), reason="the quasar stamps are not beside the project")
@pytest.mark.parametrize("highest", [3.5, 3.8])
def test_quasars_beyond_the_training_redshifts_are_told_apart(highest: float) -> None:
    with np.load(SHARED) as stamps:
        images, z = np.moveaxis(stamps["images"], 1, -1), stamps["z"]
    sigmas = 1.4826 * np.median(np.abs(images[:, :8, :8]), axis=(0, 1, 2))
    features = np.asarray(colours(jnp.asarray(images), jnp.asarray(sigmas)))
    inside = np.random.default_rng(1).permutation(np.flatnonzero(z < highest))
    seen, kept = np.split(inside, [3 * len(inside) // 4])
    model = OodModel.fit(features[seen])
    scores = np.asarray(model.score(jnp.asarray(features)))
    assert auc(scores[kept], scores[z > highest]) >= 0.85
