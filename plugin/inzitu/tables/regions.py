"""Regions of the sky as SQL sees them: lists of degrees, and the geometry of ADQL on them.

Two numbers are a point, three a circle (centre and radius), six or more a polygon (longitude and latitude of each
vertex); the DALI types point, circle and polygon are written the same way (DALI 1.1, section 3.3). All edges are
great circles; a polygon must fit into a hemisphere, and is the part of the sky inside it. Everything is computed on
unit vectors, so neither RA 0/360 nor the poles are special.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

type Vectors = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def vectors(lon: Vectors, lat: Vectors) -> Vectors:
    """Return unit vectors (.., 3) for longitudes and latitudes [deg]."""
    lon, lat = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def angle(a: Vectors, b: Vectors) -> Vectors:
    """Return the angle between unit vectors [deg], exact for small ones and for nearly opposite ones."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1)))


@dataclass(frozen=True, slots=True)
class Circle:
    """All directions at most `radius` [deg] from `centre`; a point is a circle of radius 0."""

    centre: Vectors
    radius: float

    def contains(self, points: Vectors) -> Mask:
        """Return which points (n, 3) lie inside or on the edge."""
        return angle(points, self.centre) <= self.radius

    @property
    def area(self) -> float:
        """Solid angle [deg2]."""
        return float(2 * np.pi * (1 - np.cos(np.radians(self.radius))) * np.degrees(1.0) ** 2)

    @property
    def centroid(self) -> Vectors:
        """The centre."""
        return self.centre

    @property
    def bounds(self) -> Circle:
        """The circle itself."""
        return self


@dataclass(frozen=True, slots=True)
class Polygon:
    """The inside of a closed line of great-circle arcs."""

    vertices: Vectors

    def __post_init__(self) -> None:
        if len(self.vertices) < 3:
            raise ValueError(f"a polygon of {len(self.vertices)} vertices; it needs at least 3")
        if not np.all(self.vertices @ self._middle > 1e-6):
            raise ValueError("a polygon that does not fit into a hemisphere; cut it into smaller ones")

    @property
    def _middle(self) -> Vectors:
        total = self.vertices.sum(axis=0)
        return np.asarray(total / max(np.linalg.norm(total), 1e-12))

    @property
    def _edges(self) -> tuple[Vectors, Vectors]:
        return self.vertices, np.roll(self.vertices, -1, axis=0)

    def contains(self, points: Vectors) -> Mask:
        """Return which points (n, 3) lie inside.

        Seen from the centre of the sphere on a plane, great circles are straight lines, so it is the plane's even-odd
        rule.
        """
        middle = self._middle
        east = np.cross(middle, np.eye(3)[np.argmin(np.abs(middle))])
        basis = np.stack([east, np.cross(middle, east)], axis=1)
        height = points @ middle
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = (points @ basis / height[:, None]).T
        inside = np.zeros(len(points), bool)
        plane = self.vertices @ basis / (self.vertices @ middle)[:, None]
        for (x1, y1), (x2, y2) in zip(plane, np.roll(plane, -1, axis=0), strict=True):
            if y1 != y2:
                inside ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
        return inside & (height > 0)

    def distance_to_edge(self, point: Vectors) -> float:
        """Return the least angle between a point and the edge [deg]."""
        a, b = self._edges
        normal = np.cross(a, b)
        norm = np.linalg.norm(normal, axis=1)
        abreast = (np.cross(normal, a) @ point >= 0) & (np.cross(normal, b) @ point <= 0) & (norm > 0)
        across = np.degrees(np.arcsin(np.clip(np.abs(normal @ point) / np.where(norm > 0, norm, 1), 0, 1)))
        return float(np.min(np.where(abreast, across, angle(a, point))))

    def crosses(self, other: Polygon) -> bool:
        """Whether an edge of one crosses an edge of the other."""
        a, b = (edge[:, None] for edge in self._edges)
        c, d = (edge[None] for edge in other._edges)
        first, second = np.cross(a, b), np.cross(c, d)
        meeting = np.cross(first, second)

        def on_both(x: Vectors) -> Mask:
            sides = ((first, a, b), (second, c, d))
            within = [(np.sum(np.cross(n, p) * x, -1) > 0) & (np.sum(np.cross(n, q) * x, -1) < 0) for n, p, q in sides]
            return np.asarray(within[0] & within[1])

        return bool(np.any(on_both(meeting) | on_both(-meeting)))

    @property
    def area(self) -> float:
        """Solid angle [deg2], by the excess of the triangles that its edges make with its middle."""
        a, b = self._edges
        c = self._middle
        volume = np.cross(a, b) @ c
        excess = 2 * np.arctan2(volume, 1 + np.sum(a * b, axis=1) + a @ c + b @ c)
        return float(abs(excess.sum()) * np.degrees(1.0) ** 2)

    @property
    def centroid(self) -> Vectors:
        """Direction of the mean position over the inside, which is an integral along the edge."""
        a, b = self._edges
        normal = np.cross(a, b)
        norm = np.linalg.norm(normal, axis=1, keepdims=True)
        total = np.sum(np.radians(angle(a, b))[:, None] * normal / np.where(norm > 0, norm, 1), axis=0)
        total = total * np.sign(total @ self._middle)
        return np.asarray(total / np.linalg.norm(total))

    @property
    def bounds(self) -> Circle:
        """A circle that holds the polygon."""
        return Circle(self._middle, float(angle(self.vertices, self._middle).max()) + 1e-9)


