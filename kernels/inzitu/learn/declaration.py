"""A network declared in YAML: read, and checked for shapes, parameters and cost before anything is built.

Covers the declaration as a description; `inzitu.learn.declared` builds the network. Nothing here loads JAX, so that a
declaration can be refused by who answers a request. Docs: docs/use/own-network.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, get_args

import yaml

from inzitu.learn import anatomy
from inzitu.learn.anatomy import (
    KINDS,
    Cost,
    DeclarationError,
    DenseLayer,
    Layer,
    Limits,
    Parallel,
    Residual,
    Shape,
    Step,
    chain,
    shown,
    total,
)

__all__ = ["Cost", "DeclarationError", "Limits", "Step", "check", "parse", "read", "total"]

MOST_BYTES = 64 << 10
MOST_LAYERS = 300
MOST_DEPTH = 4
MOST = 1_000_000


def read(text: str) -> dict[str, Any]:
    """Read a declaration's YAML.

    Raises
    ------
    DeclarationError
        No YAML, too long, or with anchors and aliases, by which a few lines could repeat without end.
    """
    if len(text) > MOST_BYTES:
        raise DeclarationError(f"The declaration has {len(text)} characters; {MOST_BYTES} are allowed.")
    try:
        spec = yaml.load(text, _Plain)  # a SafeLoader
    except yaml.YAMLError as error:
        raise DeclarationError(f"The declaration is no valid YAML: {error}") from error
    except (RecursionError, ValueError) as error:
        raise DeclarationError("The declaration nests too deeply or holds a number or date that is none.") from error
    if not isinstance(spec, dict):
        raise DeclarationError("A declaration is a mapping with the key 'layers'.")
    return spec


def parse(spec: Mapping[str, Any]) -> tuple[Layer, ...]:
    """Turn a declaration into layers, each with legal numbers.

    Raises
    ------
    DeclarationError
        A layer is unknown, lacks a number or has an illegal one.
    """
    if unknown := set(spec) - {"layers", "name"}:
        raise DeclarationError(
            f"Unknown key {min(map(str, unknown))!r}; a declaration has 'layers' and may have 'name'."
        )
    return _Reader().layers(spec.get("layers"), where="", depth=0)


def check(
    spec: Mapping[str, Any], input_shape: Shape, *, outputs: int, scalars: int = 0, limits: Limits | None = None
) -> list[Step]:
    """Check a declaration for images of a shape; give its layers in their places, the last dense layer included.

    Parameters
    ----------
    spec
        The declaration, as `read` gives it.
    input_shape
        Rows, columns and bands of an image.
    outputs
        Width of the head: the last dense layer, which is not declared.
    scalars
        How many numbers come with each image.
    limits
        What the network may take; whatever it likes by default.

    Raises
    ------
    DeclarationError
        Shapes do not fit, or the network takes more than allowed.
    """
    layers = parse(spec)
    steps = chain(layers, input_shape, scalars=scalars)
    if len(steps[-1].out) != 1:
        raise DeclarationError(
            f"{steps[-1].name} gives an image of {shown(steps[-1].out)}; end with flatten, global_pool or dense."
        )
    last = DenseLayer(outputs)
    steps.append(Step("head (dense)", last, steps[-1].out, (outputs,), last.cost(steps[-1].out)))
    if limits is not None:
        _within(steps, limits)
    return steps


def _within(steps: Sequence[Step], limits: Limits) -> None:
    """Refuse a network that takes more than allowed, naming the layer at which it does."""
    spent = Cost()
    for step in steps:
        spent += step.cost
        for name in ("parameters", "flops", "activations"):
            if getattr(spent, name) > getattr(limits, name):
                raise DeclarationError(
                    f"{step.name}: with it the network has {getattr(spent, name):.4g} {name} "
                    f"({getattr(step.cost, name):.4g} of them here); {getattr(limits, name):.4g} are allowed."
                )


class _Plain(yaml.SafeLoader):
    """YAML without anchors and aliases, each key given once."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's stubs
            raise yaml.YAMLError(f"line {mark.line + 1}: aliases are not allowed; write the layers out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.YAMLError(f"line {node.value[number][0].start_mark.line + 1}: {key!r} is given twice")
        return super().construct_mapping(node, deep)


class _Reader:
    """Counts the layers that it reads, so that no declaration is endless."""

    def __init__(self) -> None:
        self.count = 0

    def layers(self, entries: Any, *, where: str, depth: int) -> tuple[Layer, ...]:
        place = where.rstrip(", ") or "The declaration"
        if not isinstance(entries, list | tuple) or not entries:
            raise DeclarationError(f"{place}: 'layers' must be a list of at least one layer.")
        if depth > MOST_DEPTH:
            raise DeclarationError(f"{place}: branches are nested more than {MOST_DEPTH} deep.")
        return tuple(self._layer(entry, f"{where}layer {n}", depth) for n, entry in enumerate(entries, start=1))

    def _layer(self, entry: Any, where: str, depth: int) -> Layer:
        self.count += 1
        if self.count > MOST_LAYERS:
            raise DeclarationError(f"{where}: more than {MOST_LAYERS} layers.")
        kind, given = _kind_and_given(entry, where)
        where = f"{where} ({kind})"
        if kind == "residual":
            return Residual(self.layers(given, where=f"{where}, ", depth=depth + 1))
        if kind == "parallel":
            if not isinstance(given, list | tuple) or len(given) < 2:
                raise DeclarationError(f"{where}: needs a list of at least two branches, each a list of layers.")
            branches = enumerate(given, start=1)
            return Parallel(tuple(self.layers(b, where=f"{where}, branch {n}, ", depth=depth + 1) for n, b in branches))
        return _legal(KINDS[kind], given, where)


def _kind_and_given(entry: Any, where: str) -> tuple[str, Any]:
    """Read ``kind``, ``{kind: value}`` or ``{kind: {name: value, ...}}``."""
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise DeclarationError(f"{where}: a layer is written as one kind and its numbers, as 'conv: {{channels: 32}}'.")
    ((kind, given),) = entry.items()
    if kind not in KINDS:
        raise DeclarationError(f"{where}: no layer is called {str(kind)[:40]!r}; there are {', '.join(KINDS)}.")
    return str(kind), given


def _legal(cls: type[Any], given: Any, where: str) -> Layer:
    """Make a layer of numbers and words, each checked against the field it fills."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if not isinstance(given, Mapping):
        given = {} if given is None else {next(iter(fields), ""): given}
    if unknown := [name for name in given if name not in fields]:
        has = f"it has {', '.join(fields)}" if fields else "it has none"
        raise DeclarationError(f"{where}: no property is called {str(unknown[0])[:40]!r}; {has}.")
    for name, rule in fields.items():
        if name in given:
            _check_value(given[name], str(rule.type), f"{where}: {name}")
        elif rule.default is dataclasses.MISSING:
            raise DeclarationError(f"{where}: {name} is missing.")
    layer: Layer = cls(**given)
    return layer


def _check_value(value: Any, kind: str, where: str) -> None:
    if kind == "int":
        if type(value) is not int or not 1 <= value <= MOST:
            raise DeclarationError(f"{where} is {str(value)[:40]}; it must be a whole number from 1 to {MOST}.")
        return
    choices = get_args(getattr(anatomy, kind))
    if value not in choices:
        raise DeclarationError(f"{where} is {str(value)[:40]!r}; choose {', '.join(choices)}.")
