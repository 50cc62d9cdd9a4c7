"""How unlike the training rows an image is: the distance of its features to their nearest neighbours.

The features are what a network's last layer sees, over all members; what it cannot tell apart is not told apart here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

NEIGHBOURS = 5
MOST_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Familiar:
    """The training rows' features.

    Attributes
    ----------
    features
        Features of the training rows, or of some of them.
    """

    features: Float[np.ndarray, "m f"]

    def strangeness(self, features: Float[np.ndarray, "n f"]) -> Float[np.ndarray, " n"]:
        """Give the share of training rows that are less far from the others than each of these is: 0 to 1."""
        tree = cKDTree(self.features)
        count = min(NEIGHBOURS, len(self.features) - 1)
        # Of a training row the nearest is itself.
        own = np.sort(tree.query(self.features, k=[count + 1])[0][:, 0])
        distance = tree.query(features, k=[count])[0][:, 0]
        return np.asarray(np.searchsorted(own, distance) / len(own))