type Region = Circle | Polygon


def region(values: Sequence[float]) -> Region:
    """Return the region that a list of degrees stands for.

    Raises
    ------
    ValueError
        A latitude, a radius or the number of values is impossible.
    """
    numbers = np.asarray(values, float)
    positions = numbers[: len(numbers) - len(numbers) % 2].reshape(-1, 2) if len(numbers) != 3 else numbers[None, :2]
    if len(numbers) not in (2, 3) and (len(numbers) % 2 or len(numbers) < 6):
        raise ValueError(f"a region of {len(numbers)} values; a point has 2, a circle 3, a polygon 6 or more, in pairs")
    if np.any(np.abs(positions[:, 1]) > 90):
        raise ValueError(
            f"a latitude of {positions[np.argmax(np.abs(positions[:, 1])), 1]:g}; it must lie in -90 to 90"
        )
    corners = vectors(positions[:, 0], positions[:, 1])
    if len(numbers) >= 6:
        return Polygon(corners)
    radius = float(numbers[2]) if len(numbers) == 3 else 0.0
    if radius < 0:
        raise ValueError(f"a radius of {radius:g}; it cannot be negative")
    return Circle(corners[0], radius)


def contains(outer: Region, inner: Region) -> bool:
    """Whether `inner` lies wholly in `outer`."""
    match outer:
        case Circle():
            if isinstance(inner, Circle):
                return bool(angle(outer.centre, inner.centre) + inner.radius <= outer.radius)
            return bool(np.all(outer.contains(inner.vertices)))
        case Polygon():
            if isinstance(inner, Circle):
                inside = bool(outer.contains(inner.centre[None])[0])
                return inside and (inner.radius == 0 or outer.distance_to_edge(inner.centre) >= inner.radius)
            return bool(np.all(outer.contains(inner.vertices))) and not outer.crosses(inner)


def intersects(a: Region, b: Region) -> bool:
    """Whether two regions have a direction in common."""
    match a:
        case Circle():
            return bool(angle(a.centre, b.centre) <= a.radius + b.radius) if isinstance(b, Circle) else intersects(b, a)
        case Polygon():
            if isinstance(b, Circle):
                return bool(a.contains(b.centre[None])[0]) or a.distance_to_edge(b.centre) <= b.radius
            return bool(a.contains(b.vertices[:1])[0] or b.contains(a.vertices[:1])[0] or a.crosses(b))
