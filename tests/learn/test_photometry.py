"""Photometry of sources at the centres of images: against sources of known flux, and a minimisation by scipy."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from inzitu.learn import photometry
from inzitu.learn.photometry import Widths, expected, measure

BANDS = 3
SIDE = 20
EXPECTED = Widths(jnp.log(jnp.array([1.6, 1.4, 1.3])), jnp.float32(0.2))


def gaussian(width: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return sources of flux 1 [n, y, x, band]."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    v, u = rows[..., None, None] - y, columns[..., None, None] - x
    return np.moveaxis(np.exp(-(v**2 + u**2) / (2 * width**2)) / (2 * np.pi * width**2), 2, 0)


def sources(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ln(width) and images of flux 1, each band somewhere else in its pixel."""
    widths = np.asarray(EXPECTED.mean) + 0.15 * rng.normal(size=(count, 1)) + 0.03 * rng.normal(size=(count, BANDS))
    y, x = rng.uniform(-0.5, 0.5, (2, count, BANDS))
    return widths, gaussian(np.exp(widths), y, x)


def test_bright_sources_have_their_flux_whatever_their_width_and_place() -> None:
    widths, images = sources(np.random.default_rng(0), 200)
    fluxes = np.random.default_rng(1).uniform(1000, 3000, (200, BANDS))
    found = measure(jnp.asarray(images * fluxes[:, None, None]), 1.0, EXPECTED)
    ratio = np.asarray(found.fluxes) / fluxes
    assert np.abs(ratio - 1).max() < 0.03
    assert ratio.std() < 0.01
    assert np.asarray(found.widths - widths).std() < 0.015
    # The same aperture laid where the source should be, as wide as it should be.
    still = Widths(EXPECTED.mean, jnp.float32(1e-3))
    with pytest.MonkeyPatch.context() as held:
        held.setattr(photometry, "OFFSET", 1e-3)
        laid = (
            np.asarray(measure(jnp.asarray(images * fluxes[:, None, None]), 1.0, still, between_bands=1e-3).fluxes)
            / fluxes
        )
    assert laid.std() > 5 * ratio.std()


def test_the_fit_is_the_most_probable_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photometry, "STEPS", 60)
    monkeypatch.setattr(photometry, "MOST_KNOWN", np.inf)
    rng = np.random.default_rng(2)
    _, images = sources(rng, 6)
    noisy = images * np.array([40.0, 90.0, 200.0]) + rng.normal(size=images.shape)
    found = measure(jnp.asarray(noisy, jnp.float32), 1.0, EXPECTED)

    def surprise(place: np.ndarray, image: np.ndarray) -> float:
        """Return -ln of the posterior, the flux of each band being the best there is."""
        y, x, own, common = place[:BANDS], place[BANDS : 2 * BANDS], place[2 * BANDS : 3 * BANDS], place[-1]
        width = np.exp(np.asarray(EXPECTED.mean) + common + own)
        shape = gaussian(width[None], y[None], x[None])[0]
        flux = (shape * image).sum((0, 1)) / (shape**2).sum((0, 1))
        chi = ((image - flux * shape) ** 2).sum()
        prior = ((y**2 + x**2) / photometry.OFFSET**2 + own**2 / photometry.BETWEEN_BANDS**2).sum() + common**2 / 0.2**2
        return float(chi + prior) / 2

    for image, widths, fluxes, known in zip(
        noisy, *map(np.asarray, (found.widths, found.fluxes, found.known)), strict=True
    ):
        best = optimize.minimize(surprise, np.zeros(3 * BANDS + 1), args=(image,), method="BFGS", tol=1e-9).x
        y, x, width = best[:BANDS], best[BANDS : 2 * BANDS], np.exp(EXPECTED.mean + best[-1] + best[2 * BANDS : -1])
        np.testing.assert_allclose(np.exp(widths), width, rtol=2e-3)
        # The flux within the aperture there, and what of a source of that width is outside.
        aperture = photometry.APERTURE * np.exp(np.asarray(EXPECTED.mean))
        weights, shape = (gaussian(values[None], y[None], x[None])[0] for values in (aperture, width))
        within = (2 * np.pi * aperture**2 * weights * image).sum((0, 1))
        np.testing.assert_allclose(fluxes, within / (aperture**2 / (aperture**2 + width**2)), rtol=5e-3)
        signal = (shape * image).sum((0, 1)) / np.sqrt((shape**2).sum((0, 1)))
        np.testing.assert_allclose(known, signal**2, rtol=1e-2)


def test_a_few_steps_are_as_good_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    _, images = sources(rng, 200)
    noisy = jnp.asarray(images * rng.uniform(20, 500, (200, 1, 1, BANDS)) + rng.normal(size=images.shape), jnp.float32)
    few = measure(noisy, 1.0, EXPECTED)
    monkeypatch.setattr(photometry, "STEPS", 60)
    many = measure(noisy, 1.0, EXPECTED)
    assert float(np.median(np.abs(few.fluxes - many.fluxes) / few.noise)) < 0.02
    assert float(np.quantile(np.abs(few.fluxes - many.fluxes) / few.noise, 0.95)) < 0.2


def test_what_noise_hides_is_as_expected() -> None:
    rng = np.random.default_rng(3)
    images = rng.normal(size=(500, SIDE, SIDE, BANDS))
    images[0], images[1], images[2] = 0.0, -50.0, 1e30
    images[3:20] *= 1e-37
    narrow = Widths(jnp.full(BANDS, jnp.log(0.3)), jnp.float32(0.2))
    assert np.isfinite(np.asarray(measure(jnp.asarray(images, jnp.float32), 1.0, narrow).fluxes)).all()
    found = measure(jnp.asarray(images, jnp.float32), 1.0, EXPECTED)
    assert all(np.isfinite(np.asarray(part)).all() for part in (found.fluxes, found.widths, found.known))
    np.testing.assert_allclose(found.widths[:2], np.broadcast_to(EXPECTED.mean, (2, BANDS)), atol=1e-6)
    # The fit seeks the noise's peaks: its fluxes are a little too large, and vary by what is said.
    empty = np.asarray(found.fluxes[20:])
    assert np.abs(np.mean(empty, axis=0) / found.noise).max() < 0.3
    np.testing.assert_allclose(np.std(empty, axis=0), found.noise, rtol=0.2)


def test_widths_are_learned_from_images_and_a_band_without_sources_teaches_nothing() -> None:
    rng = np.random.default_rng(4)
    widths, images = sources(rng, 400)
    images = images * np.array([300.0, 300.0, 0.0]) + rng.normal(size=images.shape)
    found = expected(jnp.asarray(images, jnp.float32), 1.0)
    np.testing.assert_allclose(found.mean[:2], widths.mean(axis=0)[:2], atol=0.02)
    assert abs(float(found.mean[2]) - np.log(1.5)) < 0.5
    assert 0.1 < float(found.deviation) < 0.25
    same = expected(jnp.repeat(jnp.asarray(images[:1], jnp.float32), 50, axis=0), 1.0)
    assert float(same.deviation) >= 0.99 * photometry.BETWEEN_BANDS
