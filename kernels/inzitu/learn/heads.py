"""Heads: what the last dense layer's numbers mean, and the loss that trains them.

A head is named as users write it, ``mixture(5)``, ``mixture(5, truncated)`` or ``bins(180, 0.4)``. Head, loss and
scores are computed in float32 whatever the network's precision: bfloat16 here costs 0.4 % of the CRPS.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from inzitu.learn import scores
from inzitu.learn.bins import Histogram
from inzitu.learn.mixture import Mixture, log_pdf
from inzitu.learn.truncation import crps_truncated

# The likelihood of a mixture is unbounded: a component may shrink onto one label. No photometric redshift is this good.
NARROWEST_SIGMA = 1e-3
LOG_SIGMA = (-12.0, 4.0)
# A histogram of few labels has empty bins; a start at probability zero could never leave it.
_EMPTY_BIN = 1e-3
MOST_OUTPUTS = 100_000


class HeadError(ValueError):
    """A head that does not exist, or labels that it cannot express."""


class Head(Protocol):
    """What every head can do."""

    @property
    def outputs(self) -> int:
        """Width of the network's last layer."""

    def distribution(self, raw: Float[Array, "*n out"]) -> Mixture | Histogram:
        """Turn the network's outputs into PDFs."""

    def loss(
        self,
        raw: Float[Array, "n out"],
        z: Float[Array, " n"],
        *,
        nll_weight: float,
        mask: Bool[Array, " n"] | None = None,
    ) -> Float[Array, " n"]:
        """Give CRPS + `nll_weight` NLL for each example; zero, with zero gradient, where `mask` is false."""

    def crps(self, raw: Float[Array, "n out"], z: Float[Array, " n"]) -> Float[Array, " n"]:
        """Give the CRPS of each example."""

    def initial_bias(self, labels: Float[np.ndarray, " n"]) -> Float[np.ndarray, " out"]:
        """Give the bias of the last layer that predicts the distribution of the training labels."""

    def check_labels(self, labels: Float[np.ndarray, " n"]) -> None:
        """Refuse labels that this head cannot express."""

    def json(self) -> dict[str, Any]:
        """Describe the head for a model bundle."""


