"""Whether a shipped network may queue: asked of a process of its own, within a time and a memory.

Covers the border: reading the shipment's JSON, the limits, the answer. What the child looks at is in
`inzitu.learn.inspection`; it is a process because reading a stranger's program is native code, which a broken one may
hang or crash. Nothing here loads JAX.
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = "inzitu-network-1"
PROGRAMS = ("forward", "initial")
MOST_BYTES = 64 << 20


class ShipmentError(ValueError):
    """A shipped network that cannot be taken; the message says which rule it breaks and what to do."""


@dataclass(frozen=True, slots=True)
class ShipmentLimits:
    """What a shipped network may take.

    Attributes
    ----------
    size
        The shipment itself [byte].
    parameters
        Trained numbers.
    flops
        Floating-point operations of one training step, for each image.
    memory
        One training step of `batch` images [byte].
    operations
        Operations of a program, those of loops and calls counted as often as they run.
    constant
        The constants of a program [byte].
    batch
        Images in the step that is measured.
    seconds
        Time to look at it all [s].
    """

    size: int = MOST_BYTES
    parameters: int = 60_000_000
    flops: int = 60_000_000_000
    memory: int = 8 << 30
    operations: int = 2_000_000
    constant: int = 16 << 20
    batch: int = 64
    seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Findings:
    """What a network takes.

    Attributes
    ----------
    parameters
        Trained numbers.
    flops
        Floating-point operations of one training step, for each image.
    memory
        One training step of the limits' `batch` images, as compiled [byte].
    operations
        Operations of the training step.
    """

    parameters: int
    flops: int
    memory: int
    operations: int


def read(content: bytes | str, *, size: int = MOST_BYTES) -> dict[str, Any]:
    """Read a shipment's JSON.

    Raises
    ------
    ShipmentError
        Too large, truncated, or no shipment.
    """
    if len(content) > size:
        raise ShipmentError(
            f"The network has {len(content)} bytes; {size} are allowed. Constants belong in parameters."
        )
    try:
        spec = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ShipmentError(f"The network is no whole JSON file, as inzitu.learn.ship writes it: {error}") from error
    check_form(spec)
    return dict(spec)


def check_form(spec: Any) -> None:
    """Refuse what lacks a shipment's parts.

    Raises
    ------
    ShipmentError
        A part is missing or of the wrong kind.
    """
    if not isinstance(spec, Mapping) or spec.get("format") != FORMAT:
        found = spec.get("format") if isinstance(spec, Mapping) else type(spec).__name__
        raise ShipmentError(f"The network's format is {str(found)[:40]!r}; inzitu.learn.ship writes {FORMAT!r}.")
    shape = spec.get("input_shape")
    whole = isinstance(shape, list | tuple) and len(shape) == 3 and all(type(n) is int and n > 0 for n in shape)
    if not whole or not all(type(spec.get(name)) is int for name in ("scalars", "outputs")):
        raise ShipmentError(
            "The network needs input_shape (rows, columns, bands), scalars and outputs as whole numbers."
        )
    for name in PROGRAMS:
        program(spec, name)


def check_job(spec: Mapping[str, Any], *, input_shape: tuple[int, ...], outputs: int, scalars: int = 0) -> None:
    """Refuse a network that was shipped for other images or another head.

    Raises
    ------
    ShipmentError
        Says what it was shipped for and what the job needs.
    """
    wanted = {"input_shape": list(input_shape), "scalars": scalars, "outputs": outputs}
    for name, needed in wanted.items():
        own = list(spec[name]) if name == "input_shape" else spec[name]
        if own != needed:
            raise ShipmentError(f"The network was shipped for {name} = {own}, the job needs {needed}: ship it anew.")


def program(spec: Mapping[str, Any], name: str) -> bytes:
    """Give one program's bytes.

    Raises
    ------
    ShipmentError
        It is not there or not base64.
    """
    try:
        return base64.b64decode(spec[name], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise ShipmentError(f"The network's {name} program is missing or truncated: {error}.") from error


def admit(
    spec: Mapping[str, Any],
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    scalars: int = 0,
    limits: ShipmentLimits | None = None,
) -> Findings:
    """Check a shipped network for a job's images and head before the job queues.

    Parameters
    ----------
    spec
        The shipment, as `read` gives it.
    input_shape
        Rows, columns and bands of the job's images.
    outputs
        Width of the job's head.
    scalars
        How many numbers come with each image.
    limits
        What it may take.

    Raises
    ------
    ShipmentError
        It breaks a rule, or could not be looked at within the limits.
    """
    limits = limits or ShipmentLimits()
    check_form(spec)
    check_job(spec, input_shape=input_shape, outputs=outputs, scalars=scalars)
    request = json.dumps({"spec": dict(spec), "limits": asdict(limits)})
    command = [sys.executable, "-m", "inzitu.learn.inspection"]
    try:
        child = subprocess.run(
            command, input=request.encode(), capture_output=True, timeout=limits.seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ShipmentError(
            f"The network could not be checked and compiled within {limits.seconds:g} s: make it smaller."
        ) from error
    return _answer(child)


def _answer(child: subprocess.CompletedProcess[bytes]) -> Findings:
    """Read what the child found out; a child that died found out something too."""
    try:
        answer = json.loads(child.stdout)
    except ValueError as error:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise ShipmentError(
            f"The network's program cannot be read, or not in the memory (exit {child.returncode}: {last[0][:200]})."
        ) from error
    if refused := answer.get("refused"):
        raise ShipmentError(refused)
    return Findings(**answer["found"])
