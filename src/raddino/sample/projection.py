"""Geometry of the synthetic radiograph: a camera, solids as intervals of its rays, tubes as point masses.

Patient coordinates are centimetres: ``x`` towards the patient's left (image right in a frontal view), ``y``
downwards from the lung apices, ``z`` towards the front. Every array on the pixel grid is float32 (H, W).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray
_CHUNK = 1 << 14
"""Points handled at a time, so that they stay in the processor's cache."""


@dataclass(frozen=True)
class Camera:
    """An X-ray source, a detector, and how the patient stands between them.

    Rays are parallel to the beam axis; the cone of the beam enters as the magnification of each object at its
    own depth, so that the heart is larger in AP than in PA.

    Args:
        size: detector pixels along each side.
        pitch: detector pixel, cm.
        turn: rotation of the patient about the vertical axis, radians; 0 frontal, -pi/2 left lateral.
        lean: sideways lean of the patient (shear), cm per cm.
        offset: shift (u, v) of the detector's centre against the beam, cm.
        beam: height ``y`` of the beam axis, cm.
        source: distance of source and detector, cm.
        detector: depth of the detector plane, cm; the source is on the other side of the patient.
        window: the rows and columns that are wanted, for work on a part of the image; None is all.
    """

    size: int
    pitch: float
    turn: float = 0.0
    lean: float = 0.0
    offset: tuple[float, float] = (0.0, 0.0)
    beam: float = 12.0
    source: float = 180.0
    detector: float = 18.0
    window: tuple[slice, slice] | None = None

    @property
    def rotation(self) -> Array:
        """(3, 3) matrix from patient to camera coordinates; afterwards rays run along the last axis."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])

    def magnification(self, depth: Any) -> Any:
        """How much larger an object at ``depth`` (camera z, cm) appears on the detector."""
        return self.source / (self.source - abs(self.detector - depth))

    def axes(self, depth: float) -> tuple[Array, Array]:
        """Coordinates (cm) of the window's columns (W,) and rows (H,) at a depth, without the lean."""
        steps = (np.arange(self.size, dtype=np.float32) - (self.size - 1) / 2) * self.pitch
        m = self.magnification(depth)
        rows, columns = self.window or (slice(None), slice(None))
        return (steps[columns] + self.offset[0]) / m, self.beam + (steps[rows] + self.offset[1]) / m

    def coarser(self, step: int) -> "Camera":
        """The same field on a grid of about 1/step as many pixels a side."""
        size = -(-self.size // step)
        return replace(self, size=size, pitch=self.pitch * self.size / size)

    def around(self, centre: Any, reach: Any) -> "Camera":
        """The same camera with a window that shows all within ``reach`` (x, y, z) of a place, cm."""
        return self.on(np.subtract(centre, reach).tolist(), np.add(centre, reach).tolist())

    def on(self, low: Sequence[float], high: Sequence[float]) -> "Camera":
        """The same camera with the window that shows the box between two patient corners (x, y, z)."""
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), -1).reshape(-1, 3)
        columns, rows, _ = self.project(corners)
        ends = [(int(np.floor(v.min())), int(np.ceil(v.max())) + 1) for v in (rows, columns)]
        a, b = (slice(*np.clip(pair, 0, self.size).tolist()) for pair in ends)
        return replace(self, window=(a, b))

    def project(self, points: Array) -> tuple[Array, Array, Array]:
        """Columns, rows (pixels) and depths (cm) of patient points (..., 3)."""
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        c, s = float(np.cos(self.turn)), float(np.sin(self.turn))
        depth = z * c - x * s
        height = y - self.beam
        m = self.magnification(depth)
        across = x * c + z * s + self.lean * height
        centre = (self.size - 1) / 2
        columns = (across * m - self.offset[0]) / self.pitch + centre
        rows = (height * m - self.offset[1]) / self.pitch + centre
        return columns, rows, depth


@dataclass(frozen=True)
class Interval:
    """Depths ``low`` to ``high`` (H, W), cm, of each ray inside a convex solid; NaN or low > high outside."""

    low: Array
    high: Array

    @property
    def length(self) -> Array:
        """Chord length, cm."""
        return np.fmax(self.high - self.low, 0)

    @property
    def inside(self) -> Array:
        """The silhouette, bool."""
        return self.high > self.low

    def __and__(self, other: "Interval") -> "Interval":
        return Interval(np.maximum(self.low, other.low), np.minimum(self.high, other.high))

    @staticmethod
    def hull(intervals: Sequence["Interval"]) -> "Interval":
        """Smallest interval that holds all: the union where they touch."""
        low, high = intervals[0].low, intervals[0].high
        for interval in intervals[1:]:
            low, high = np.fmin(low, interval.low), np.fmax(high, interval.high)
        return Interval(low, high)


