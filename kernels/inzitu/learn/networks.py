"""The networks of the house: images to the raw outputs of a head.

`build` makes any of them by name, or from a declaration (`inzitu.learn.declared`), for images of any size and number
of bands that the network can take, and for any head. The input is checked before a parameter is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from inzitu.learn.convolution import EVEN_CHANNELS, average_pool, in_pieces, max_pool, smooth
from inzitu.learn.heads import BinsHead, MixtureHead, parse_head
from inzitu.learn.images import crop
from inzitu.learn.layers import GLOROT, Convolution, Dense, DifferenceConvolution, Pool, Prelu, as_they_are, rectify
from inzitu.learn.recipe import Recipe

Shape = tuple[int, int, int]
Stages = Iterator[tuple[str, Array]]
# Shape and number of outputs, then `scalars`, `key` and `compute`, to a network.
Design = Callable[..., "Network"]


class NetworkError(ValueError):
    """The network cannot be built, or cannot take such images."""


class Network(nnx.Module):
    """Images, and scalars if it was built for any, to raw outputs.

    A subclass gives its `stages`: each layer's name and what comes out of it, the outputs last. All else follows: a
    call gives the outputs, a diagnosis walks the stages.
    """

    size: int | None = None
    """Width of the central square that it looks at [pixel]; None for the whole image."""
    head: Dense

    def stages(
        self, images: Float[Array, "n y x band"], scalars: Float[Array, "n s"], *, key: Key[Array, ""] | None = None
    ) -> Stages:
        """Give name and result of each layer in turn; with a key as in training, where some layers drop values."""
        raise NotImplementedError

    def __call__(
        self,
        images: Float[Array, "n y x band"],
        scalars: Float[Array, "n s"] | None = None,
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "n o"]:
        """Give the raw outputs; with a key as in training."""
        given = jnp.zeros((images.shape[0], 0)) if scalars is None else scalars
        *_, (_, outputs) = self.stages(images, given, key=key)
        return outputs

    def begin_at(self, bias: Float[Array | np.ndarray, " o"], images: Float[Array, "n y x band"] | None = None) -> None:
        """Let the outputs begin at given values, whatever the image; a network may look at some training images."""
        self.head.bias[...] = jnp.asarray(bias, jnp.float32)


class Dcmdn(Network):
    """The deep convolutional mixture-density network of D'Isanto & Polsterer (2018, A&A 609, A111).

    The central pixels of the bands, and of all their differences, go through convolutions without padding: 16 x 16 in
    the paper.
    `dcmdn-a` is the network of the paper's quasar experiment, `dcmdn-b` the default of the authors' program.
    """

    size: int

    def __init__(
        self,
        shape: Shape,
        outputs: int,
        *,
        convolutions: tuple[tuple[int, int], ...],
        pooled: int,
        scalars: int,
        key: Key[Array, ""],
        compute: DTypeLike,
        size: int = 16,
    ) -> None:
        check_size(shape, least=size)
        self.size = size
        keys = iter(jax.random.split(key, len(convolutions) + 3))
        (first, channels), *rest = convolutions
        side = size - first + 1
        layers: list[Convolution] = [DifferenceConvolution(shape[2], channels, first, key=next(keys), compute=compute)]
        for level, (width, deeper) in enumerate(rest, start=1):
            side = (side // 2 if level <= pooled else side) - width + 1
            layers.append(Convolution(channels, deeper, width, key=next(keys), compute=compute))
            channels = deeper
        self.convolutions, self.pooled = nnx.List(layers), pooled
        self.dense = nnx.List(
            [
                Dense(side * side * channels + scalars, 500, key=next(keys), compute=compute),
                Dense(500, 100, key=next(keys)),
            ]
        )
        self.head = last_layer(100, outputs, key=next(keys))

    def stages(
        self, images: Float[Array, "n y x band"], scalars: Float[Array, "n s"], *, key: Key[Array, ""] | None = None
    ) -> Stages:
        """Give name and result of each layer in turn."""
        values = crop(images, self.size)
        for level, convolution in enumerate(self.convolutions):
            values = convolution(values, pool=max_pool) if level < self.pooled else convolution(values)
            values = jnp.tanh(values) if level < len(self.convolutions) - 1 else jax.nn.relu(values)
            yield f"convolution {level + 1}", values
        values = _flat(values, scalars)
        for level, dense in enumerate(self.dense):
            values = jnp.tanh(dense(values))
            yield f"dense {level + 1}", values
        yield "head", self.head(values)


class Rectified(Convolution):
    """A convolution with a rectifier of its own, as Pasquet et al. begin it."""

    def __init__(self, inputs: int, outputs: int, size: int, *, key: Key[Array, ""], compute: DTypeLike) -> None:
        super().__init__(inputs, outputs, size, key=key, padding="SAME", initial=GLOROT, bias=0.1, compute=compute)
        self.rectifier = Prelu(outputs)

    def __call__(self, images: Float[Array, "n y x c"], *, pool: Pool = as_they_are) -> Float[Array, "n i j d"]:
        """Convolve, rectify, pool."""
        return pool(self.rectifier(super().__call__(images)))


class Inception(nnx.Module):
    """Branches of several widths side by side (Pasquet et al. 2019, fig. 4); each convolution has its own rectifier.

    Every branch begins with a convolution of one pixel. They are one, whose channels are then dealt out: the same
    parameters and the same sums, but the values are read once.
    """

    def __init__(
        self, inputs: int, narrow: int, wide: int, *, fives: bool, key: Key[Array, ""], compute: DTypeLike
    ) -> None:
        keys = iter(jax.random.split(key, 6))
        sizes = (5, 3) if fives else (3,)

        def rectified(channels: int, outputs: int, size: int) -> Rectified:
            return Rectified(channels, outputs, size, key=next(keys), compute=compute)

        self.entries = nnx.List([rectified(inputs, outputs, 1) for outputs in (wide, narrow, *[narrow] * len(sizes))])
        self.branches = nnx.List([rectified(narrow, wide, size) for size in sizes])
        self.outputs = wide * (1 + len(sizes)) + narrow

    def __call__(self, values: Float[Array, "n y x c"]) -> Float[Array, "n y x d"]:
        """Give the branches' results side by side."""
        alone, pooled, *entries = self._entered(values)
        results = [branch(entry) for branch, entry in zip(self.branches, entries, strict=True)]
        return jnp.concatenate([alone, *results, smooth(pooled)], axis=-1)

    def _entered(self, values: Float[Array, "n y x c"]) -> list[Array]:
        """Give what comes out of the convolutions of one pixel, each with its bias and rectifier."""
        parameters = [(entry.kernel[...], entry.bias[...], entry.rectifier.slope[...]) for entry in self.entries]
        ends = np.cumsum([len(bias) for _, bias, _ in parameters])
        # Filled up here, where it costs nothing: what comes of it are the largest arrays there are.
        more = -ends[-1] % EVEN_CHANNELS
        kernel, bias, slope = (
            jnp.concatenate([*parts, jnp.zeros((*parts[0].shape[:-1], more))], axis=-1)
            for parts in zip(*parameters, strict=True)
        )
        *entered, _ = jnp.split(rectify(self.entries[0].affine(values, kernel, bias), slope), ends, axis=-1)
        return entered


