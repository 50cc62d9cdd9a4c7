"""Images on their way into a network: normalisation, differences of bands, the 8 symmetries, augmentation.

An image is ``[y, x, band]`` in the archive's units. Nothing here knows a network or a redshift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Key

from inzitu.learn.fusion import unfused

SYMMETRIES = 8
# A flux of 1e25 times the noise. An archive may write 3e38 where it knows nothing; sums of such would not be finite.
FARTHEST = 60.0
# Enough to know a median to a thousandth of the noise.
_PIXELS_FOR_NOISE = 1_000_000


class ImagesError(ValueError):
    """The images cannot be what the training or the network needs."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """The scale of each band: a pixel of flux x becomes asinh(x / (softening sigma)).

    Linear in the noise and logarithmic in the stars, so that a difference of two bands is a colour (Lupton, Gunn &
    Szalay 1999, AJ 118, 1406, from whom the softening).

    Attributes
    ----------
    sigmas
        Noise of the sky in each band [unit of the images], measured on the training rows only.
    softening
        Flux where linear turns to logarithmic [sigma].
    """

    sigmas: tuple[float, ...]
    softening: float = 2.5

    def __post_init__(self) -> None:
        if not self.softening > 0:
            raise ImagesError(f"the softening is {self.softening}; it must be above 0, 2 to 3 is usual")
        for band, sigma in enumerate(self.sigmas):
            if not (np.isfinite(sigma) and sigma > 0):
                raise ImagesError(f"band {band} has a noise of {sigma}: all blank or constant; leave the band out")

    @classmethod
    def measure(cls, images: Float[np.ndarray, "n y x band"], *, softening: float = 2.5) -> Normalisation:
        """Measure the noise of each band where there is most sky: outside the circle inscribed in the stamp."""
        _, rows, columns, bands = images.shape
        y, x = np.mgrid[:rows, :columns]
        corners = np.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2) > min(rows, columns) / 2
        # A stamp too small to have corners gives all its pixels.
        sky = corners if corners.any() else np.ones_like(corners)
        some = images[:: max(1, len(images) * int(sky.sum()) // _PIXELS_FOR_NOISE)]
        return cls(tuple(_noise(some[:, sky, band]) for band in range(bands)), softening)

    def apply(self, images: Float[Array | np.ndarray, "*n y x band"]) -> Float[Array, "*n y x band"]:
        """Normalise images; a pixel that is not finite becomes 0, the value of empty sky; none passes `FARTHEST`."""
        if images.shape[-1] != len(self.sigmas):
            raise ImagesError(f"the images have {images.shape[-1]} bands, the normalisation {len(self.sigmas)}")
        pixels = jnp.asarray(images, jnp.float32)
        scaled = jnp.clip(jnp.arcsinh(pixels / self._scale()), -FARTHEST, FARTHEST)
        return jnp.where(jnp.isfinite(pixels), scaled, 0.0)

    def _scale(self) -> Float[Array, " band"]:
        return jnp.asarray(self.sigmas, jnp.float32) * jnp.float32(self.softening)

    def json(self) -> dict[str, object]:
        """Give what JSON can hold."""
        return {"form": "asinh", "sigmas": list(self.sigmas), "softening": self.softening}

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Normalisation:
        """Read what `json` gave."""
        if stored["form"] != "asinh":
            raise ImagesError(f"the normalisation {stored['form']!r} is not known; asinh is")
        sigmas, softening = stored["sigmas"], stored["softening"]
        assert isinstance(sigmas, list)
        assert isinstance(softening, (int, float))
        return cls(tuple(float(sigma) for sigma in sigmas), float(softening))


def _noise(pixels: Float[np.ndarray, "n pixel"]) -> float:
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    if not finite.size:
        return float("nan")
    return float(1.4826 * np.median(np.abs(finite - np.median(finite))))


def present(images: Float[Array | np.ndarray, "n y x band"]) -> Float32[Array, "n band"]:
    """Say which bands of which images hold a finite pixel at all: 1 or 0."""
    return jnp.any(jnp.isfinite(images), axis=(1, 2)).astype(jnp.float32)


def difference_matrix(bands: int) -> Float32[np.ndarray, "band channel"]:
    """Give the matrix from bands to channels: each band, then a - b for each pair a < b."""
    pairs = [(a, b) for a in range(bands) for b in range(a + 1, bands)]
    matrix = np.zeros((bands, bands + len(pairs)), np.float32)
    matrix[:, :bands] = np.eye(bands)
    for channel, (a, b) in enumerate(pairs, start=bands):
        matrix[a, channel], matrix[b, channel] = 1.0, -1.0
    return matrix


def differences(images: Float[Array, "n y x band"]) -> Float[Array, "n y x channel"]:
    """Give the bands and all their pairwise differences: 15 channels of 5 bands."""
    pairs = [
        images[..., [a]] - images[..., [b]] for a in range(images.shape[-1]) for b in range(a + 1, images.shape[-1])
    ]
    return jnp.concatenate([images, *pairs], axis=-1)


def crop(images: Float[Array, "n y x band"], size: int) -> Float[Array, "n i j band"]:
    """Cut the central `size` x `size` pixels out; of an odd remainder the larger half falls away at the end."""
    rows, columns = images.shape[1:3]
    if min(rows, columns) < size:
        raise ImagesError(
            f"the images are {rows} x {columns} pixels, at least {size} x {size} are needed: cut larger stamps"
        )
    top, left = (rows - size) // 2, (columns - size) // 2
    return images[:, top : top + size, left : left + size]


def symmetry(
    images: Float[Array, "n y x band"], index: Int[Array, ""] | Int[Array, " n"] | int
) -> Float[Array, "n y x band"]:
    """Turn or mirror square images by one of the 8 symmetries of the square; the bands keep their order.

    Parameters
    ----------
    images
        Images, as high as wide.
    index
        0 to 7, one for all or one an image: 1 mirrors the rows, 2 the columns, 4 swaps rows and columns afterwards.
    """
    if images.shape[1] != images.shape[2]:
        raise ImagesError(f"the images are {images.shape[1]} x {images.shape[2]} pixels: cut them square to turn them")
    bits = jnp.broadcast_to(jnp.asarray(index), images.shape[:1])[:, None, None, None]
    images = jnp.where(bits & 1, jnp.flip(images, axis=1), images)
    images = jnp.where(bits & 2, jnp.flip(images, axis=2), images)
    return jnp.where(bits & 4, jnp.swapaxes(images, 1, 2), images)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How a training image is varied each time it is seen.

    Attributes
    ----------
    symmetries
        Turn and mirror it at random.
    shift
        Move it by up to so many whole pixels in y and in x [pixel]. Where stamps are centred on their sources it costs
        more than it brings.
    noise
        Add so much normal noise to each pixel [sigma of the band].
    brightness
        Brighten or dim all bands together, normal with this deviation [mag].
    blend
        Let a random share, up to this one, come from the image of the batch whose label is next to its own; the labels
        and scalars go with it. Between two sources of nearly one redshift lies another that might be (C-Mixup; Yao et
        al. 2022, arXiv:2210.05775, with neighbours in rank for their kernel).
    """

    symmetries: bool = True
    shift: int = 0
    noise: float = 0.5
    brightness: float = 0.3
    blend: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "noise", "brightness"):
            if not 0 <= getattr(self, name) < 1000:
                raise ImagesError(f"augmentation: {name} is {getattr(self, name)}; it must be 0 or a little above")
        if not 0 <= self.blend <= 1:
            raise ImagesError(f"augmentation: blend is {self.blend}; it must be between 0 and 1")

    def within(self, images: Float[Array, "n y x band"], size: int) -> Float[Array, "n i j band"]:
        """Cut out what can come to lie in the central `size` x `size` pixels.

        An odd remainder is kept odd: the centre about which an image is turned is still its own.
        """
        least = min(images.shape[1:3])
        return crop(images, min(least, size + 2 * self.shift + (least - size) % 2))

    def apply(
        self, key: Key[Array, ""], images: Float[Array, "n y x band"], *, softening: float
    ) -> Float[Array, "n y x band"]:
        """Vary normalised images, each in its own way."""
        turn, move, brighten, sprinkle = jax.random.split(key, 4)
        n = images.shape[0]
        if self.symmetries:
            images = unfused(symmetry(images, jax.random.randint(turn, (n,), 0, SYMMETRIES)))
        if self.shift:
            images = _shifted(images, jax.random.randint(move, (n, 2), 0, 2 * self.shift + 1), self.shift)
        if self.brightness or self.noise:
            # In the flux, where brightness multiplies and noise adds: once there and back is also the cheapest.
            fluxes = jnp.sinh(images) * 10 ** (-0.4 * self.brightness * jax.random.normal(brighten, (n, 1, 1, 1)))
            if self.noise:
                grain = unfused(jax.random.normal(sprinkle, images.shape))
                fluxes = fluxes + self.noise / softening * grain
            images = unfused(jnp.arcsinh(fluxes))
        return images

    def blended(self, key: Key[Array, ""], labels: Float[Array, " n"], *values: Array) -> tuple[Array, ...]:
        """Blend labels, and whatever else has a first axis of rows, each with those of a neighbour in the label."""
        if not self.blend:
            return labels, *values
        weigh, side = jax.random.split(key)
        n = labels.shape[0]
        order = jnp.argsort(labels)
        rank = jnp.argsort(order) + 2 * jax.random.bernoulli(side, shape=(n,)) - 1
        partner = order[jnp.clip(rank, 0, n - 1)]
        share = self.blend * jax.random.uniform(weigh, (n,))

        def blend(rows: Array) -> Array:
            return unfused(rows + share.reshape(-1, *[1] * (rows.ndim - 1)) * (rows[partner] - rows))

        return blend(labels), *map(blend, values)


def _shifted(images: Float[Array, "n y x band"], steps: Int[Array, "n 2"], most: int) -> Float[Array, "n y x band"]:
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")

    def cut(image: Array, step: Array) -> Array:
        return jax.lax.dynamic_slice(image, (step[0], step[1], 0), images.shape[1:])

    shifted: Array = jax.vmap(cut)(padded, steps)
    return shifted
