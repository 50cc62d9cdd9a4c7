"""What to train and how: the numbers of a training, checked, and the network's own where none are given."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import optax  # type: ignore[import-untyped]  # it ships no types

from inzitu.learn.heads import BinsHead, MixtureHead, parse_head
from inzitu.learn.images import Augmentation


class RecipeError(ValueError):
    """A number of the recipe that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to train and how.

    Attributes
    ----------
    network
        Name of a design, or a declaration.
    head
        What the network predicts, ``"mixture(k)"`` or ``"bins(num_bins, max_val)"``.
    scalars
        Names of the numbers that come with each image, in order.
    masked
        Tell the network which bands of an image hold no pixel; for surveys where some bands are missing.
    epochs
        Passes over the training rows; by default so many that about `OWN_IMAGES` images are seen.
    batch_size
        Images in a step; no more than there are training rows.
    learning_rate
        Highest learning rate; by default the network's own.
    warm_up
        Share of the steps in which it rises, before it falls along a cosine.
    weight_decay
        Decoupled decay of the kernels, not of biases (Loshchilov & Hutter 2019, arXiv:1711.05101); by default, as the
        next three, the network's own.
    clip
        Largest norm of a gradient.
    ema
        Memory of the running mean of the parameters, which is what is validated and kept.
    nll_weight
        Share of the negative log-likelihood beside the CRPS in the loss.
    softening
        Where the normalisation turns from linear to logarithmic [sigma]; by default the network's own.
    augmentation
        How images are varied; by default the network's own.
    evaluations
        How often the validation rows are scored in the whole training.
    patience
        Stop after so many evaluations without a better one.
    members
        Networks in the ensemble; by default the network's own.
    seed
        Seed of the first parameters, the batches and the augmentation.
    compute
        Type of the convolutions and of what they give; ``"auto"`` is bfloat16 on an accelerator and float32 elsewhere.
    """

    network: str | Mapping[str, Any] = "dcmdn-a"
    head: str = "mixture(5)"
    scalars: tuple[str, ...] = ()
    masked: bool = False
    epochs: int | None = None
    batch_size: int = 64
    learning_rate: float | None = None
    warm_up: float = 0.1
    weight_decay: float | None = None
    clip: float | None = None
    ema: float | None = None
    nll_weight: float | None = None
    softening: float | None = None
    augmentation: Augmentation | None = None
    evaluations: int = 40
    patience: int = 15
    members: int | None = None
    seed: int = 0
    compute: str = "auto"

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_size", "learning_rate", "clip", "softening", "evaluations", "patience", "members")
        for name in positive:
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise RecipeError(f"{name} is {value}; it must be above 0")
        for name, below in (("warm_up", 1), ("ema", 1), ("weight_decay", math.inf), ("nll_weight", math.inf)):
            value = getattr(self, name)
            if value is not None and not 0 <= value < below:
                raise RecipeError(f"{name} is {value}; it must be at least 0 and below {below}")
        if self.compute not in ("auto", "float32", "bfloat16"):
            raise RecipeError(f"compute is {self.compute!r}; it must be auto, float32 or bfloat16")
        parse_head(self.head)

    def settled(self, rows: int) -> Recipe:
        """Fill in what was left to the network, for so many training rows."""
        own = OWN.get(self.network, OWN["dcmdn-a"]) if isinstance(self.network, str) else OWN["dcmdn-a"]
        return dataclasses.replace(
            self,
            epochs=self.epochs or max(1, round(own.images / rows)),
            batch_size=min(self.batch_size, rows),
            learning_rate=self.learning_rate or own.learning_rate,
            members=self.members or own.members,
            weight_decay=own.weight_decay if self.weight_decay is None else self.weight_decay,
            clip=self.clip or own.clip,
            ema=own.ema if self.ema is None else self.ema,
            nll_weight=own.nll_weight if self.nll_weight is None else self.nll_weight,
            softening=self.softening or own.softening,
            augmentation=self.augmentation or own.augmentation,
        )

    def steps(self, rows: int) -> int:
        """Give the number of steps for so many training rows."""
        return max(1, math.ceil((self.epochs or 1) * rows / self.batch_size))

    def optimiser(self, steps: int) -> optax.GradientTransformation:
        """Give AdamW with its schedule; the step clips."""
        assert self.learning_rate is not None, "settle the recipe first"
        rising = min(round(self.warm_up * steps), steps - 1)
        rate = optax.warmup_cosine_decay_schedule(
            0.1 * self.learning_rate, self.learning_rate, rising, steps, 0.01 * self.learning_rate
        )
        return optax.adamw(rate, weight_decay=self.weight_decay, mask=_kernels)

    def parsed_head(self) -> MixtureHead | BinsHead:
        """Give the head."""
        return parse_head(self.head)

    def json(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """Give a digest of all that decides what comes out."""
        return hashlib.sha256(json.dumps(self.json(), sort_keys=True, default=_shown).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Own:
    """What a network is trained with unless a recipe says otherwise (how it was found: docs/benchmarks/quasars.md)."""

    images: int
    learning_rate: float
    members: int = 1
    weight_decay: float = 1e-2
    clip: float = 1.0
    ema: float = 0.98
    nll_weight: float = 0.2
    softening: float = 5.0
    augmentation: Augmentation = field(default_factory=Augmentation)


OWN: Mapping[str, Own] = {
    "dcmdn-a": Own(images=24_000, learning_rate=5e-4),
    "dcmdn-b": Own(images=20_000, learning_rate=3e-4),
    "inzitu": Own(
        images=120_000,
        learning_rate=3e-3,
        members=5,
        weight_decay=1e-3,
        clip=100.0,
        ema=0.995,
        nll_weight=1.0,
        softening=2.5,
        augmentation=Augmentation(noise=1.0, brightness=0.0, blend=0.5),
    ),
    "pasquet": Own(images=20_000, learning_rate=5e-4),
}


def _shown(value: object) -> str:
    """Stand for what JSON cannot hold: the program of a shipped network."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)


def _kernels(parameters: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)