class Pasquet(Network):
    """The inception network of Pasquet et al. (2019, A&A 621, A26) for the galaxies of the SDSS main sample.

    Theirs takes 64 x 64 pixels; a larger stamp is cropped to that, a smaller one is taken as it is, with fewer
    parameters. E(B-V) is the scalar of theirs.
    """

    SIZE = 64
    LEAST = 16
    PIECE = 8 * SIZE**2
    """Pixels whose values within the network stay in a CPU's cache."""
    size: int

    def __init__(self, shape: Shape, outputs: int, *, scalars: int, key: Key[Array, ""], compute: DTypeLike) -> None:
        check_size(shape, least=self.LEAST)
        self.size = min(self.SIZE, *shape[:2])
        keys = iter(jax.random.split(key, 9))
        self.first = Rectified(shape[2], 64, 5, key=next(keys), compute=compute)
        channels, blocks = 64, []
        for narrow, wide, fives in ((48, 64, True), (64, 92, True), (92, 128, True), (92, 128, True), (92, 128, False)):
            blocks.append(Inception(channels, narrow, wide, fives=fives, key=next(keys), compute=compute))
            channels = blocks[-1].outputs
        self.blocks = nnx.List(blocks)
        flat = (self.size // 2 // 2 // 2) ** 2 * channels + scalars
        self.dense = nnx.List(
            [
                Dense(flat, 1096, key=next(keys), bias=0.1, compute=compute),
                Dense(1096, 1096, key=next(keys), bias=0.1, compute=compute),
            ]
        )
        self.head = last_layer(1096, outputs, key=next(keys))

    def stages(
        self, images: Float[Array, "n y x band"], scalars: Float[Array, "n s"], *, key: Key[Array, ""] | None = None
    ) -> Stages:
        """Give name and result of each layer in turn."""
        for name, values in self._convolutions(crop(images, self.size)):
            yield name, values
        yield from self._dense(values, scalars)

    def __call__(
        self,
        images: Float[Array, "n y x band"],
        scalars: Float[Array, "n s"] | None = None,
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "n o"]:
        """Give the raw outputs; without a key, as in training, a few images at a time go through the convolutions."""
        if key is not None:
            return super().__call__(images, scalars, key=key)
        given = jnp.zeros((images.shape[0], 0)) if scalars is None else scalars
        values = in_pieces(lambda some: _last(self._convolutions(some)), crop(images, self.size), pixels=self.PIECE)
        return _last(self._dense(values, given))

    def _convolutions(self, images: Float[Array, "n y x band"]) -> Stages:
        values = self.first(images, pool=average_pool)
        yield "convolution 1", values
        for level, block in enumerate(self.blocks, start=1):
            values = block(values)
            yield f"inception {level}", values
            if level in (2, 4):
                values = average_pool(values)

    def _dense(self, values: Float[Array, "n y x c"], scalars: Float[Array, "n s"]) -> Stages:
        values = _flat(values, scalars)
        for level, dense in enumerate(self.dense, start=1):
            values = jax.nn.relu(dense(values))
            yield f"dense {level}", values
        yield "head", self.head(values)


def _last(stages: Stages) -> Array:
    *_, (_, values) = stages
    return values


DCMDN_A = ((3, 256), (2, 512), (2, 1024))


def _dcmdn_a(shape: Shape, outputs: int, *, scalars: int, key: Key[Array, ""], compute: DTypeLike) -> Network:
    return Dcmdn(shape, outputs, convolutions=DCMDN_A, pooled=2, scalars=scalars, key=key, compute=compute)


def _dcmdn_b(shape: Shape, outputs: int, *, scalars: int, key: Key[Array, ""], compute: DTypeLike) -> Network:
    layers = ((3, 128), (3, 256), (3, 512), (3, 1024))
    return Dcmdn(shape, outputs, convolutions=layers, pooled=0, scalars=scalars, key=key, compute=compute)


def _inzitu(shape: Shape, outputs: int, *, scalars: int, key: Key[Array, ""], compute: DTypeLike) -> Network:
    from inzitu.learn.inzitu_network import Inzitu  # it is made of this module's classes

    return Inzitu(shape, outputs, scalars=scalars, key=key, compute=compute)


# Each design with the shape it was published for.
DESIGNS: Mapping[str, tuple[Design, Shape]] = {
    "dcmdn-a": (_dcmdn_a, (28, 28, 5)),
    "dcmdn-b": (_dcmdn_b, (28, 28, 5)),
    "pasquet": (Pasquet, (64, 64, 5)),
    "inzitu": (_inzitu, (28, 28, 5)),
}


def build(
    name_or_spec: str | Mapping[str, Any],
    *,
    key: Key[Array, ""],
    input_shape: tuple[int, ...] | None = None,
    head: str | MixtureHead | BinsHead = "mixture(5)",
    scalars: int = 0,
    compute: DTypeLike = jnp.float32,
) -> Network:
    """Make a network with its first parameters.

    Parameters
    ----------
    name_or_spec
        A name in `DESIGNS`, or a declaration.
    key
        Where the first parameters come from.
    input_shape
        Rows, columns and bands of an image; by default those the design was published for.
    head
        What the outputs mean, as ``"mixture(5)"`` or ``"bins(180, 0.4)"``.
    scalars
        How many scalars come with each image.
    compute
        Type of the convolutions and of what they give, `jax.numpy.bfloat16` on an accelerator in training.

    Raises
    ------
    NetworkError
        An unknown name, or images that the network cannot take.
    """
    parsed = parse_head(head) if isinstance(head, str) else head
    if isinstance(name_or_spec, str):
        design, published = _design(name_or_spec)
        return design(_shape(input_shape or published), parsed.outputs, scalars=scalars, key=key, compute=compute)
    if input_shape is None:
        raise NetworkError("a declared or shipped network needs the shape of the images")
    return _own(name_or_spec, _shape(input_shape), parsed, scalars=scalars, key=key, compute=compute)


def of_recipe(recipe: Recipe, *, key: Key[Array, ""], input_shape: tuple[int, ...], predict: bool = False) -> Network:
    """Make the network of a recipe; one that predicts computes in float32 everywhere."""
    fast = recipe.compute == "bfloat16" or (recipe.compute == "auto" and jax.default_backend() != "cpu")
    return build(
        recipe.network,
        key=key,
        input_shape=input_shape,
        head=recipe.head,
        scalars=len(recipe.scalars) + (input_shape[2] if recipe.masked else 0),
        compute=jnp.bfloat16 if fast and not predict else jnp.float32,
    )


def parameter_count(network: nnx.Module) -> int:
    """Count the trained numbers."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


def _design(name: str) -> tuple[Design, Shape]:
    if name not in DESIGNS:
        raise NetworkError(f"no network is called {name!r}: choose {', '.join(DESIGNS)}, or declare one")
    return DESIGNS[name]


def _own(
    spec: Mapping[str, Any],
    shape: Shape,
    head: MixtureHead | BinsHead,
    *,
    scalars: int,
    key: Key[Array, ""],
    compute: DTypeLike,
) -> Network:
    """Make a user's own network: declared by its layers, or shipped as a program."""
    from inzitu.learn import declared, shipped  # they are made of this module's classes

    if "layers" in spec:
        return declared.build_declared(spec, key=key, input_shape=shape, head=head, scalars=scalars, compute=compute)
    return shipped.build_shipped(spec, key=key, input_shape=shape, head=head, scalars=scalars)


def _shape(shape: tuple[int, ...]) -> Shape:
    match shape:
        case (int(rows), int(columns), int(bands)) if min(shape) > 0:
            return rows, columns, bands
    raise NetworkError(f"the input shape {shape} is not (rows, columns, bands), all above 0")


def check_size(shape: Shape, *, least: int) -> None:
    """Refuse images smaller than a network needs."""
    rows, columns, _ = shape
    if min(rows, columns) < least:
        raise NetworkError(f"the images are {rows} x {columns} pixels; this network needs at least {least} x {least}")


def _flat(values: Float[Array, "n y x c"], scalars: Float[Array, "n s"]) -> Float[Array, "n f"]:
    rows, columns, channels = values.shape[1:]
    return jnp.concatenate([values.reshape(values.shape[0], rows * columns * channels), scalars], axis=-1)


def last_layer(inputs: int, outputs: int, *, key: Key[Array, ""]) -> Dense:
    """Give the layer of a head."""
    # Small, so that the head begins at its biases: the labels' quantiles.
    return Dense(inputs, outputs, key=key, initial=jax.nn.initializers.normal(0.01 * inputs**-0.5))