def _half_chord(squared: Array) -> Array:
    """Square root in place; NaN where the ray misses."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(squared, out=squared)


@dataclass(frozen=True)
class Ellipsoid:
    """Centre (3,), half axes (3,) in cm, and a rotation (3, 3) of the axes."""

    centre: tuple[float, float, float] | Array
    axes: tuple[float, float, float] | Array
    rotation: Array | None = None

    def interval(self, camera: Camera) -> Interval:
        """Intersection with every ray."""
        turn = camera.rotation
        cx, cy, cz = turn @ np.asarray(self.centre, dtype=float)
        frame = turn if self.rotation is None else turn @ self.rotation
        a = (frame / np.asarray(self.axes, dtype=float) ** 2) @ frame.T
        u, v = camera.axes(float(cz))
        dy = (v - cy)[:, None]
        shift = (camera.lean * (v - camera.beam) + cx)[:, None]
        kx, ky = a[0, 2] / a[2, 2], a[1, 2] / a[2, 2]
        xx = a[0, 0] / a[2, 2] - kx * kx
        xy = a[0, 1] / a[2, 2] - kx * ky
        yy = a[1, 1] / a[2, 2] - ky * ky
        linear = 2 * (xx * shift - xy * dy)
        constant = 1 / a[2, 2] - xx * shift**2 + 2 * xy * dy * shift - yy * dy**2
        x = u[None].astype(np.float32)
        squared = (x * np.float32(-xx) + linear.astype(np.float32)) * x + constant.astype(np.float32)
        middle = (cz - ky * dy + kx * shift).astype(np.float32) - np.float32(kx) * x
        half = _half_chord(squared)
        return Interval(middle - half, middle + half)


Profile = Callable[[Array], tuple[Array, Array, Array, Array]]


@dataclass(frozen=True)
class Stack:
    """A pile of horizontal superelliptic slices.

    Args:
        profile: heights y (H,) -> centre x, half width along x, centre z, half depth along z, each (H,).
            A half width of 0 or less means no slice there.
        squareness: 0 elliptic slices, 1 slices like x^4 + z^4 = 1.
        anchor: patient (x, z) whose depth sets the magnification.
    """

    profile: Profile
    squareness: float = 0.0
    anchor: tuple[float, float] = (0.0, 0.0)

    def interval(self, camera: Camera) -> Interval:
        """Intersection with every ray."""
        c, s = np.cos(camera.turn), np.sin(camera.turn)
        u, v = camera.axes(float(self.anchor[1] * c - self.anchor[0] * s))
        cx, a, cz, b = self.profile(v)
        width, depth = np.hypot(a * c, b * s), np.hypot(a * s, b * c)
        centre = cx * c + cz * s + camera.lean * (v - camera.beam)
        there = (a > 1e-3) & (b > 1e-3)
        scale = np.where(there, 1 / np.maximum(width, 1e-3), 0).astype(np.float32)[:, None]
        offset = np.where(there, centre * scale[:, 0], 2).astype(np.float32)[:, None]
        t2 = u[None].astype(np.float32) * scale - offset
        t2 *= t2
        squared = (1 - t2) * (1 + np.float32(self.squareness) * np.minimum(t2, 1))
        half = _half_chord(squared) * np.maximum(depth, 1e-3).astype(np.float32)[:, None]
        middle = (cz * c - cx * s).astype(np.float32)[:, None]
        return Interval(middle - half, middle + half)


def splat(columns: Array, rows: Array, weight: Array, shape: tuple[int, int]) -> Array:
    """Sum point weights into a grid of that shape, shared bilinearly by four pixels; outside is lost."""
    height, wide = shape[0] + 4, shape[1] + 4
    out = np.zeros(height * wide, np.float32)
    for first in range(0, len(columns), _CHUNK):
        part = slice(first, first + _CHUNK)
        left, top = np.floor(columns[part]), np.floor(rows[part])
        fx, fy = columns[part] - left, rows[part] - top
        index = np.clip(top + 2, 0, shape[0] + 2).astype(np.int64) * wide
        index += np.clip(left + 2, 0, shape[1] + 2).astype(np.int64)
        right = weight[part] * fx
        rest = weight[part] - right
        low, high = rest * fy, right * fy
        for step, share in ((0, rest - low), (1, right - high), (wide, low), (wide + 1, high)):
            np.add.at(out, index + step, share)
    return out.reshape(height, wide)[2:-2, 2:-2]


@dataclass(frozen=True)
class Points:
    """Projected point masses: columns and rows (N,) in pixels, and the path (N,) each gives a pixel, cm."""

    columns: Array
    rows: Array
    weight: Array

    @classmethod
    def at(cls, position: Array, mass: Array, camera: Camera) -> "Points":
        """Points at patient positions (..., 3) that stand for volumes (...,), cm^3 times density."""
        columns, rows, depth = camera.project(position.astype(np.float32))
        weight = mass * (camera.magnification(depth) / camera.pitch) ** 2
        return cls(*(np.asarray(v, dtype=np.float32).ravel() for v in (columns, rows, weight)))

    @classmethod
    def join(cls, parts: Sequence["Points"]) -> "Points":
        """All points of several sets in one."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("columns", "rows", "weight")))

    def image(self, camera: Camera) -> Array:
        """Path length through the points' matter in the camera's window (H, W), cm times density."""
        if camera.window is None:
            return splat(self.columns, self.rows, self.weight, (camera.size, camera.size))
        rows, columns = camera.window
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        return splat(self.columns - np.float32(columns.start), self.rows - np.float32(rows.start), self.weight, shape)