@dataclass(frozen=True, slots=True)
class MixtureHead:
    """A mixture of k normal distributions: k logits, k means, k logarithms of widths.

    Under truncation the means are kept above zero by a softplus: a component wholly below the cut would be all tail.

    Attributes
    ----------
    k
        Number of components.
    truncated
        Whether the PDF is cut at z >= 0 and renormalised.
    """

    k: int
    truncated: bool = False

    def __post_init__(self) -> None:
        if not 0 < 3 * self.k <= MOST_OUTPUTS:
            raise HeadError(f"mixture({self.k}): the number of components must be from 1 to {MOST_OUTPUTS // 3}.")

    def __str__(self) -> str:
        return f"mixture({self.k}, truncated)" if self.truncated else f"mixture({self.k})"

    @property
    def outputs(self) -> int:
        """Width of the network's last layer."""
        return 3 * self.k

    @property
    def lower(self) -> float:
        """Where the PDF begins."""
        return 0.0 if self.truncated else -math.inf

    def distribution(self, raw: Float[Array, "*n out"]) -> Mixture:
        """Turn the network's outputs into mixtures."""
        logits, means, sigmas = self._split(raw)
        return Mixture(jax.nn.softmax(logits, axis=-1), means, sigmas, self.lower)

    def loss(
        self,
        raw: Float[Array, "n out"],
        z: Float[Array, " n"],
        *,
        nll_weight: float,
        mask: Bool[Array, " n"] | None = None,
    ) -> Float[Array, " n"]:
        """Give CRPS + `nll_weight` NLL for each example."""
        raw, z = _without_padding(raw, z, mask)
        logits, means, sigmas = self._split(raw)
        nll = -log_pdf(jax.nn.log_softmax(logits, axis=-1), means, sigmas, z, lower=self.lower)
        return _masked(self.crps(raw, z) + nll_weight * nll, mask)

    def crps(self, raw: Float[Array, "n out"], z: Float[Array, " n"]) -> Float[Array, " n"]:
        """Give the CRPS of each example."""
        logits, means, sigmas = self._split(raw)
        weights = jax.nn.softmax(logits, axis=-1)
        crps: Array = (
            crps_truncated(weights, means, sigmas, z, self.lower)
            if self.truncated
            else scores.crps_mixture(weights, means, sigmas, z)
        )
        return crps

    def initial_bias(self, labels: Float[np.ndarray, " n"]) -> Float[np.ndarray, " out"]:
        """Put the means at quantiles of the labels, as wide as their neighbours are apart."""
        means = np.quantile(labels, (np.arange(self.k) + 0.5) / self.k)
        spread = max(float(np.std(labels)), 10.0 * NARROWEST_SIGMA)
        gaps = np.gradient(means) if self.k > 1 else np.array([spread])
        sigmas = np.clip(gaps, spread / (2.0 * self.k), spread)
        if self.truncated:
            means = np.log(np.expm1(np.maximum(means, NARROWEST_SIGMA)))
        return np.concatenate([np.zeros(self.k), means, np.log(sigmas)]).astype(np.float32)

    def check_labels(self, labels: Float[np.ndarray, " n"]) -> None:
        """Refuse labels that are not finite, or below zero under a truncated PDF."""
        _refuse(labels, ~np.isfinite(labels), f"{self} needs finite redshifts")
        if self.truncated:
            _refuse(labels, labels < 0.0, f"{self} has no probability below zero")

    def json(self) -> dict[str, Any]:
        """Describe the head for a model bundle."""
        return {"head": "mixture", "k": self.k, "truncated": self.truncated}

    def _split(self, raw: Float[Array, "*n out"]) -> tuple[Array, Array, Array]:
        """Give logits, means and widths."""
        logits, means, log_sigmas = jnp.split(_wide(raw), 3, axis=-1)
        means = jax.nn.softplus(means) if self.truncated else means
        return logits, means, NARROWEST_SIGMA + jnp.exp(jnp.clip(log_sigmas, *LOG_SIGMA))


@dataclass(frozen=True, slots=True)
class BinsHead:
    """A histogram of equal bins on 0 <= z <= max_val: one logit a bin.

    Attributes
    ----------
    num_bins
        Number of bins.
    max_val
        Upper edge of the last bin, itself inside.
    """

    num_bins: int
    max_val: float

    def __post_init__(self) -> None:
        if not 1 < self.num_bins <= MOST_OUTPUTS:
            raise HeadError(f"{self}: the number of bins must be from 2 to {MOST_OUTPUTS}.")
        if not 0.0 < self.max_val < math.inf:
            raise HeadError(f"{self}: the upper edge of the last bin must be above zero.")

    def __str__(self) -> str:
        return f"bins({self.num_bins}, {self.max_val:g})"

    @property
    def outputs(self) -> int:
        """Width of the network's last layer."""
        return self.num_bins

    def distribution(self, raw: Float[Array, "*n out"]) -> Histogram:
        """Turn the network's outputs into histograms."""
        return Histogram(jax.nn.softmax(_wide(raw), axis=-1), self.max_val)

    def loss(
        self,
        raw: Float[Array, "n out"],
        z: Float[Array, " n"],
        *,
        nll_weight: float,
        mask: Bool[Array, " n"] | None = None,
    ) -> Float[Array, " n"]:
        """Give CRPS + `nll_weight` NLL for each example."""
        raw, z = _without_padding(raw, z, mask)
        nll = -scores.log_pdf_bins(jax.nn.log_softmax(_wide(raw), axis=-1), z, self.max_val)
        return _masked(self.crps(raw, z) + nll_weight * nll, mask)

    def crps(self, raw: Float[Array, "n out"], z: Float[Array, " n"]) -> Float[Array, " n"]:
        """Give the CRPS of each example."""
        crps: Array = scores.crps_bins(jax.nn.softmax(_wide(raw), axis=-1), z, self.max_val)
        return crps

    def initial_bias(self, labels: Float[np.ndarray, " n"]) -> Float[np.ndarray, " out"]:
        """Start from the histogram of the labels."""
        counts, _ = np.histogram(labels, bins=self.num_bins, range=(0.0, self.max_val))
        shares = counts / max(int(counts.sum()), 1)
        return np.asarray(np.log(shares + _EMPTY_BIN / self.num_bins), np.float32)

    def check_labels(self, labels: Float[np.ndarray, " n"]) -> None:
        """Refuse labels outside the histogram."""
        outside = ~((labels >= 0.0) & (labels <= self.max_val))
        _refuse(labels, outside, f"{self} covers 0 <= z <= {self.max_val:g}; take a larger max_val")

    def json(self) -> dict[str, Any]:
        """Describe the head for a model bundle."""
        return {"head": "bins", "num_bins": self.num_bins, "max_val": self.max_val}


