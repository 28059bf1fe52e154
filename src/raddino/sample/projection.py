"""Geometry of the synthetic radiograph: a camera, solids as intervals along its rays, and tubes as point masses.

Patient coordinates are centimetres: ``x`` towards the patient's left (image right in a frontal view), ``y``
downwards from the lung apices, ``z`` towards the front. Every array on the pixel grid is float32 (H, W).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

Array = np.ndarray
_NOWHERE = np.float32(-99.0)


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
    """

    size: int
    pitch: float
    turn: float = 0.0
    lean: float = 0.0
    offset: tuple[float, float] = (0.0, 0.0)
    beam: float = 12.0
    source: float = 180.0
    detector: float = 18.0

    @property
    def rotation(self) -> Array:
        """(3, 3) matrix from patient to camera coordinates; afterwards rays run along the last axis."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])

    def magnification(self, depth: Array | float) -> Array | float:
        """How much larger an object at ``depth`` (camera z, cm) appears on the detector."""
        return self.source / (self.source - abs(self.detector - depth))

    def axes(self, depth: float) -> tuple[Array, Array]:
        """Column and row coordinates (W,), (H,) in cm of the plane at ``depth``, before the lean."""
        steps = (np.arange(self.size, dtype=np.float32) - (self.size - 1) / 2) * self.pitch
        m = self.magnification(depth)
        return (steps + self.offset[0]) / m, self.beam + (steps + self.offset[1]) / m

    def coarser(self, step: int) -> "Camera":
        """The same field on a grid of about 1/step as many pixels a side."""
        size = -(-self.size // step)
        return replace(self, size=size, pitch=self.pitch * self.size / size)

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
    """Where each ray runs inside a convex solid: depths ``low`` to ``high`` (H, W), cm; low > high outside."""

    low: Array
    high: Array

    @property
    def length(self) -> Array:
        """Chord length, cm."""
        return np.maximum(self.high - self.low, 0)

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
            low, high = np.minimum(low, interval.low), np.maximum(high, interval.high)
        return Interval(low, high)


def _half_chord(squared: Array) -> Array:
    half = np.sqrt(np.maximum(squared, 0, out=squared))
    half[half <= 0] = _NOWHERE
    return half


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
        profile: heights y (H,) -> slice centre x, half width along x, centre z, half depth along z, each (H,).
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
        np.minimum(t2, 1, out=t2)
        squared = (1 - t2) * (1 + np.float32(self.squareness) * t2)
        half = _half_chord(squared) * np.maximum(depth, 1e-3).astype(np.float32)[:, None]
        middle = (cz * c - cx * s).astype(np.float32)[:, None]
        return Interval(middle - half, middle + half)


def splat(columns: Array, rows: Array, weight: Array, size: int) -> Array:
    """Sum point weights into a (size, size) grid, each shared bilinearly by its four pixels; outside is lost."""
    left, top = np.floor(columns), np.floor(rows)
    fx, fy = columns - left, rows - top
    wide = size + 3
    index = np.clip(top + 1, 0, size + 1).astype(np.int32) * wide
    index += np.clip(left + 1, 0, size + 1).astype(np.int32)
    right = weight * fx
    left_ = weight - right
    low, high = left_ * fy, right * fy
    out = np.bincount(index, left_ - low, minlength=wide * wide)
    for step, part in ((1, right - high), (wide, low), (wide + 1, high)):
        out[step:] += np.bincount(index, part, minlength=wide * wide)[:-step]
    return out.reshape(wide, wide)[1 : size + 1, 1 : size + 1].astype(np.float32)


@dataclass(frozen=True)
class Points:
    """Point masses: patient positions (..., 3) and the volume each stands for, cm^3 x density."""

    position: Array
    mass: Array

    def project(self, camera: Camera, keep: Callable[[Array, Array, Array], Array] | None = None) -> Array:
        """Path length through the points' matter, cm x density (H, W).

        ``keep`` maps (columns, rows, depth) to a factor per point: what lies where it cannot be counts 0.
        """
        columns, rows, depth = camera.project(self.position)
        m = camera.magnification(depth)
        weight = self.mass * (m / camera.pitch) ** 2
        if keep is not None:
            weight = weight * keep(columns, rows, depth)
        return splat(columns.ravel(), rows.ravel(), weight.ravel(), camera.size)

    @staticmethod
    def join(parts: Sequence["Points"]) -> "Points":
        """All points of several sets in one."""
        return Points(
            np.concatenate([part.position.reshape(-1, 3).astype(np.float32, copy=False) for part in parts]),
            np.concatenate([part.mass.ravel().astype(np.float32, copy=False) for part in parts]),
        )


def resample(path: Array, step: float) -> Array:
    """A polyline (K, 3) as a smooth curve (N, 3) with points about ``step`` cm apart."""
    from scipy.interpolate import CubicSpline

    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    if len(path) == 2:
        return path[0] + np.linspace(0, 1, max(2, int(lengths[-1] / step) + 1))[:, None] * (path[1] - path[0])
    return CubicSpline(lengths, path)(np.linspace(0, lengths[-1], max(2, int(lengths[-1] / step) + 1)))


def tube(path: Array, radius: Array, camera: Camera, wall: float = 0.0, density: Array | float = 1.0) -> Points:
    """Round tubes along paths.

    Args:
        path: centre lines (..., K, 3), cm, points spaced about a pixel or less.
        radius: (..., K) or broadcastable, cm.
        wall: thickness of the wall as a share of the radius; 0 is a solid rod.
        density: (..., K) or broadcastable, per cm of path.

    Returns:
        Points (..., K, T) spread across each tube in the camera's image plane.
    """
    turn = camera.rotation.astype(np.float32)
    path = path.astype(np.float32)
    tangent = np.gradient(path, axis=-2)
    step = np.sqrt(np.einsum("...i,...i->...", tangent, tangent))
    seen = tangent @ turn.T
    normal = np.stack([seen[..., 1], -seen[..., 0], np.zeros_like(seen[..., 0])], -1)
    normal /= np.maximum(np.sqrt(seen[..., 0] ** 2 + seen[..., 1] ** 2), 1e-6)[..., None]
    radius = np.broadcast_to(np.asarray(radius, dtype=np.float32), step.shape)
    count = max(1, int(np.ceil(2.0 * radius.max() / camera.pitch)))
    offsets = ((np.arange(count, dtype=np.float32) + 0.5) * 2 / count - 1).astype(np.float32)
    chord = np.sqrt(1 - offsets**2)
    if wall > 0:
        chord = chord - (1 - wall) * np.sqrt(np.maximum(1 - (offsets / (1 - wall)) ** 2, 0))
    chord *= 2 * 2 / count
    if wall == 0:
        chord *= np.pi / chord.sum()
    across = (normal @ turn) * radius[..., None]
    position = path[..., None, :] + offsets[:, None] * across[..., None, :]
    mass = (radius**2 * step * density)[..., None] * chord
    return Points(position, mass)
