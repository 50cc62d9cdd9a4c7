"""HiPS: properties, tiles, cutouts. Pixels come straight from FITS tiles where they lie, in a folder or by http(s)."""

from inzitu.hips.cutouts import RESAMPLINGS, Cutouts, Flag, Status, cutouts
from inzitu.hips.planning import bytes_to_read, groups
from inzitu.hips.reading import TileRead
from inzitu.hips.survey import Survey
from inzitu.hips.tiles import TileError

__all__ = [
    "RESAMPLINGS",
    "Cutouts",
    "Flag",
    "Status",
    "Survey",
    "TileError",
    "TileRead",
    "bytes_to_read",
    "cutouts",
    "groups",
]
