"""Fluxes of the sources at the centres of images, whatever the seeing and wherever in a pixel they lie.

What an aperture holds depends on how wide the source is, in that band on that night, and on a fraction of a pixel in
where it lies: a tenth of a magnitude in a flux, half of that in a colour, more than the noise of a bright source. Here
each band's centre and width are found from the image itself; the aperture is laid there, and its flux is corrected for
what the width leaves outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from inzitu.learn.precision import pytree

# Deviations of what is expected: of a centre from that of the image [pixel], of ln(width) between a source's bands.
OFFSET, BETWEEN_BANDS = 0.35, 0.04
# No source is a Gaussian: the fit of one does not know more than so much, however bright [squared signal to noise].
MOST_KNOWN = 1500.0
# Width of the aperture in those of an average source: wider is safer against a wrong width, narrower against noise.
APERTURE = 1.5
STEPS = 4
# The most that a step moves a centre [pixel], and ln(width).
STRIDE, STRETCH = 0.4, 0.2


@pytree
@dataclass(frozen=True, slots=True)
class Widths:
    """How wide sources are expected to be, as Gaussians.

    Attributes
    ----------
    mean
        Mean of ln(width / pixel).
    deviation
        How far sources are from it, in all bands alike.
    """

    mean: Float[Array, " band"]
    deviation: Float[Array, ""]


@pytree
@dataclass(frozen=True, slots=True)
class Sources:
    """What was found at the centres.

    Attributes
    ----------
    fluxes
        In the unit of the images.
    noise
        Deviation that the noise of pixels gives the flux of an average source, whose aperture lies within the image.
    widths
        ln(width / pixel).
    known
        Information of the image on each width: its inverse is the variance.
    """

    fluxes: Float[Array, "n band"]
    noise: Float[Array, " band"]
    widths: Float[Array, "n band"]
    known: Float[Array, "n band"]


def expected(images: Float[Array, "n y x band"], noise: float) -> Widths:
    """Learn from some images how wide sources are; arguments as of `measure`."""
    first = Widths(jnp.full(images.shape[3], np.log(1.5)), jnp.float32(0.5))
    found = measure(images, noise, first, between_bands=0.3)
    known, widths = found.known, found.widths
    # One more source as first guessed, for a band that shows none.
    mean = (jnp.sum(known * widths, axis=0) + first.mean) / (jnp.sum(known, axis=0) + 1)
    square = jnp.sum(known * (widths - mean) ** 2) / (jnp.sum(known) + 1)
    return Widths(mean, jnp.maximum(jnp.sqrt(square), BETWEEN_BANDS))


def measure(
    images: Float[Array, "n y x band"], noise: float, widths: Widths, *, between_bands: float = BETWEEN_BANDS
) -> Sources:
    """Measure the source at the centre of each image.

    Its moments under the Gaussian found so far tell how that one's centre and width must change (adaptive moments:
    Bernstein & Jarvis 2002, AJ 123, 583). What noise hides of that comes from what is expected: centres near that of
    the image, widths that change for all bands alike.

    Parameters
    ----------
    images
        Fluxes of pixels.
    noise
        Deviation of a pixel.
    widths
        What to expect.
    between_bands
        Deviation that is expected of ln(width) between the bands of a source.
    """
    pixels = jnp.moveaxis(images, 0, 2)
    none = jnp.zeros(pixels.shape[2:])
    # Down, across; ln(width) beyond the mean, of all bands and of each besides.
    y, x, common, own = none, none, none[:, :1], none
    for _ in range(STEPS):
        width = jnp.exp(widths.mean + common + own)
        total, down, across, square = _moments(pixels, y, x, width)
        known = _known(total, width, noise)
        # A sum that noise made negative says nothing, nor does one that is all but nothing.
        total = jnp.where(total > 1e-20 * noise, total, jnp.inf)
        y, x = (_nearer(place, 2 * first / total, known / (2 * width**2)) for place, first in ((y, down), (x, across)))
        wider = jnp.clip(square / (total * width**2) - 1, -1, 1)
        common, own = _widened(common, own, wider, known, 1 / widths.deviation**2, 1 / between_bands**2)
    found, aperture = widths.mean + common + own, APERTURE * jnp.exp(widths.mean)
    width = jnp.exp(found)
    within, *_ = _moments(pixels, y, x, jnp.broadcast_to(aperture, width.shape))
    return Sources(
        # A Gaussian aperture holds this part of a Gaussian source.
        fluxes=within * (1 + (width / aperture) ** 2),
        noise=noise * np.sqrt(np.pi) * aperture * (1 + APERTURE**-2),
        widths=found,
        known=_known(_moments(pixels, y, x, width)[0], width, noise),
    )


def _nearer(
    place: Float[Array, "n band"], step: Float[Array, "n band"], known: Float[Array, "n band"]
) -> Float[Array, "n band"]:
    """Move centres by Newton's step to the most probable ones; `known` is the information on them."""
    expected = 1 / OFFSET**2
    return place + jnp.clip((known * step - expected * place) / (known + expected), -STRIDE, STRIDE)


def _widened(
    common: Float[Array, "n 1"],
    own: Float[Array, "n band"],
    step: Float[Array, "n band"],
    known: Float[Array, "n band"],
    of_all: Float[Array, ""],
    of_each: float,
) -> tuple[Float[Array, "n 1"], Float[Array, "n band"]]:
    """Change ln(width) by Newton's step to the most probable ones.

    The image asks each band for a step, and knows that much about it; what is expected holds the common part and each
    band's own with the precisions `of_all` and `of_each`. The own parts are eliminated from the joint equations first.
    """
    left = of_each / (known + of_each)
    asked = jnp.sum(left * known * (step + own), axis=1, keepdims=True) - of_all * common
    change = jnp.clip(asked / (jnp.sum(left * known, axis=1, keepdims=True) + of_all), -STRETCH, STRETCH)
    rest = jnp.clip((known * (step - change) - of_each * own) / (known + of_each), -STRETCH, STRETCH)
    return common + change, own + rest


def _moments(
    pixels: Float[Array, "y x n band"], y: Float[Array, "n band"], x: Float[Array, "n band"], width: Array
) -> tuple[Float[Array, "n band"], ...]:
    """Sum pixels under Gaussians, and those times their distance down, across, and square distance.

    The sources come last, so that a sum over pixels is one of whole vectors of sources.
    """
    down, across = (jnp.arange(size)[:, None, None] - (size - 1) / 2 for size in pixels.shape[:2])
    v, u = down - y, across - x
    below, beside = (jnp.exp(-(part**2) / (2 * width**2)) for part in (v, u))
    weighted = pixels * below[:, None] * beside
    v, u = v[:, None], u[None]
    return tuple(jnp.sum(weighted * factor, axis=(0, 1)) for factor in (1.0, v, u, v**2 + u**2))


def _known(total: Float[Array, "n band"], width: Float[Array, "n band"], noise: float) -> Float[Array, "n band"]:
    """Give the information on the width of a source: its squared signal to noise."""
    signal = jnp.maximum(total, 0) / (np.sqrt(np.pi) * noise * width)
    variance: Array = 1 / signal**2 + 1 / MOST_KNOWN
    return 1 / variance
