from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inzitu.learn.images import (
    Augmentation,
    ImagesError,
    Normalisation,
    crop,
    difference_matrix,
    differences,
    present,
    symmetry,
)
from inzitu.learn.inzitu_network import photometry
from inzitu.learn.ood import colours
from inzitu.learn.photometry import Widths

BANDS = "ugriz"


def noise(rows: int = 40, size: int = 12, bands: int = 5) -> np.ndarray:
    scales = np.arange(1, bands + 1)
    return (np.random.default_rng(0).normal(size=(rows, size, size, bands)) * scales).astype(np.float32)


def test_the_noise_is_measured_beside_the_sources() -> None:
    images = noise(400)
    images[:, 4:8, 4:8] += 1000
    np.testing.assert_allclose(Normalisation.measure(images).sigmas, np.arange(1, 6), rtol=0.03)


def test_a_pixel_becomes_its_asinh() -> None:
    normalisation = Normalisation((0.5, 2.0), softening=3.0)
    image = np.array([[[1.5, -60.0]]], np.float32)
    expected = np.array([[[np.arcsinh(1.0), -np.arcsinh(10.0)]]])
    np.testing.assert_allclose(normalisation.apply(image), expected, rtol=1e-6)


def test_a_blank_pixel_becomes_sky_and_a_blank_band_is_known() -> None:
    images = noise(2)
    images[0, 3, 3, 1], images[1, :, :, 4] = np.nan, np.nan
    applied = np.asarray(Normalisation((1.0,) * 5).apply(images))
    assert applied[0, 3, 3, 1] == 0
    assert not applied[1, :, :, 4].any()
    np.testing.assert_array_equal(present(images), [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


def test_pixels_as_large_as_a_number_can_be_keep_what_is_summed_finite() -> None:
    images = noise(2)
    images[0, 3:9, 3:9] = 3e38
    images[1, 3:9, 3:9, ::2], images[1, 3:9, 3:9, 1::2] = -3e38, 3e38
    normalisation = Normalisation((1e-3,) * 5)
    expected = Widths(jnp.zeros(5), jnp.float32(0.2))
    assert np.isfinite(np.asarray(photometry(normalisation.apply(images), expected))).all()
    assert np.isfinite(np.asarray(colours(jnp.asarray(images), jnp.full(5, 1e-3)))).all()


def test_the_normalisation_survives_json() -> None:
    normalisation = Normalisation.measure(noise(), softening=2.0)
    assert Normalisation.from_json(normalisation.json()) == normalisation


def test_a_band_without_pixels_is_named() -> None:
    images = noise()
    images[..., 2] = np.nan
    with pytest.raises(ImagesError, match="band 2 has a noise of nan"):
        Normalisation.measure(images)
    images[..., 2] = 7.0
    with pytest.raises(ImagesError, match="band 2 has a noise of 0"):
        Normalisation.measure(images)


def test_the_15_channels_are_the_bands_and_the_differences_in_the_paper_order() -> None:
    images = noise(1, 1)
    u, g, r, i, z = images[0, 0, 0]
    expected = [u, g, r, i, z, u - g, u - r, u - i, u - z, g - r, g - i, g - z, r - i, r - z, i - z]
    np.testing.assert_allclose(differences(jnp.asarray(images))[0, 0, 0], expected)
    np.testing.assert_allclose(images @ difference_matrix(5), differences(jnp.asarray(images)), rtol=1e-6)


def test_the_crop_of_28_pixels_is_6_to_22() -> None:
    images = jnp.arange(28 * 28.0).reshape(1, 28, 28, 1)
    np.testing.assert_array_equal(crop(images, 16), images[:, 6:22, 6:22])


def test_the_8_symmetries_are_those_of_numpy() -> None:
    image = noise(1, 5)
    expected = {np.rot90(flipped, turns, (1, 2)).tobytes() for turns in range(4) for flipped in (image, image[:, ::-1])}
    found = {np.asarray(symmetry(jnp.asarray(image), index)).tobytes() for index in range(8)}
    assert found == expected


def test_no_symmetry_changes_the_order_of_the_bands() -> None:
    # The first system flipped without an axis, and so u became z.
    flat = np.broadcast_to(np.arange(5, dtype=np.float32), (8, 6, 6, 5))
    np.testing.assert_array_equal(symmetry(jnp.asarray(flat), jnp.arange(8)), flat)


def test_an_image_is_turned_by_its_own_symmetry() -> None:
    images = jnp.asarray(noise(8, 5))
    each = jnp.concatenate([symmetry(images[n : n + 1], n) for n in range(8)])
    np.testing.assert_array_equal(symmetry(images, jnp.arange(8)), each)


def test_only_squares_can_be_turned() -> None:
    with pytest.raises(ImagesError, match="4 x 6 pixels: cut them square"):
        symmetry(jnp.zeros((1, 4, 6, 5)), 1)


def test_a_shift_moves_whole_pixels() -> None:
    images = jnp.zeros((200, 9, 9, 1)).at[:, 4, 4].set(1.0)
    moved = np.asarray(
        Augmentation(symmetries=False, shift=1, noise=0.0, brightness=0.0).apply(
            jax.random.key(0), images, softening=1.0
        )
    )
    places = {tuple(place) for place in np.argwhere(moved)[:, 1:3]}
    assert places == set(itertools.product((3, 4, 5), (3, 4, 5)))


@pytest.mark.parametrize("width", [12, 13])
@pytest.mark.parametrize("shift", [0, 1])
def test_pixels_that_are_never_seen_need_not_be_varied(width: int, shift: int) -> None:
    images, key = jnp.asarray(noise(16, width, 2)), jax.random.key(1)
    augmentation = Augmentation(shift=shift, noise=0.0, brightness=0.0)
    whole = crop(augmentation.apply(key, images, softening=1.0), 6)
    seen = augmentation.within(images, 6)
    assert seen.shape[1] < width
    np.testing.assert_array_equal(crop(augmentation.apply(key, seen, softening=1.0), 6), whole)


def test_the_added_noise_is_that_of_the_flux() -> None:
    flux, sigma, softening = 30.0, 0.5, 2.5
    normalisation = Normalisation((sigma,), softening=softening)
    images = normalisation.apply(np.full((50, 20, 20, 1), flux, np.float32))
    varied = Augmentation(symmetries=False, noise=0.2, brightness=0.0).apply(
        jax.random.key(1), images, softening=softening
    )
    fluxes = np.sinh(np.asarray(varied, np.float64)) * softening * sigma
    assert np.std(fluxes) == pytest.approx(0.2 * sigma, rel=0.02)


def test_brightness_keeps_the_colours() -> None:
    images = Normalisation((1.0, 1.0)).apply(np.full((30, 3, 3, 2), (50.0, 80.0), np.float32))
    varied = Augmentation(symmetries=False, noise=0.0, brightness=0.3).apply(jax.random.key(2), images, softening=2.5)
    fluxes = np.sinh(np.asarray(varied, np.float64))
    np.testing.assert_allclose(fluxes[..., 1] / fluxes[..., 0], 1.6, rtol=1e-5)
    magnitudes = -2.5 * np.log10(fluxes[:, 0, 0, 0] * 2.5 / 50)
    assert 0.15 < magnitudes.std() < 0.5


def test_an_image_is_blended_with_one_of_a_neighbouring_label_and_so_are_label_and_scalars() -> None:
    labels = jax.random.permutation(jax.random.key(0), jnp.arange(50.0) ** 2)
    images = jnp.broadcast_to(labels[:, None, None, None], (50, 4, 4, 2))
    key = jax.random.key(1)
    mixed, varied, scalars = Augmentation(blend=0.5).blended(key, labels, images, labels[:, None])
    # What is linear in the label stays so, whichever the neighbours and shares were.
    np.testing.assert_allclose(varied, np.broadcast_to(mixed[:, None, None, None], varied.shape), rtol=1e-6)
    np.testing.assert_allclose(scalars[:, 0], mixed, rtol=1e-6)
    roots = np.sqrt(labels)
    lower, upper = np.maximum(roots - 1, 0) ** 2, np.minimum(roots + 1, 49) ** 2
    inner = (roots > 0) & (roots < 49)
    assert np.all((mixed >= (lower + labels) / 2) & (mixed <= (upper + labels) / 2))
    assert np.all(mixed[inner] != labels[inner])
    assert len(np.unique(np.sign(mixed - labels)[inner])) == 2


def test_nothing_is_blended_unless_asked_for() -> None:
    labels = jnp.arange(3.0)
    assert Augmentation().blended(jax.random.key(0), labels)[0] is labels
    with pytest.raises(ImagesError, match=r"blend is 1\.5; it must be between 0 and 1"):
        Augmentation(blend=1.5)
