from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from inzitu.learn.convolution import (
    MANY_CHANNELS,
    average_pool,
    by_matrix,
    convolve,
    in_pieces,
    max_pool,
    native,
    smooth,
)
from inzitu.learn.heads import parse_head
from inzitu.learn.images import ImagesError, differences
from inzitu.learn.inzitu_network import photometry
from inzitu.learn.layers import Convolution, DifferenceConvolution
from inzitu.learn.networks import (
    DESIGNS,
    Dcmdn,
    Inception,
    Network,
    NetworkError,
    Pasquet,
    Rectified,
    build,
    of_recipe,
    parameter_count,
)
from inzitu.learn.photometry import Widths
from inzitu.learn.recipe import Recipe
from learn.tiny import offer

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def dcmdn() -> Dcmdn:
    network = build("dcmdn-a", key=KEY)
    assert isinstance(network, Dcmdn)
    return network


def random(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    ("name", "head", "count"),
    [
        ("dcmdn-a", "mixture(5)", 4_757_907),
        ("dcmdn-b", "mixture(5)", 39_010_000),
        ("pasquet", "bins(180, 0.4)", 27_600_000),
    ],
)
def test_a_network_has_the_parameters_of_its_paper(name: str, head: str, count: int) -> None:
    network = nnx.eval_shape(lambda: build(name, key=KEY, head=head))
    assert parameter_count(network) == pytest.approx(count, rel=0.005)


