"""A pipeline as JSON: what a client that knows nothing of this package needs in order to ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inzitu.pipelines.catalogue import DOWNLOAD, pipelines

if TYPE_CHECKING:
    from inzitu.manifest import Manifest
    from inzitu.pipelines.declaration import Pipeline


def offered(manifest: Manifest) -> tuple[list[Pipeline], list[Pipeline]]:
    """Return the pipelines that a deployment can do, and those it lacks a source of lists for."""
    every = pipelines(manifest.pipelines).values()
    lacking = [pipeline for pipeline in every if DOWNLOAD in pipeline.steps and not manifest.sources]
    return [pipeline for pipeline in every if pipeline not in lacking], lacking


def offer(pipeline: Pipeline) -> dict[str, Any]:
    """Return a pipeline's name, the files that it takes, and its parameters with their JSON Schema."""
    return {
        "name": pipeline.name,
        "title": pipeline.title,
        "steps": [step.name for step in pipeline.steps],
        "uploads": [
            {"role": port.role, "kind": str(port.kind), "optional": port.optional}
            for port in pipeline.uploads
            if not port.recorded
        ],
        "ids": [port.role.upper() for port in pipeline.uploads if port.recorded and not port.optional],
        "parameters": [
            {
                "name": name.upper(),
                "step": step.name,
                "default": pipeline.defaults.get(name, step.parameters.model_fields[name].get_default()),
                "description": step.parameters.model_fields[name].description or "",
                "schema": step.parameters.model_json_schema()["properties"][name],
            }
            for name, step in pipeline.fields()
        ],
    }
