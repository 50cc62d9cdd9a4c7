"""A user's own network from its declaration: the same modules, the same head as the networks of the house."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, assert_never

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from inzitu.learn import anatomy, declaration
from inzitu.learn.anatomy import Limits, Shape, Step
from inzitu.learn.convolution import native
from inzitu.learn.heads import BinsHead, MixtureHead, parse_head
from inzitu.learn.layers import GLOROT, Convolution, Dense, Prelu
from inzitu.learn.networks import Network

Keys = Iterator[Key[Array, ""]]
_HE = jax.nn.initializers.he_normal()


class Declared(Network):
    """A network made of declared layers, one after the other, and the head's dense layer."""

    def __init__(self, steps: Sequence[Step], *, key: Key[Array, ""], compute: DTypeLike = jnp.float32) -> None:
        keys = _split(key)
        *inner, last = steps
        self.names = tuple(step.name for step in inner)
        self.layers = nnx.List([_module(step.layer, step.shape, keys, compute) for step in inner])
        inputs = last.shape[0]
        # Small, so that the head begins at its biases: the labels' quantiles.
        small = jax.nn.initializers.normal(0.01 * inputs**-0.5)
        self.head = Dense(inputs, last.out[0], key=next(keys), initial=small)

    def stages(
        self, images: Float[Array, "n y x band"], scalars: Float[Array, "n s"], *, key: Key[Array, ""] | None = None
    ) -> Iterator[tuple[str, Array]]:
        """Give name and result of each layer in turn."""
        values = images
        for name, layer in zip(self.names, self.layers, strict=True):
            was_image = values.ndim == 4
            values = layer(values)
            if was_image and values.ndim == 2:
                values = jnp.concatenate([values, scalars], axis=-1)
            yield name, values
        yield "head", self.head(values)


def build_declared(
    spec: str | Mapping[str, Any],
    *,
    key: Key[Array, ""],
    input_shape: Shape,
    head: str | MixtureHead | BinsHead = "mixture(5)",
    scalars: int = 0,
    compute: DTypeLike = jnp.float32,
    limits: Limits | None = None,
) -> Declared:
    """Build a network from its declaration.

    Parameters
    ----------
    spec
        The declaration: YAML, or what YAML gives.
    key
        Where the first parameters come from.
    input_shape
        Rows, columns and bands of an image.
    head
        What the outputs mean.
    scalars
        How many numbers come with each image; they join it where it becomes a vector.
    compute
        Type of the convolutions and of what they give.
    limits
        What the network may take; whatever it likes by default, once a job has been admitted by its deployment.

    Raises
    ------
    DeclarationError
        The declaration is wrong, does not fit the images, or takes more than allowed; names the layer.
    """
    outputs = (parse_head(head) if isinstance(head, str) else head).outputs
    spec = declaration.read(spec) if isinstance(spec, str) else spec
    steps = declaration.check(spec, input_shape, outputs=outputs, scalars=scalars, limits=limits)
    return Declared(steps, key=key, compute=compute)


