"""What a job trains, or predicts with, and what that takes: known before the job runs.

See `inzitu.run.networks` for one network, `inzitu.run.estimate` for the rest of a job.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inzitu.pipelines.parameters import CutParameters, SearchParameters, TrainParameters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.learn.recipe import Recipe
    from inzitu.manifest import Manifest
    from inzitu.pipelines import Request
    from inzitu.run.networks import NetworkCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network.

    Attributes
    ----------
    parameters
        Of one member.
    flops
        One member's way forward for one image.
    memory
        Of a training step of all members, and of the trainings beside it [byte]; nothing where none is trained.
    members
        Networks in the ensemble.
    looks
        How often an image passes through a network when it is predicted: members times symmetries.
    """

    parameters: int
    flops: float
    memory: int
    members: int
    looks: int

    def json(self) -> dict[str, Any]:
        """Return it as the estimate holds it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Training:
    """One training: what is asked of it, the network that the job brings, and what the network takes."""

    asked: TrainParameters
    own: Path | None
    network: Network

    def images(self, rows: int) -> int:
        """Return how many images pass through the members for so many training rows, if nothing stops it early."""
        from inzitu.run.networks import recipe_of

        recipe = recipe_of(self.asked, self.own).settled(rows)
        return recipe.steps(rows) * recipe.batch_size * self.network.members


def trainings_of(
    request: Request, files: Mapping[str, Path], manifest: Manifest, known: Network | None = None
) -> dict[str, list[Training]]:
    """Return what each step of a job trains, or refuse it.

    Parameters
    ----------
    request, files, manifest
        What is asked, of whom.
    known
        The job's network, if it was looked at before; where it trains only that, it is not looked at again.

    Raises
    ------
    ParameterFault
        A network cannot be read or built, or cannot take such images.
    LimitFault
        It has more parameters, or takes more memory, than allowed.
    """
    cut = request.parameters.get("cut")
    own = files.get("network")
    found: dict[str, list[Training]] = {}
    steps = {step: asked for step, asked in request.parameters.items() if isinstance(asked, TrainParameters)}
    weights = {training.weight for asked in steps.values() for training in asked.trainings}
    looked_at = {weight: known for weight in weights if known is not None and len(weights) == 1}
    for step, asked in steps.items():
        if isinstance(cut, CutParameters):
            beside, networks = side_by_side(asked, manifest), dict(looked_at)
            found[step] = []
            for training in asked.trainings:
                if training.weight not in networks:
                    networks[training.weight] = _examined(training, own, cut, manifest, beside)
                found[step].append(Training(training, own, networks[training.weight]))
    return found


def network_of(
    request: Request, files: Mapping[str, Path], manifest: Manifest, trainings: Mapping[str, list[Training]]
) -> Network | None:
    """Return the network that a job predicts with, with the memory of the greediest training; None if it has none.

    Raises
    ------
    BundleError
        The model takes other images.
    """
    if every := [training.network for step in trainings.values() for training in step]:
        return replace(every[0], memory=max(network.memory for network in every))
    cut = request.parameters.get("cut")
    if "model" not in files or not isinstance(cut, CutParameters):
        return None
    # JAX takes seconds to load; a job without a network need not wait for it.
    from inzitu.learn.bundles import Bundle

    about = json.loads((files["model"] / "model.json").read_text(encoding="utf-8"))
    Bundle(about, {}, None).check(bands=manifest.archive.bands, scale=cut.scale, size=cut.size)
    if not isinstance(about["network"], str):  # one of the user's own
        return None
    named = TrainParameters.model_validate({"network": about["network"], "members": about["members"]})
    from inzitu.run.networks import recipe_of, traced

    # Nothing is trained, so no limit of trainings holds.
    recipe = recipe_of(named, None)
    return replace(_network(traced(recipe, (cut.size, cut.size, len(manifest.archive.bands))), recipe), memory=0)


def side_by_side(asked: TrainParameters, manifest: Manifest) -> int:
    """Return how many of a step's trainings share the memory of one machine."""
    if not isinstance(asked, SearchParameters) or manifest.engine.scheduler is not None:
        return 1
    return min(manifest.engine.workers, len(asked.trainings))


def _examined(asked: TrainParameters, own: Path | None, cut: CutParameters, manifest: Manifest, beside: int) -> Network:
    from inzitu.run.networks import examined, recipe_of

    bands = len(manifest.archive.bands)
    cost = examined(asked, bands=bands, size=cut.size, limits=manifest.limits, network=own, beside=beside)
    network = _network(cost, recipe_of(asked, own))
    return replace(network, memory=beside * network.memory)


def _network(cost: NetworkCost, recipe: Recipe) -> Network:
    from inzitu.learn.images import SYMMETRIES

    members = recipe.settled(recipe.batch_size).members or 1
    return Network(
        parameters=cost.parameters,
        flops=cost.flops,
        memory=cost.memory,
        members=members,
        looks=members * SYMMETRIES,
    )