_FORMS = {
    "mixture": re.compile(r"mixture\(\s*(?P<k>\d{1,9})\s*(?P<truncated>,\s*truncated\s*)?\)"),
    "bins": re.compile(r"bins\(\s*(?P<num_bins>\d{1,9})\s*,\s*(?P<max_val>[0-9.]+(?:e[+-]?\d{1,3})?)\s*\)"),
}


def parse_head(text: str) -> MixtureHead | BinsHead:
    """Read a head as users write it.

    Raises
    ------
    HeadError
        The text names no head, or one with illegal numbers.
    """
    if found := _FORMS["mixture"].fullmatch(text.strip()):
        return MixtureHead(int(found["k"]), truncated=found["truncated"] is not None)
    if found := _FORMS["bins"].fullmatch(text.strip()):
        try:
            return BinsHead(int(found["num_bins"]), float(found["max_val"]))
        except ValueError as error:
            raise HeadError(f"{text!r}: {error}") from error
    raise HeadError(
        f"{text[:80]!r} is no head; write mixture(k), mixture(k, truncated) or bins(num_bins, max_val), "
        "for example mixture(5) or bins(180, 0.4)."
    )


def from_json(description: Mapping[str, Any]) -> MixtureHead | BinsHead:
    """Rebuild a head from a model bundle's description.

    Raises
    ------
    HeadError
        The description is not one that `json` gives.
    """
    kind: Literal["mixture", "bins"] | Any = description.get("head")
    try:
        match kind:
            case "mixture":
                return MixtureHead(int(description["k"]), truncated=bool(description.get("truncated", False)))
            case "bins":
                return BinsHead(int(description["num_bins"]), float(description["max_val"]))
            case _:
                raise HeadError(f"The bundle's head is {kind!r}; this version knows mixture and bins.")
    except (KeyError, TypeError) as error:
        raise HeadError(f"The description of the {kind} head is incomplete: {error}.") from error


def _wide(raw: Float[Array, "*n out"]) -> Float[Array, "*n out"]:
    """Give the outputs in float32 or better."""
    return raw.astype(jnp.promote_types(raw.dtype, jnp.float32))


def _without_padding(
    raw: Float[Array, "n out"], z: Float[Array, " n"], mask: Bool[Array, " n"] | None
) -> tuple[Float[Array, "n out"], Float[Array, " n"]]:
    """Give harmless inputs to the rows of padding: a mask on the loss alone lets NaN gradients through."""
    if mask is None:
        return raw, z
    return jnp.where(mask[:, None], raw, 0.0), jnp.where(mask, z, 0.0)


def _masked(losses: Float[Array, " n"], mask: Bool[Array, " n"] | None) -> Float[Array, " n"]:
    return losses if mask is None else jnp.where(mask, losses, 0.0)


def _refuse(labels: Float[np.ndarray, " n"], bad: Bool[np.ndarray, " n"], reason: str) -> None:
    """Raise an error that names the first labels at fault."""
    if bad.any():
        rows = np.flatnonzero(bad)
        shown = ", ".join(f"{labels[row]:g} in row {row}" for row in rows[:3])
        raise HeadError(f"{rows.size} of {labels.size} labels cannot be learned ({shown}): {reason}.")
