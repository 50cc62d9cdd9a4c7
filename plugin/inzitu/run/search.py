"""The step search: several trainings on the same split, spread over the engine's workers; the best becomes the model.

A trial that is done leaves a file behind, so that a worker that takes over does not train it again. The trials are
compared by the CRPS of the validation rows, which is thereby a little better than that of new sources.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from inzitu.pipelines.parameters import SearchParameters, TrainParameters
from inzitu.run.networks import recipe_of
from inzitu.run.train import Lesson
from inzitu.run.trainings import side_by_side
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inzitu import manifest
    from inzitu.run.work import Work


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of a search; travels to the engine's workers."""

    chosen: tuple[Mapping[str, Any], ...]
    inputs: tuple[tuple[str, Path], ...]
    identities: tuple[tuple[str, str], ...]
    checkpoints: Path
    engine: manifest.Engine
    limits: manifest.Limits
    beside: int

    def folder(self, number: int) -> Path:
        """Return where a trial leaves what it makes, named by all that decides it: no attempt takes another's."""
        asked = json.dumps([self.chosen[number], sorted(self.identities)], sort_keys=True)
        return self.checkpoints / f"trial-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"

    def trial(self, number: int) -> dict[str, Any]:
        """Train one, unless it is done; return what was chosen, its validation CRPS and the seconds it took."""
        folder = self.folder(number)
        done = folder / "done.json"
        if done.exists():
            return {**json.loads(done.read_text()), "trial": number}
        folder.mkdir(exist_ok=True)
        began = perf_counter()
        parameters, inputs = TrainParameters.model_validate(self.chosen[number]), dict(self.inputs)
        lesson = Lesson.of(parameters, inputs)
        lesson.require_room(parameters, self.limits, inputs.get("network"), beside=self.beside)
        recipe = recipe_of(parameters, inputs.get("network"))
        trained = lesson.learned(recipe, self.engine, checkpoints=folder / "checkpoints")
        saved = lesson.save(trained, folder)
        found = {
            "trial": number,
            "images_trained": saved.account["images_trained"],
            "validation_crps": trained.validation_crps,
            "remarks": trained.remarks,
            "seconds": round(perf_counter() - began, 1),
        }
        half = folder / "done.tmp"
        half.write_text(json.dumps(found))
        half.rename(done)
        return found


def search(parameters: SearchParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Train every combination of the grid, and keep the best."""
    chosen = parameters.trials()
    trials = Trials(
        chosen=chosen,
        inputs=tuple(inputs.items()),
        identities=tuple(work.identities.items()),
        checkpoints=work.checkpoints,
        engine=work.manifest.engine,
        limits=work.manifest.limits,
        beside=side_by_side(parameters, work.manifest),
    )
    found: list[dict[str, Any]] = []
    for number, result in work.engine.map(trials.trial, range(len(chosen))):
        asked = {name: chosen[number][name] for name in parameters.axes()}
        found.append(result | {"parameters": asked})
        work.log(f"trial {number} ({_shown(asked)}): validation CRPS {result['validation_crps']:.4f}")
        for remark in result["remarks"]:
            work.log(f"trial {number}, {remark}")
        best = min(found, key=lambda trial: trial["validation_crps"])
        work.progress(len(found), len(chosen), crps=round(best["validation_crps"], 4))
    path = work.folder / "trials.json"
    path.write_text(json.dumps(sorted(found, key=lambda trial: trial["validation_crps"]), indent=1) + "\n")
    # Copied, not moved: an attempt that dies before its record is written leaves the winner to the next.
    winner = trials.folder(best["trial"])
    shutil.copy2(winner / "split.parquet", work.folder)
    shutil.copytree(winner / "model", work.folder / "model")
    made = {"split": work.folder / "split.parquet", "model": work.folder / "model", "trials": path}
    return Outcome(made=made, account={"images_trained": sum(trial["images_trained"] for trial in found)})


def _shown(asked: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in asked.items())