class Strided(nnx.Module):
    """A convolution that steps over pixels."""

    def __init__(self, inputs: int, layer: anatomy.Conv, *, key: Key[Array, ""], compute: DTypeLike) -> None:
        shape = (layer.size, layer.size, inputs, layer.channels)
        self.kernel = nnx.Param(_HE(key, shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(layer.channels))
        self.stride, self.padding, self.compute = layer.stride, layer.padding.upper(), jnp.dtype(compute)

    def __call__(self, images: Float[Array, "n y x c"]) -> Float[Array, "n i j d"]:
        """Convolve."""
        images, kernel = images.astype(self.compute), self.kernel[...].astype(self.compute)
        product = native(images, kernel, self.padding, stride=self.stride)
        return (product + self.bias[...]).astype(self.compute)


class Normalised(nnx.Module):
    """Mean zero and width one over groups of channels, then a learned scale and offset for each channel.

    With one group for each example's channels at one pixel this is layer normalisation (Ba et al. 2016,
    arXiv:1607.06450); over the pixels too it is group normalisation (Wu & He 2018, arXiv:1803.08494).
    """

    def __init__(self, channels: int, layer: anatomy.Norm) -> None:
        self.scale, self.offset = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))
        self.groups, self.over_pixels = (layer.groups if layer.mode == "group" else 1), layer.mode == "group"

    def __call__(self, values: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
        """Normalise."""
        single = values.astype(jnp.float32)
        grouped = single.reshape(*values.shape[:-1], self.groups, values.shape[-1] // self.groups)
        axes = (*(range(1, values.ndim - 1) if self.over_pixels else ()), -1)
        mean, variance = jnp.mean(grouped, axis=axes, keepdims=True), jnp.var(grouped, axis=axes, keepdims=True)
        narrowed = (grouped - mean) * jax.lax.rsqrt(variance + 1e-6)
        return (narrowed.reshape(values.shape) * self.scale[...] + self.offset[...]).astype(values.dtype)


class Added(nnx.Module):
    """The sum of layers and of the way around them."""

    def __init__(self, inner: nnx.Module, around: nnx.Module | None) -> None:
        self.inner, self.around = inner, around

    def __call__(self, values: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """Add."""
        inner: Callable[[Array], Array] = self.inner
        around: Callable[[Array], Array] | None = self.around
        return inner(values) + (values if around is None else around(values))


class Joined(nnx.Module):
    """The channels of branches, one after the other."""

    def __init__(self, branches: Sequence[nnx.Module]) -> None:
        self.branches = nnx.List(list(branches))

    def __call__(self, values: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """Join."""
        return jnp.concatenate([branch(values) for branch in self.branches], axis=-1)


class Applied(nnx.Module):
    """A function without parameters."""

    def __init__(self, function: Callable[[Array], Array]) -> None:
        self.function = function

    def __call__(self, values: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """Apply it."""
        return self.function(values)


FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
}


def _module(layer: anatomy.Layer, shape: Shape, keys: Keys, compute: DTypeLike) -> nnx.Module:
    """Build one layer for what comes in."""
    match layer:
        case anatomy.Conv(stride=1):
            padding = layer.padding.upper()
            return Convolution(
                shape[2], layer.channels, layer.size, key=next(keys), padding=padding, initial=_HE, compute=compute
            )
        case anatomy.Conv():
            return Strided(shape[2], layer, key=next(keys), compute=compute)
        case anatomy.DenseLayer():
            return Dense(shape[0], layer.width, key=next(keys), initial=GLOROT, compute=compute)
        case anatomy.Norm():
            return Normalised(shape[-1], layer)
        case anatomy.Activation(mode="prelu"):
            return Prelu(shape[-1])
        case anatomy.Activation():
            return Applied(FUNCTIONS[layer.mode])
        case anatomy.Residual():
            around = layer.matching(shape)
            inner = _sequence(layer.layers, shape, keys, compute)
            return Added(inner, None if around is None else _module(around, shape, keys, compute))
        case anatomy.Parallel():
            return Joined([_sequence(branch, shape, keys, compute) for branch in layer.branches])
        case anatomy.Pool() | anatomy.GlobalPool() | anatomy.Flatten():
            return Applied(_reshaping(layer))
        case _:
            raise AssertionError(f"{layer!r} is declared but cannot be built")


def _reshaping(layer: anatomy.Pool | anatomy.GlobalPool | anatomy.Flatten) -> Callable[[Array], Array]:
    match layer:
        case anatomy.Pool(mode, size):
            return lambda images: _of(mode)(_squares(images, size), axis=(2, 4))
        case anatomy.GlobalPool(mode):
            return lambda images: _of(mode)(images, axis=(1, 2))
        case anatomy.Flatten():
            return lambda images: images.reshape(images.shape[0], images.shape[1] * images.shape[2] * images.shape[3])
        case _:
            assert_never(layer)


def _of(mode: anatomy.Pooling) -> Callable[..., Array]:
    return jnp.max if mode == "max" else jnp.mean


def _squares(images: Float[Array, "n y x c"], size: int) -> Float[Array, "n i s j s c"]:
    rows, columns = images.shape[1] // size, images.shape[2] // size
    whole = images[:, : rows * size, : columns * size]
    return whole.reshape(images.shape[0], rows, size, columns, size, images.shape[3])


def _sequence(layers: Sequence[anatomy.Layer], shape: Shape, keys: Keys, compute: DTypeLike) -> nnx.Module:
    steps = anatomy.chain(layers, shape)
    return nnx.Sequential(*(_module(step.layer, step.shape, keys, compute) for step in steps))


def _split(key: Key[Array, ""]) -> Keys:
    """Give as many keys as are asked for."""
    count = 0
    while True:
        yield jax.random.fold_in(key, count)
        count += 1
