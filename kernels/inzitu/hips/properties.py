"""The `properties` file of a HiPS (HiPS 1.0, section 4.4.1), as written since version 1.0 up to 1.4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from inzitu.sky.hats import keywords

DEEPEST = 29
"""The deepest HEALPix order whose pixels a 64-bit integer can number."""
FRAMES = {
    **dict.fromkeys(("equatorial", "C", "icrs", "ICRS"), "equatorial"),
    **dict.fromkeys(("galactic", "G"), "galactic"),
    **dict.fromkeys(("ecliptic", "E"), "ecliptic"),
}
BASE = float(np.degrees(np.sqrt(np.pi / 3)) * 3600)
"""Side of a square with the area of a HEALPix base cell [arcsec]."""


@dataclass(frozen=True, slots=True)
class Properties:
    """What a HiPS states about itself.

    Parameters
    ----------
    order
        HEALPix order of the deepest tiles.
    tile_width
        Pixels along a tile, a power of two.
    frame
        "equatorial", "galactic" or "ecliptic".
    formats
        Formats of the tiles: "fits", "png", "jpeg".
    native_scale
        Side of a pixel of the images that the HiPS was made from [arcsec], to which its values belong.
    stated
        All keywords as they stand in the file.
    """

    order: int
    tile_width: int
    frame: str
    formats: frozenset[str]
    native_scale: float
    stated: Mapping[str, str]

    @classmethod
    def parse(cls, text: str, *, where: str) -> Properties:
        """Read the text of a `properties` file.

        Parameters
        ----------
        text
            Lines of `key = value`; those that begin with # are comments. The last of two equal keys holds.
        where
            The HiPS, for messages.

        Raises
        ------
        ValueError
            A keyword that reading needs is missing, or its value is impossible.
        """
        if text.lstrip("\ufeff \r\n\t").startswith("<"):
            raise ValueError(f"{where}: in place of its properties is a web page (HTML); point at the base of a HiPS.")
        stated = keywords(text)
        order = _integer(stated, ("hips_order", "maxOrder"), None, where)
        width = _integer(stated, ("hips_tile_width",), 512, where)
        if width < 1 or width & (width - 1):
            raise ValueError(f"{where}: hips_tile_width is {width}; it must be a power of two.")
        if not 0 <= order <= DEEPEST - width.bit_length() + 1:
            raise ValueError(
                f"{where}: hips_order is {order}; with tiles of {width} pixels it is 0 to {30 - width.bit_length()}."
            )
        named = stated.get("hips_frame", stated.get("coordsys"))
        if named not in FRAMES:
            raise ValueError(f"{where}: hips_frame is {named}; it must be equatorial, galactic or ecliptic.")
        formats = frozenset(
            stated.get("hips_tile_format", stated.get("format", "fits")).lower().replace("jpg", "jpeg").split()
        )
        pixel = BASE / (width << order)
        native = _degrees(stated, "s_pixel_scale", pixel / 3600, where) * 3600
        return cls(order, width, FRAMES[named], formats, native, MappingProxyType(stated))

    @property
    def pixel_order(self) -> int:
        """HEALPix order of the pixels."""
        return self.order + self.tile_width.bit_length() - 1

    @property
    def pixel_scale(self) -> float:
        """Square root of the area of a HEALPix pixel [arcsec]."""
        return BASE / (self.tile_width << self.order)


def _integer(stated: Mapping[str, str], keys: tuple[str, ...], default: int | None, where: str) -> int:
    for key in keys:
        if key in stated:
            try:
                return int(stated[key])
            except ValueError:
                raise ValueError(f"{where}: {key} is {stated[key]!r}; it must be a whole number.") from None
    if default is None:
        raise ValueError(f"{where}: the properties state no {keys[0]}; add it, or point at the folder of a HiPS.")
    return default


def _degrees(stated: Mapping[str, str], key: str, default: float, where: str) -> float:
    try:
        value = float(stated.get(key, default))
    except ValueError:
        raise ValueError(f"{where}: {key} is {stated[key]!r}; it must be a number of degrees.") from None
    # Hipsgen states 1 degree for frames whose scale is in a PC matrix; no HiPS is 100 times finer than its images.
    return value if 0 < value < 100 * default else default