@jax.jit
def by_the_paper(network: Dcmdn, images: jax.Array) -> jax.Array:
    """dcmdn-a written out with the library's convolutions and poolings on the 15 channels."""
    values = differences(images[:, 6:22, 6:22])
    for level, layer in enumerate(network.convolutions):
        window = lax.conv_general_dilated(
            values, layer.kernel[...], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        values = window + layer.bias[...]
        if level < 2:
            values = jnp.tanh(lax.reduce_window(values, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"))
    values = jax.nn.relu(values).reshape(-1, 4096)
    for dense in network.dense:
        values = jnp.tanh(values @ dense.kernel[...] + dense.bias[...])
    return values @ network.head.kernel[...] + network.head.bias[...]


def test_dcmdn_a_is_what_a_plain_reading_of_the_paper_gives(dcmdn: Dcmdn) -> None:
    images = random(2, 28, 28, 5)
    np.testing.assert_allclose(
        jax.jit(lambda network, stamps: network(stamps))(dcmdn, images), by_the_paper(dcmdn, images), atol=2e-6
    )


def test_pasquet_flattens_to_22272() -> None:
    network = nnx.eval_shape(lambda: build("pasquet", key=KEY, head="bins(180, 0.4)", scalars=1))
    assert isinstance(network, Pasquet)
    assert network.dense[0].kernel.shape == (22272 + 1, 1096)


def test_an_inception_block_is_its_branches_one_by_one() -> None:
    block = Inception(6, 4, 5, fives=True, key=KEY, compute=jnp.float32)
    for number, entry in enumerate((*block.entries, *block.branches)):
        entry.rectifier.slope[...] = entry.rectifier.slope[...] + 0.1 * number

    def rectified(part: Rectified, values: jax.Array) -> jax.Array:
        window = lax.conv_general_dilated(
            values, part.kernel[...], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        plain = window + part.bias[...]
        return jnp.where(plain > 0, plain, part.rectifier.slope[...] * plain)

    images = random(2, 6, 6, 6)
    wide, pooled, *narrow = (rectified(entry, images) for entry in block.entries)
    pool: Callable[..., jax.Array] = nnx.avg_pool
    smoothed = pool(pooled, (2, 2), (1, 1), "SAME", count_include_pad=False)
    branches = [rectified(part, values) for part, values in zip(block.branches, narrow, strict=True)]
    np.testing.assert_allclose(block(images), jnp.concatenate([wide, *branches, smoothed], axis=-1), atol=1e-5)


def test_pasquet_takes_small_stamps_and_any_head() -> None:
    def outputs() -> jax.Array:
        return build("pasquet", key=KEY, input_shape=(16, 16, 3), head="mixture(2)")(random(2, 16, 16, 3))

    assert nnx.eval_shape(outputs).shape == (2, 6)


@pytest.mark.parametrize("bands", [1, 2, 4, 5])
def test_the_folded_convolution_equals_the_unfolded_one(bands: int) -> None:
    folded = DifferenceConvolution(bands, 16, 3, key=KEY)
    plain = Convolution(bands * (bands + 1) // 2, 16, 3, key=KEY)
    images = random(3, 9, 9, bands)
    np.testing.assert_allclose(folded(images), plain(differences(images)), atol=1e-5)


@pytest.mark.parametrize("count", [0, 3, 4, 9])
def test_images_that_are_taken_some_at_a_time_give_what_they_give_together(count: int) -> None:
    images, kernel = random(count, 6, 6, 3), random(3, 3, 3, 4, seed=1)

    def both(some: jax.Array) -> tuple[jax.Array, jax.Array]:
        together = native(some, kernel).sum(axis=1)
        return in_pieces(lambda few: native(few, kernel).sum(axis=1), some, pixels=4 * 36), together

    pieces, together = jax.jit(both)(images)
    np.testing.assert_allclose(pieces, together, atol=1e-5)
    # As in a bundle, whose program is made before anybody knows how many images there will be.
    (n,) = jax.export.symbolic_shape("n")
    abstract: Any = jax.ShapeDtypeStruct
    exported: Any = jax.export.export(jax.jit(both), platforms=("cpu", "cuda"))(abstract((n, 6, 6, 3), jnp.float32))
    if count:
        pieces, together = exported.call(images)
        np.testing.assert_allclose(pieces, together, atol=1e-5)


HEADS = ("mixture(1)", "mixture(7, truncated)", "bins(40, 5)")


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("head", HEADS)
def test_any_network_takes_any_head_scalars_and_bands(name: str, head: str) -> None:
    def outputs() -> jax.Array:
        network = build(name, key=KEY, input_shape=(30, 30, 3), head=head, scalars=2)
        return network(random(2, 30, 30, 3), random(2, 2))

    parsed = parse_head(head)
    assert nnx.eval_shape(outputs).shape == (2, parsed.outputs)
    assert jnp.shape(jax.tree.leaves(parsed.distribution(jnp.zeros((2, parsed.outputs))))[0])[0] == 2


def multiplied_in(network: Network) -> set[str]:
    assert isinstance(network, Dcmdn)
    return {str(layer.compute) for layer in network.convolutions}


def test_convolutions_and_what_they_give_are_bfloat16_on_an_accelerator_and_the_rest_is_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def types(**chosen: Any) -> set[str]:
        recipe = Recipe(network="dcmdn-a", **chosen)
        network = nnx.eval_shape(lambda: of_recipe(recipe, key=KEY, input_shape=(28, 28, 5)))
        stages = jax.eval_shape(
            lambda network, images: dict(network.stages(images, jnp.zeros((2, 0)))), network, random(2, 28, 28, 5)
        )
        given = {str(values.dtype) for name, values in stages.items() if name.startswith("convolution")}
        assert given == multiplied_in(network)
        others = {str(values.dtype) for name, values in stages.items() if not name.startswith("convolution")}
        assert others == {"float32"}
        slopes = jax.eval_shape(jax.grad(lambda network, images: network(images).sum()), network, random(2, 28, 28, 5))
        assert {str(slope.dtype) for slope in jax.tree.leaves(slopes)} == {"float32"}
        return multiplied_in(network)

    assert types() == {"float32"}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert types() == {"bfloat16"}
    assert types(compute="float32") == {"float32"}
    network = nnx.eval_shape(
        lambda: of_recipe(Recipe(network="dcmdn-a"), key=KEY, input_shape=(28, 28, 5), predict=True)
    )
    assert multiplied_in(network) == {"float32"}


@pytest.mark.parametrize("name", ["dcmdn-a", "pasquet"])
def test_a_gpu_convolves_bfloat16_by_eight_channels_both_ways(name: str) -> None:
    network = nnx.eval_shape(lambda: build(name, key=KEY, input_shape=(16, 16, 5), compute=jnp.bfloat16))

    def outputs(network: Network, images: jax.Array) -> jax.Array:
        return network(images, key=KEY).sum()

    program = (
        jax.jit(jax.grad(outputs)).trace(network, random(8, 16, 16, 5)).lower(lowering_platforms=("cuda",)).as_text()
    )
    convolutions = [line for line in program.splitlines() if "stablehlo.convolution" in line]
    # Of each the way forward and the kernel's gradient, of all but the first the images'.
    layers = {"dcmdn-a": 3, "pasquet": 15}[name]
    assert len(convolutions) == 3 * layers - 1
    tensors = [re.findall(r"tensor<([^>]*)>", line.split(" : ")[-1]) for line in convolutions]
    assert all(re.search(r"x(\d+)xbf16$", tensor) for tensor in itertools.chain(*tensors))
    assert all(int(tensor.split("x")[-2]) % 8 == 0 for tensor in itertools.chain(*tensors))
    # What is added up over many images and pixels, as a bias's gradient, is so in float32.
    sums = [line for line in program.splitlines() if "stablehlo.reduce" in line and "applies stablehlo.add" in line]
    assert sums
    assert not [line for line in sums if "bf16" in line]


def test_channels_that_fill_up_do_not_change_a_convolution() -> None:
    # Of -1, 0 and 1, whose sums bfloat16 holds exactly.
    images, kernel, slope = (jnp.round(random(*shape)) for shape in ((2, 6, 6, 5), (3, 3, 5, 9), (2, 4, 4, 9)))
    exact = [values.clip(-1, 1) for values in (images, kernel, slope)]
    results = []
    for dtype in (jnp.bfloat16, jnp.float32):
        *arguments, back = [values.astype(dtype) for values in exact]
        convolved, gradients = jax.vjp(native, *arguments)
        results.append([convolved, *gradients(back)])
    for narrow, wide in zip(*results, strict=True):
        assert narrow.dtype == jnp.bfloat16
        np.testing.assert_array_equal(narrow.astype(jnp.float32), wide)


def test_odd_sizes_and_other_bands_are_taken() -> None:
    def outputs() -> jax.Array:
        return build("dcmdn-a", key=KEY, input_shape=(33, 33, 3), head="mixture(3)")(random(2, 33, 33, 3))

    assert nnx.eval_shape(outputs).shape == (2, 9)


def test_the_forms_of_a_convolution_agree_with_their_gradients() -> None:
    # Narrow, wide, few pixels, one pixel of kernel; then in tiles: kernels of 2, 3 and 5, odd and even results.
    narrow = ((6, 3, 3, 4), (6, 3, 3, 200), (3, 2, 5, 4), (5, 1, 70, 4))
    for side, size, inputs, outputs in (*narrow, (6, 2, MANY_CHANNELS, 50), (6, 3, 50, MANY_CHANNELS), (8, 5, 48, 48)):
        images, kernel = random(2, side, side, inputs), 0.1 * random(size, size, inputs, outputs, seed=1)
        slope = random(2, side - size + 1, side - size + 1, outputs, seed=2)
        np.testing.assert_allclose(by_matrix(images, kernel), native(images, kernel), atol=1e-4)
        expected = jax.vjp(native, images, kernel)[1](slope)
        slopes = jax.jit(lambda i, k, s: jax.vjp(convolve, i, k)[1](s))(images, kernel, slope)
        for found, value in zip(slopes, expected, strict=True):
            np.testing.assert_allclose(found, value, atol=2e-4)


@pytest.mark.parametrize(("own", "library"), [(max_pool, nnx.max_pool), (average_pool, nnx.avg_pool)])
def test_pooling_and_its_gradient_are_the_librarys_where_a_row_falls_away_too(
    own: Callable[..., jax.Array], library: Callable[..., jax.Array]
) -> None:
    images = random(2, 7, 6, 3)

    def expected(values: jax.Array) -> jax.Array:
        return library(values, (2, 2), (2, 2))

    np.testing.assert_allclose(own(images), expected(images), atol=1e-6)
    slope = random(2, 3, 3, 3, seed=1)
    np.testing.assert_allclose(jax.vjp(own, images)[1](slope)[0], jax.vjp(expected, images)[1](slope)[0], atol=1e-6)


def test_equal_pixels_share_the_gradient_of_their_maximum() -> None:
    np.testing.assert_array_equal(jax.grad(lambda values: max_pool(values).sum())(jnp.ones((1, 2, 2, 1))), 0.25)


@pytest.mark.parametrize(("size", "channels"), [(1, 3), (3, 3), (5, 3), (3, MANY_CHANNELS), (5, MANY_CHANNELS)])
def test_same_padding_keeps_the_size_in_every_form(size: int, channels: int) -> None:
    images, kernel = random(2, 6, 5, channels), 0.1 * random(size, size, channels, channels, seed=1)

    def expected(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    values, back = jax.vjp(functools.partial(convolve, padding="SAME"), images, kernel)
    plain, plainly = jax.vjp(expected, images, kernel)
    slope = random(2, 6, 5, channels, seed=2)
    for found, value in zip((values, *back(slope)), (plain, *plainly(slope)), strict=True):
        np.testing.assert_allclose(found, value, atol=5e-4)


def test_smoothing_counts_only_the_pixels_there_are() -> None:
    pool: Callable[..., jax.Array] = nnx.avg_pool
    expected = pool(random(1, 4, 4, 2), (2, 2), (1, 1), "SAME", count_include_pad=False)
    np.testing.assert_allclose(smooth(random(1, 4, 4, 2)), expected, atol=1e-6)


def test_the_outputs_begin_where_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch)
    network = build("tiny", key=KEY)
    bias = np.arange(15.0)
    network.begin_at(bias)
    np.testing.assert_allclose(network(random(4, 8, 8, 2)), np.tile(bias, (4, 1)), atol=0.2)


def test_inzitu_drops_values_while_it_is_trained_and_never_when_it_predicts() -> None:
    network, images = build("inzitu", key=KEY), random(4, 28, 28, 5)
    first, second = (network(images, key=jax.random.key(number)) for number in (1, 2))
    assert not np.any(np.asarray(first == second))
    assert not np.any(np.asarray(first == network(images)))
    np.testing.assert_array_equal(network(images), network(images))


def test_an_unknown_network_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(NetworkError, match="no network is called 'resnet': choose dcmdn-a, dcmdn-b, pasquet, inzitu"):
        build("resnet", key=KEY)


def test_images_that_do_not_fit_are_refused_before_a_parameter_is_made(dcmdn: Dcmdn) -> None:
    with pytest.raises(NetworkError, match="12 x 12 pixels; this network needs at least 16 x 16"):
        build("dcmdn-a", key=KEY, input_shape=(12, 12, 5))
    with pytest.raises(NetworkError, match="is not \\(rows, columns, bands\\)"):
        build("dcmdn-a", key=KEY, input_shape=(16, 16))
    with pytest.raises(ImagesError, match="at least 16 x 16 are needed"):
        dcmdn(random(1, 10, 10, 5))


def test_inzitu_begins_with_magnitudes_and_colours_of_mean_zero_and_deviation_one() -> None:
    network, images = build("inzitu", key=KEY), random(300, 28, 28, 5)
    network.begin_at(np.zeros(15), images)
    (_, fluxes), *_ = network.stages(images, jnp.zeros((300, 0)))
    np.testing.assert_allclose(jnp.mean(fluxes, axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(jnp.std(fluxes, axis=0), 1, atol=1e-4)


def test_what_inzitu_sees_are_magnitudes_colours_and_extent_of_the_source() -> None:
    # Two bands of a Gaussian source, normalised as the network gets them, against the formulas.
    rows, columns = np.mgrid[:20, :20] - 9.5
    widths, fluxes = np.array([1.5, 1.8]), np.array([60.0, 250.0])
    square = (rows**2 + columns**2)[..., None]
    image = fluxes * np.exp(-square / (2 * widths**2)) / (2 * np.pi * widths**2)
    usual = np.log([1.4, 1.6])
    seen = photometry(jnp.arcsinh(jnp.asarray(image[None], jnp.float32)), Widths(jnp.asarray(usual), jnp.float32(0.3)))
    # A pixel's noise is 0.4; an aperture is 1.5 usual widths wide, and such a source's flux is scaled by 1 + 1.5^-2.
    noise = 0.4 * np.sqrt(np.pi) * 1.5 * np.exp(usual) * (1 + 1.5**-2)
    first, second = np.arcsinh(fluxes / (2 * noise))
    extent = np.mean(np.log(widths) - usual)
    np.testing.assert_allclose(seen[0], [first, second, first - second, extent], atol=0.02)


def test_a_training_leaves_the_widths_that_inzitu_expects_as_they_are() -> None:
    network, images = build("inzitu", key=KEY), random(64, 28, 28, 5)
    network.begin_at(np.zeros(15), images)
    slopes = nnx.grad(lambda network: jnp.sum(network(images)))(network)
    assert not np.any(slopes["mean_width"][...])
    assert not np.any(slopes["width_deviation"][...])
    assert np.all(slopes["centre"][...])
