"""A training must reach a known p(z | x): the CRPS of who knows it is a limit that no forecaster passes."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from inzitu.learn.images import Augmentation
from inzitu.learn.mixture import Mixture
from inzitu.learn.predict import predict
from inzitu.learn.recipe import Recipe
from inzitu.learn.train import train

ROWS = 24_000
GRID = np.linspace(-1, 5, 601)
DENSE = {"layers": ["flatten", {"dense": 64}, {"activation": "gelu"}, {"dense": 64}, {"activation": "gelu"}]}


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of 2 x 2 pixels, redshifts from a mixture of two normals that they decide, and that mixture's CDF."""
    images = rng.uniform(-1, 1, (ROWS, 2, 2, 2)).astype(np.float32)
    u, v = (images[:, 0, 0, 0, None] + 1) / 2, (images[:, 1, 1, 1, None] + 1) / 2
    first, means, sigmas = 0.2 + 0.6 * v, (0.5 + u, 2.5 - u * v), (0.1 + 0.2 * v, 0.15 + 0.1 * u)
    chosen = rng.uniform(size=(ROWS, 1)) > first
    z = np.where(chosen, rng.normal(means[1], sigmas[1]), rng.normal(means[0], sigmas[0]))[:, 0]
    shares = (first, 1 - first)
    cdf = sum(w * norm.cdf((GRID - m) / s) for w, m, s in zip(shares, means, sigmas, strict=True))
    return images, z.astype(np.float32), np.asarray(cdf)


def crps(cdf: np.ndarray, z: np.ndarray) -> float:
    return float(np.mean(np.trapezoid((cdf - (z[:, None] <= GRID)) ** 2, GRID, axis=1)))


def test_the_crps_is_within_one_per_cent_of_the_exact_one() -> None:
    images, z, cdf = drawn(np.random.default_rng(0))
    split = np.resize(np.array([0] * 6 + [1] + [2], np.int8), ROWS)
    recipe = Recipe(
        network=DENSE,
        head="mixture(3)",
        epochs=12,
        batch_size=256,
        learning_rate=4e-3,
        augmentation=Augmentation(symmetries=False, noise=0.0, brightness=0.0),
        evaluations=8,
    )
    trained = train(images, z, split, recipe=recipe)
    asked = split == 2
    found = predict(trained, images[asked], average=False)
    assert isinstance(found, Mixture)
    weights, means, sigmas = (np.asarray(part, float)[..., None] for part in (found.weights, found.means, found.sigmas))
    learned = np.sum(weights * norm.cdf((GRID - means) / sigmas), axis=1)
    exact = crps(cdf[asked], z[asked])
    assert exact * 0.995 < crps(learned, z[asked]) < 1.01 * exact
