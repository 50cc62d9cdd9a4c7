"""The sky: HEALPix cells, coverage, crossmatch. Arrays in, arrays out; degrees in, arcseconds for separations.

A position is usable when its declination is within 90 degrees of the equator and its right ascension between -180 and
360 degrees. Any other (NaN, infinite, a placeholder such as -999) is a row that lies in no cell and matches nothing.
"""

from inzitu.sky.cells import cell29, cell_of, usable
from inzitu.sky.coverage import Coverage
from inzitu.sky.crossmatch import Pairs, crossmatch
from inzitu.sky.duplicates import duplicates

__all__ = ["Coverage", "Pairs", "cell29", "cell_of", "crossmatch", "duplicates", "usable"]
