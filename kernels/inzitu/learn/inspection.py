"""Whether a shipped network may queue, found out without running it.

Looks at its programs' signatures, at what they would do (`inzitu.learn.operations`), and at one training step as
compiled. Runs as a process of its own, started by `inzitu.learn.admission`; the memory that it may take bounds what a
program can make it do.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

# Not public: the step by which JAX puts numbers for symbolic sizes before it compiles.
from jax._src.interpreters.mlir import refine_polymorphic_shapes
from jax.interpreters import mlir
from jaxlib.mlir import ir

from inzitu.learn import admission
from inzitu.learn.admission import Findings, ShipmentError, ShipmentLimits
from inzitu.learn.operations import CUSTOM_CALLS, CUSTOM_CALLS_INITIAL, Program, Work

# Beside what a step may take: JAX itself, the compiler and its threads' stacks.
OWN_MEMORY = 6 << 30

# JAX leaves it without types.
ABSTRACT: Any = jax.ShapeDtypeStruct


def inspect(spec: Mapping[str, Any], limits: ShipmentLimits) -> Findings:
    """Look at a shipment.

    Raises
    ------
    ShipmentError
        It breaks a rule.
    """
    forward = read_program(spec, "forward")
    initial = read_program(spec, "initial")
    parameters = check_signatures(spec, forward, initial)
    count = sum(math.prod(aval.shape) for aval in parameters.values())
    if count > limits.parameters:
        raise ShipmentError(f"The network has {count} parameters; {limits.parameters} are allowed.")
    for name, program in {"forward": forward, "gradient": forward.vjp(), "initial": initial}.items():
        calls = CUSTOM_CALLS_INITIAL if name == "initial" else CUSTOM_CALLS
        with mlir.make_ir_context():
            Program(name, ir.Module.parse(program.mlir_module()), calls=calls, limits=limits).work()
    work, memory = _training_step(spec, forward, parameters, limits)
    flops = work.flops // limits.batch
    if flops > limits.flops:
        raise ShipmentError(f"One training step takes {flops:.4g} FLOP an image; {limits.flops:.4g} are allowed.")
    if memory > limits.memory:
        raise ShipmentError(
            f"One training step of {limits.batch} images takes {memory:.4g} bytes; {limits.memory:.4g} are allowed."
        )
    _check_initial(initial)
    return Findings(parameters=count, flops=flops, memory=memory, operations=work.operations)


def read_program(spec: Mapping[str, Any], name: str) -> export.Exported:
    """Read one of a shipment's programs.

    Raises
    ------
    ShipmentError
        It is no program that this version of JAX can read.
    """
    content = admission.program(spec, name)
    try:
        return export.deserialize(bytearray(content))
    # flatbuffers and the reader of MLIR raise whatever they run into.
    except Exception as error:
        raise ShipmentError(
            f"The network's {name} program is truncated or was not written by jax.export ({type(error).__name__}: "
            f"{str(error)[:200]}); this server runs JAX {jax.__version__}."
        ) from error


def check_signatures(spec: Mapping[str, Any], forward: export.Exported, initial: export.Exported) -> dict[str, Any]:
    """Check what the programs take and give; return the parameters by name.

    Raises
    ------
    ShipmentError
        The signature is another one, or the gradient is missing.
    """
    for name, program in (("forward", forward), ("initial", initial)):
        if program.ordered_effects or program.unordered_effects or program.disabled_safety_checks:
            raise ShipmentError(
                f"The network's {name} program has effects or disabled checks; it must be a pure function."
            )
        if missing := {"cpu", "cuda"} - set(program.platforms):
            raise ShipmentError(f"The network's {name} program was not exported for {', '.join(sorted(missing))}.")
    parameters, images, scalars = _arguments(forward)
    rows, columns, bands = spec["input_shape"]
    wanted = {"images": (images, (rows, columns, bands)), "scalars": (scalars, (spec["scalars"],))}
    for name, (aval, shape) in wanted.items():
        if aval.dtype != jnp.float32 or tuple(aval.shape[1:]) != shape or isinstance(aval.shape[0], int):
            raise ShipmentError(
                f"The network takes {name} {aval.str_short()}; it must take float32[n, {_listed(shape)}]."
            )
    for name, aval in parameters.items():
        if aval.dtype != jnp.float32 or not all(isinstance(size, int) for size in aval.shape):
            raise ShipmentError(f"The parameter {name} is {aval.str_short()}; it must be float32 of a fixed shape.")
    _check_results(spec, forward, initial, parameters, images)
    return parameters


def _check_results(
    spec: Mapping[str, Any],
    forward: export.Exported,
    initial: export.Exported,
    parameters: Mapping[str, Any],
    images: Any,
) -> None:
    results: list[Any] = list(forward.out_avals)
    outs = _shown(results)
    out, *others = results
    if others or out.dtype != jnp.float32 or tuple(out.shape) != (images.shape[0], spec["outputs"]):
        raise ShipmentError(f"The network gives {', '.join(outs)}; it must give float32[n, {spec['outputs']}].")
    if not forward.has_vjp():
        raise ShipmentError("The network came without its gradient: serialize(vjp_order=1), as inzitu.learn.ship does.")
    gradient = forward.vjp()
    if _shown(gradient.out_avals) != _shown(forward.in_avals):
        raise ShipmentError("The network's gradient is that of another function.")
    seed: Any = initial.in_avals[0]
    if len(initial.in_avals) != 1 or seed.str_short() != "uint32[2]":
        raise ShipmentError(f"The initial program takes {seed.str_short()}; it must take a seed, uint32[2].")
    drawn = jax.tree.unflatten(initial.out_tree, initial.out_avals)
    if not isinstance(drawn, dict) or {n: a.str_short() for n, a in drawn.items()} != {
        n: a.str_short() for n, a in parameters.items()
    }:
        raise ShipmentError("The initial program draws other parameters than the network takes.")


def _arguments(forward: export.Exported) -> tuple[dict[str, Any], Any, Any]:
    match jax.tree.unflatten(forward.in_tree, forward.in_avals):
        case ((dict() as parameters, images, scalars), {}) if hasattr(images, "shape") and hasattr(scalars, "shape"):
            if parameters and images.ndim == 4 and scalars.ndim == 2:
                return parameters, images, scalars
    found = ", ".join(_shown(forward.in_avals[-3:]))
    raise ShipmentError(f"The network takes (... {found}); it must take parameters by name, images and scalars.")


def _training_step(
    spec: Mapping[str, Any], forward: export.Exported, parameters: Mapping[str, Any], limits: ShipmentLimits
) -> tuple[Work, int]:
    """Lower and compile a step at a fixed number of images; give its work and its memory."""
    call: Any = forward.call

    def loss(parameters: Any, images: Any, scalars: Any) -> Any:
        return jnp.sum(jnp.square(call(parameters, images, scalars)))

    shapes = {name: ABSTRACT(aval.shape, aval.dtype) for name, aval in parameters.items()}
    images = ABSTRACT((limits.batch, *spec["input_shape"]), jnp.float32)
    scalars = ABSTRACT((limits.batch, spec["scalars"]), jnp.float32)
    lowered = jax.jit(jax.value_and_grad(loss)).lower(shapes, images, scalars)
    symbolic: Any = lowered.compiler_ir("stablehlo")
    with symbolic.context:
        module = refine_polymorphic_shapes(symbolic)
        work = Program("training", module, calls=CUSTOM_CALLS, limits=limits).work()
    if work.flops > limits.flops * limits.batch:
        return work, 0
    memory: Any = lowered.compile().memory_analysis()
    return work, memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes


def _check_initial(initial: export.Exported) -> None:
    call: Any = initial.call
    drawn = jax.jit(call)(np.array([0, 1], np.uint32))
    for name, array in drawn.items():
        if not np.isfinite(array).all():
            raise ShipmentError(f"The initial program draws values of {name} that are not finite.")


def _shown(avals: Any) -> list[str]:
    return [aval.str_short() for aval in avals]


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def main() -> None:
    """Answer one request from standard input on standard output."""
    request = json.load(sys.stdin)
    limits = ShipmentLimits(**request["limits"])
    allowed = limits.memory + OWN_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    try:
        answer: dict[str, Any] = {"found": asdict(inspect(request["spec"], limits))}
    except ShipmentError as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