def resample(path: Array, step: float) -> Array:
    """A smooth curve (N, 3) through corners (K, 3), points about ``step`` cm apart (Catmull-Rom)."""
    path = np.asarray(path, dtype=np.float32)
    length = np.sqrt(np.sum(np.diff(path, axis=0) ** 2, -1))
    at = np.concatenate([[0], np.cumsum(length)])
    where = np.linspace(0, at[-1], max(2, int(at[-1] / step) + 1))
    i = np.minimum(np.searchsorted(at, where, side="right") - 1, len(length) - 1)
    t = ((where - at[i]) / length[i])[:, None].astype(np.float32)
    slope = np.gradient(path, at, axis=0) if len(path) > 2 else np.diff(path, axis=0)[[0, 0]] / length[0]
    begin, end = slope[i] * length[i, None], slope[i + 1] * length[i, None]
    t2, t3 = t * t, t * t * t
    curve = (2 * t3 - 3 * t2 + 1) * path[i] + (t3 - 2 * t2 + t) * begin
    return (curve + (3 * t2 - 2 * t3) * path[i + 1] + (t3 - t2) * end).astype(np.float32)


def _spread(columns: Array, rows: Array, du: Array, dv: Array, weight: Array, profile: Array) -> Points:
    """Points (..., K) drawn out to bands (..., K, T) of half width (du, dv) pixels."""
    offsets = (np.arange(len(profile), dtype=np.float32) * 2 + 1) / np.float32(len(profile)) - 1
    return Points(
        (columns[..., None] + du[..., None] * offsets).ravel(),
        (rows[..., None] + dv[..., None] * offsets).ravel(),
        (weight.astype(np.float32)[..., None] * profile.astype(np.float32)).ravel(),
    )


def ribbon(path: Array, across: Array, mass: Array, profile: Array, camera: Camera) -> Points:
    """Bands of point masses on both sides of paths.

    Args:
        path: centre lines (..., K, 3), cm.
        across: half the band's width as a vector (..., K, 3), cm.
        mass: (..., K), cm^3 times density at each step of the path.
        profile: (T,) shares of the mass from edge to edge.
    """
    columns, rows, depth = camera.project(path.astype(np.float32))
    columns1, rows1, _ = camera.project((path + across).astype(np.float32))
    weight = mass * (camera.magnification(depth) / camera.pitch) ** 2
    return _spread(columns, rows, columns1 - columns, rows1 - rows, weight, profile)


def _slope(values: Array) -> Array:
    """Differences along the last axis: central, one-sided at both ends."""
    out = np.empty_like(values)
    out[..., 1:-1] = (values[..., 2:] - values[..., :-2]) / 2
    out[..., 0], out[..., -1] = values[..., 1] - values[..., 0], values[..., -1] - values[..., -2]
    return out


def tube(path: Array, radius: Array | float, camera: Camera, wall: float = 0.0, density: Array | float = 1.0) -> Points:
    """Round tubes along paths.

    Args:
        path: centre lines (..., K, 3), cm, points spaced about a pixel or less.
        radius: (..., K) or broadcastable, cm.
        wall: thickness of the wall as a share of the radius; 0 is a solid rod.
        density: (..., K) or broadcastable, per cm of path.
    """
    columns, rows, depth = camera.project(path.astype(np.float32, copy=False))
    scale = camera.magnification(depth) / np.float32(camera.pitch)
    du, dv, deeper = _slope(columns), _slope(rows), _slope(depth)
    seen = du * du + dv * dv
    step = np.sqrt(seen / (scale * scale) + deeper * deeper)
    radius = np.asarray(radius, dtype=np.float32)
    half = radius * scale / np.sqrt(np.maximum(seen, 1e-12))
    count = max(1, int(np.ceil(1.8 * radius.max() / camera.pitch)))
    offsets = (np.arange(count) + 0.5) * 2 / count - 1
    profile = np.sqrt(1 - offsets**2)
    if wall > 0:
        profile -= (1 - wall) * np.sqrt(np.maximum(1 - (offsets / (1 - wall)) ** 2, 0))
    profile *= np.pi * (1 - (1 - wall) ** 2 if wall else 1) / profile.sum()
    weight = radius * radius * step * scale * scale * density
    return _spread(columns, rows, dv * half, -du * half, weight, profile)
