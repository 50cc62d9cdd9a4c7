"""What can be asked for: steps, declared once, and the pipelines that chain them.

From a step's declaration come the UWS parameters, the JSON Schema, the web form, the command line's options, the check
before a job queues and the description of its PROV activity. What a step does is in `inzitu.run`.
"""

from inzitu.pipelines.catalogue import pipelines, steps
from inzitu.pipelines.declaration import Kind, Parameters, Pipeline, Port, Step
from inzitu.pipelines.offer import offer, offered
from inzitu.pipelines.request import Request, check

__all__ = [
    "Kind",
    "Parameters",
    "Pipeline",
    "Port",
    "Request",
    "Step",
    "check",
    "offer",
    "offered",
    "pipelines",
    "steps",
]
