"""How unlike the training rows an image is: the distance of its features to their nearest neighbours.

The features are what a network's last layer sees, over all members; what it cannot tell apart is not told apart here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

NEIGHBOURS = 5
# Directions in which the training rows differ by less than this share of the largest difference are noise.
_LEAST_SHARE = 1e-3
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
        centre, directions = self._whitening()
        known = (self.features - centre) @ directions
        tree = cKDTree(known)
        count = min(NEIGHBOURS, len(known) - 1)
        # Of a training row the nearest is itself.
        own = np.sort(tree.query(known, k=count + 1)[0][:, -1])
        distance = np.reshape(tree.query((features - centre) @ directions, k=[count])[0], -1)
        return np.searchsorted(own, distance) / len(own)

    def _whitening(self) -> tuple[np.ndarray, np.ndarray]:
        centre = self.features.mean(axis=0)
        _, lengths, directions = np.linalg.svd(self.features - centre, full_matrices=False)
        kept = lengths > _LEAST_SHARE * lengths[0]
        return centre, directions[kept].T * (np.sqrt(len(self.features)) / lengths[kept])
