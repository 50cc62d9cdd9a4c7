"""Ten-fold cross-validation by sky cell on the 812 real quasars, the networks beside a forest on aperture fluxes.

Every quasar is predicted once, by a training that saw no quasar of its cell. A quantile regression forest (Meinshausen
2006, JMLR 7, 983) on the same folds is what a colour-based photometric redshift reaches; the climatology is what is
reached without any. Networks are trained twice: on the stamps alone, and with the catalogue's magnitudes as scalars,
beside which stands a forest on those magnitudes. Each network has its own recipe, and all as many members. Errors are
the standard deviation over 1,000 bootstrap samples of quasars. MFLOP are those of all members' way forward for one
stamp; seconds are the processor's, for one training. In the environment, `NETWORKS` names others than the default,
`MEMBERS` says how many make an ensemble, and `ASKED` how many of the folds are predicted, all by every method: on two
cores a run takes ten minutes for inzitu and half an hour for dcmdn-a. Each row is told as soon as it is there.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
from scipy import stats
from sklearn.ensemble import RandomForestRegressor

from inzitu.archive.stamps import demo_stamps
from inzitu.demo.baselines import Ensemble, aperture_features, climatology
from inzitu.demo.quasars import Quasars
from inzitu.learn import points
from inzitu.learn.images import difference_matrix
from inzitu.learn.mixture import Mixture
from inzitu.learn.predict import predict
from inzitu.learn.recipe import Recipe
from inzitu.learn.scores import crps_mixture
from inzitu.learn.split import folds_by_cell
from inzitu.learn.train import train
from inzitu.run.networks import traced

FOLDS, SIZE, BOOTSTRAP = 10, 28, 1000
TREES, LEAF = 400, 6
MEMBERS = int(os.environ.get("MEMBERS", "5"))
ASKED = int(os.environ.get("ASKED", FOLDS))


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What a method says of each quasar: CRPS, PIT, median; processor seconds a training, MFLOP a stamp."""

    crps: np.ndarray
    pit: np.ndarray
    median: np.ndarray
    seconds: float
    work: float = float("nan")

    def of(self, rows: np.ndarray) -> Predicted:
        """Return what is said of some of them."""
        return replace(self, crps=self.crps[rows], pit=self.pit[rows], median=self.median[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Stamps (n, y, x, band), the catalogue's magnitudes (n, band), redshifts and folds by sky cell."""

    images: np.ndarray
    magnitudes: dict[str, np.ndarray]
    z: np.ndarray
    fold: np.ndarray

    @classmethod
    def shipped(cls) -> Self:
        """Return the quasars that come with inzitu."""
        known = Quasars.shipped()
        margin = (known.stamps.shape[2] - SIZE) // 2
        images = np.ascontiguousarray(known.stamps.transpose(0, 2, 3, 1))
        images = images[:, margin : margin + SIZE, margin : margin + SIZE].astype(np.float32)
        with np.load(demo_stamps()) as file:
            magnitudes = {f"mag_{band}": file["magnitudes"][:, place] for place, band in enumerate(file["bands"])}
        fold = folds_by_cell(known.ra, known.dec, seed=0, folds=FOLDS)
        return cls(images, magnitudes, known.z.astype(np.float32), fold)


def run() -> str:
    """Return the table of scores."""
    known = Known.shipped()
    apertures = aperture_features(known.images.transpose(0, 3, 1, 2).astype(np.float64))
    magnitudes = np.stack(list(known.magnitudes.values()), axis=1)
    rows: dict[str, Callable[[], Predicted]] = {
        "climatology": lambda: _climatology(known.z),
        "quantile forest, aperture fluxes": lambda: _forest(apertures, known),
        "quantile forest, magnitudes and their colours": lambda: _forest(magnitudes @ difference_matrix(5), known),
    }
    for name in os.environ.get("NETWORKS", "inzitu,dcmdn-a").split(","):
        alone = Recipe(network=name, members=MEMBERS)
        rows[f"{name}, stamps"] = partial(_network, known, alone)
        with_scalars = replace(alone, scalars=tuple(known.magnitudes))
        rows[f"{name}, stamps and magnitudes"] = partial(_network, known, with_scalars)
    lines = [
        "| | CRPS | nmad | \\|dz\\| > 0.15 | PIT: KS p | 68 % | 95 % | MFLOP | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, method in rows.items():
        lines.append(_row(name, method().of(known.fold < ASKED), known.z[known.fold < ASKED]))
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def _network(known: Known, recipe: Recipe) -> Predicted:
    images, z, fold = known.images, known.z, known.fold
    scalars = {name: known.magnitudes[name] for name in recipe.scalars}
    found = np.empty((3, len(z)))
    began = time.process_time()
    for number in range(ASKED):
        split = np.zeros(len(z), np.int8)
        split[fold == (number + 1) % FOLDS] = 1
        split[fold == number] = 2
        asked = {name: values[split == 2] for name, values in scalars.items()}
        trained = train(images, z, split, recipe=recipe, scalars=scalars)
        pdfs = predict(trained, images[split == 2], scalars=asked)
        assert isinstance(pdfs, Mixture)
        weights, means, sigmas = (np.asarray(part, np.float64) for part in (pdfs.weights, pdfs.means, pdfs.sigmas))
        exact = Mixture(weights, means, sigmas)
        truth = z[split == 2].astype(np.float64)
        found[:, split == 2] = _crps(exact, truth), exact.cdf(truth), exact.median()
    seconds = (time.process_time() - began) / ASKED
    work = MEMBERS * traced(recipe, (SIZE, SIZE, images.shape[3])).flops / 1e6
    return Predicted(found[0], found[1], found[2], seconds, work)


def _forest(features: np.ndarray, known: Known) -> Predicted:
    z, fold = known.z, known.fold
    found = np.empty((3, len(z)))
    began = time.process_time()
    for number in range(ASKED):
        seen, asked = fold != number, fold == number
        forest = RandomForestRegressor(TREES, min_samples_leaf=LEAF, max_features=0.5, random_state=0, n_jobs=2)
        forest.fit(features[seen], z[seen])
        weights = _shared_leaves(forest.apply(features[asked]), forest.apply(features[seen]))
        found[:, asked] = _weighted(weights, z[seen].astype(np.float64), z[asked].astype(np.float64))
    return Predicted(found[0], found[1], found[2], (time.process_time() - began) / ASKED)


def _shared_leaves(asked: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return each known row's weight in the forest's answer for each row asked for."""
    weights = np.zeros((len(asked), len(known)))
    for tree in range(asked.shape[1]):
        same = asked[:, tree, None] == known[:, tree]
        weights += same / same.sum(axis=1, keepdims=True)
    return np.asarray(weights / asked.shape[1])


def _weighted(weights: np.ndarray, members: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return CRPS, PIT and median of weighted ensembles [3, n]."""
    order = np.argsort(members)
    members, weights = members[order], weights[:, order]
    below = np.cumsum(weights, axis=1)
    first = np.sum(weights * np.abs(members - z[:, None]), axis=1)
    # E|x - x'| / 2 = integral of F (1 - F).
    spread = np.sum(below[:, :-1] * (1 - below[:, :-1]) * np.diff(members), axis=1)
    pit = np.sum(weights * (members < z[:, None]), axis=1)
    return np.stack([first - spread, pit, members[np.argmax(below >= 0.5, axis=1)]])


def _climatology(z: np.ndarray) -> Predicted:
    all_of_them: Ensemble = climatology(z.astype(np.float64), len(z))
    return Predicted(all_of_them.crps(z), stats.rankdata(z) / len(z), all_of_them.median, 0.0)


def _crps(mixture: Mixture, z: np.ndarray) -> np.ndarray:
    return np.asarray(crps_mixture(mixture.weights, mixture.means, mixture.sigmas, z))


def _row(name: str, predicted: Predicted, z: np.ndarray) -> str:
    dz = points.residuals(predicted.median, z)
    draws = np.random.default_rng(0).integers(len(z), size=(BOOTSTRAP, len(z)))
    crps_error = np.std([predicted.crps[draw].mean() for draw in draws])
    nmad_error = np.std([points.nmad(dz[draw]) for draw in draws])
    inside = [np.mean(np.abs(predicted.pit - 0.5) < share / 2) for share in (0.68, 0.95)]
    cells = (
        name,
        f"{predicted.crps.mean():.4f} ± {crps_error:.4f}",
        f"{points.nmad(dz):.4f} ± {nmad_error:.4f}",
        f"{100 * points.outliers(dz, 0.15):.1f} %",
        f"{stats.kstest(predicted.pit, 'uniform').pvalue:.3f}",
        f"{100 * inside[0]:.1f} %",
        f"{100 * inside[1]:.1f} %",
        "" if np.isnan(predicted.work) else f"{predicted.work:.3g}",
        f"{predicted.seconds:.1f}",
    )
    return "| " + " | ".join(cells) + " |"
