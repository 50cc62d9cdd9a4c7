"""The layers that a network may be declared with: the shape that each gives, and what it costs.

A shape is rows, columns and channels of an image, or the length of a vector; the number of images is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, override

Shape = tuple[int, ...]

Padding = Literal["same", "valid"]
Pooling = Literal["max", "average"]
Normalising = Literal["layer", "group"]
Activating = Literal["relu", "leaky_relu", "prelu", "elu", "gelu", "silu", "tanh", "sigmoid", "softplus"]


class DeclarationError(ValueError):
    """A declaration that no network can be built from; the message names the layer."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a layer, or a network, takes for one image.

    Attributes
    ----------
    parameters
        Trained numbers.
    flops
        Floating-point operations of the way forward, two for each multiplication and addition; training takes three
        times as many.
    activations
        Numbers kept for the way back.
    """

    parameters: int = 0
    flops: int = 0
    activations: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.flops + other.flops, self.activations + other.activations)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a network may take: its parameters, and floating-point operations forward for one image."""

    parameters: int = 60_000_000
    flops: int = 20_000_000_000
    activations: int = 50_000_000


class Layer:
    """What every layer can tell about itself."""

    __slots__ = ()
    kind: ClassVar[str]

    def out(self, shape: Shape) -> Shape:
        """Give the shape that comes out, or say why this one cannot come in."""
        raise NotImplementedError

    def cost(self, shape: Shape) -> Cost:
        """Give the cost for one image of this shape."""
        return Cost(activations=math.prod(self.out(shape)))


@dataclass(frozen=True, slots=True)
class Conv(Layer):
    """A convolution with a square kernel and a bias for each channel."""

    kind = "conv"
    channels: int
    size: int
    stride: int = 1
    padding: Padding = "same"

    @override
    def out(self, shape: Shape) -> Shape:
        rows, columns, _ = _image(shape)
        if self.padding == "valid":
            if self.size > min(rows, columns):
                raise DeclarationError(f"a kernel of {self.size} does not fit into {rows} x {columns} pixels")
            rows, columns = rows - self.size + 1, columns - self.size + 1
        return -(-rows // self.stride), -(-columns // self.stride), self.channels

    @override
    def cost(self, shape: Shape) -> Cost:
        out = self.out(shape)
        weights = self.size**2 * shape[2] * self.channels
        return Cost(weights + self.channels, 2 * weights * out[0] * out[1], math.prod(out))


@dataclass(frozen=True, slots=True)
class Pool(Layer):
    """The largest or the mean of each square of pixels; an incomplete last row or column falls away."""

    kind = "pool"
    mode: Pooling = "max"
    size: int = 2

    @override
    def out(self, shape: Shape) -> Shape:
        rows, columns, channels = _image(shape)
        if self.size > min(rows, columns):
            raise DeclarationError(f"squares of {self.size} do not fit into {rows} x {columns} pixels")
        return rows // self.size, columns // self.size, channels


@dataclass(frozen=True, slots=True)
class GlobalPool(Layer):
    """The largest or the mean of each channel: an image becomes a vector."""

    kind = "global_pool"
    mode: Pooling = "average"

    @override
    def out(self, shape: Shape) -> Shape:
        return (_image(shape)[2],)


@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """All pixels of all channels as one vector."""

    kind = "flatten"

    @override
    def out(self, shape: Shape) -> Shape:
        return (math.prod(_image(shape)),)


@dataclass(frozen=True, slots=True)
class DenseLayer(Layer):
    """A matrix and a bias, on a vector."""

    kind = "dense"
    width: int

    @override
    def out(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise DeclarationError(f"an image of {shown(shape)} comes in; put flatten or global_pool before it")
        return (self.width,)

    @override
    def cost(self, shape: Shape) -> Cost:
        (width,) = self.out(shape)
        return Cost((shape[0] + 1) * width, 2 * shape[0] * width, width)


@dataclass(frozen=True, slots=True)
class Norm(Layer):
    """Normalisation of each example over its channels (layer), or over groups of them and all pixels (group)."""

    kind = "norm"
    mode: Normalising = "layer"
    groups: int = 8

    @override
    def out(self, shape: Shape) -> Shape:
        if self.mode == "group" and shape[-1] % self.groups:
            raise DeclarationError(f"{shape[-1]} channels do not divide into {self.groups} groups")
        return shape

    @override
    def cost(self, shape: Shape) -> Cost:
        size = math.prod(self.out(shape))
        return Cost(2 * shape[-1], 8 * size, size)


@dataclass(frozen=True, slots=True)
class Activation(Layer):
    """A function of each number; prelu learns its slope for each channel."""

    kind = "activation"
    mode: Activating

    @override
    def out(self, shape: Shape) -> Shape:
        return shape

    @override
    def cost(self, shape: Shape) -> Cost:
        size = math.prod(shape)
        return Cost(shape[-1] if self.mode == "prelu" else 0, size, size)


@dataclass(frozen=True, slots=True)
class Residual(Layer):
    """Layers whose result is added to what came in; a 1 x 1 convolution (or a matrix) brings the channels to match."""

    kind = "residual"
    layers: tuple[Layer, ...]

    @override
    def out(self, shape: Shape) -> Shape:
        out = chain(self.layers, shape)[-1].out
        if out[:-1] != shape[:-1]:
            raise DeclarationError(f"{shown(shape)} comes in and {shown(out)} out: pixels cannot be added")
        return out

    @override
    def cost(self, shape: Shape) -> Cost:
        return total(chain(self.layers, shape)) + (step.cost(shape) if (step := self.matching(shape)) else Cost())

    def matching(self, shape: Shape) -> Layer | None:
        """Give the layer on the way around, if one is needed."""
        out = self.out(shape)
        if out == shape:
            return None
        return Conv(out[-1], 1) if len(shape) == 3 else DenseLayer(out[-1])


@dataclass(frozen=True, slots=True)
class Parallel(Layer):
    """Branches side by side; their channels are put one after the other."""

    kind = "parallel"
    branches: tuple[tuple[Layer, ...], ...]

    @override
    def out(self, shape: Shape) -> Shape:
        outs = []
        for number, branch in enumerate(self.branches, start=1):
            with_name = f"branch {number}"
            outs.append(chain(branch, shape, within=with_name)[-1].out)
            if outs[-1][:-1] != outs[0][:-1]:
                raise DeclarationError(
                    f"{with_name} gives {shown(outs[-1])}, branch 1 {shown(outs[0])}: pixels must match"
                )
        return (*outs[0][:-1], sum(out[-1] for out in outs))

    @override
    def cost(self, shape: Shape) -> Cost:
        return sum((total(chain(branch, shape)) for branch in self.branches), Cost())


KINDS: Mapping[str, type[Any]] = {
    layer.kind: layer for layer in (Conv, Pool, GlobalPool, Flatten, DenseLayer, Norm, Activation, Residual, Parallel)
}


@dataclass(frozen=True, slots=True)
class Step:
    """One layer in its place: its name, what comes in, what comes out, what it costs."""

    name: str
    layer: Layer
    shape: Shape
    out: Shape
    cost: Cost = field(repr=False)


def chain(layers: Sequence[Layer], shape: Shape, *, within: str = "", scalars: int = 0) -> list[Step]:
    """Walk an image's shape through layers one after the other.

    Where the image becomes a vector, `scalars` numbers are added to it.

    Raises
    ------
    DeclarationError
        A layer cannot take what comes in.
    """
    steps: list[Step] = []
    for number, layer in enumerate(layers, start=1):
        name = f"{within + ', ' if within else ''}layer {number} ({layer.kind})"
        try:
            out, cost = layer.out(shape), layer.cost(shape)
        except DeclarationError as error:
            raise DeclarationError(f"{name}: {error}") from None
        if scalars and len(shape) == 3 and len(out) == 1:
            out = (out[0] + scalars,)
        steps.append(Step(name, layer, shape, out, cost))
        shape = out
    return steps


def total(steps: Sequence[Step]) -> Cost:
    """Give the cost of layers together."""
    return sum((step.cost for step in steps), Cost())


def _image(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise DeclarationError(f"a vector of {shape[0]} comes in; it needs an image")
    return shape[0], shape[1], shape[2]


def shown(shape: Shape) -> str:
    """Write a shape as people do."""
    return " x ".join(map(str, shape))
