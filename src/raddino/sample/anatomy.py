"""The body's frame and the organs of the chest: lungs, diaphragm, heart, great vessels, mediastinum."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import PchipInterpolator

from raddino.sample.patient import Patient
from raddino.sample.projection import Array, Ellipsoid, Stack

_STEPS = np.linspace(-1.0, 2.0, 601)
SIDES = ("right", "left")


def sign(side: str) -> int:
    """-1 for the patient's right (image left), +1 for the left."""
    return -1 if side == "right" else 1


def _table(knots: Sequence[tuple[float, float]]) -> Array:
    at, value = zip(*knots, strict=True)
    return PchipInterpolator(at, value, extrapolate=False)(np.clip(_STEPS, at[0], at[-1]))


# Shares of the chest's half width or half depth, by height as a share of the lung's height (0 apex, 1 angle).
_LATERAL = _table(
    [(0, 0.50), (0.08, 0.63), (0.2, 0.785), (0.35, 0.90), (0.5, 0.955), (0.68, 0.99), (0.85, 1), (1.2, 0.97)]
)
_MEDIAL = _table([(0, 0.19), (0.1, 0.15), (0.3, 0.11), (0.6, 0.07), (1.2, 0.04)])
_DEPTH = _table([(0, 0.50), (0.1, 0.62), (0.3, 0.86), (0.6, 1.0), (0.9, 1.0), (1.2, 0.9)])
_FORWARD = _table([(0, -0.30), (0.2, -0.16), (0.5, 0.0), (0.9, -0.02), (1.2, -0.12)])
_PEDICLE = _table(
    [
        (-0.4, 0.24),
        (-0.1, 0.23),
        (0.0, 0.21),
        (0.15, 0.185),
        (0.3, 0.20),
        (0.45, 0.21),
        (0.7, 0.22),
        (1.0, 0.26),
    ]
)
_SPINE = _table(
    [
        (-0.5, -0.12),
        (-0.2, -0.28),
        (0, -0.52),
        (0.25, -0.78),
        (0.5, -0.88),
        (0.75, -0.82),
        (1, -0.64),
        (1.4, -0.45),
    ]
)


def _at(table: Array, t: Array | float) -> Array:
    return np.interp(t, _STEPS, table)


@dataclass(frozen=True)
class Anatomy:
    """A patient's body as solids and tubes, in a given state of breath and disease.

    Args:
        patient: whose body.
        heart_ratio: cardiothoracic ratio.
        breath: depth of inspiration, 1 full.
        supine: lying: shoulders forward, scapulae over the lungs, diaphragm high.
        shift: displacement of the mediastinum to the patient's left, cm.
    """

    patient: Patient
    heart_ratio: float
    breath: float = 1.0
    supine: bool = False
    shift: float = 0.0

    @cached_property
    def size(self) -> float:
        """Body length against 1.72 m."""
        return self.patient.height / 1.72

    @cached_property
    def width(self) -> float:
        """Half of the inner chest's largest width, cm."""
        p = self.patient
        return (13.6 if p.male else 12.7) * self.size**0.6 * (1 + 0.05 * p.frame + 0.004 * (p.bmi - 25))

    @cached_property
    def depth(self) -> float:
        """Half of the inner chest's largest depth, cm."""
        p = self.patient
        build = 0.006 * (p.bmi - 25) + 0.09 * p.ageing + 0.12 * p.hyperinflation
        return (8.2 if p.male else 7.6) * self.size**0.6 * (1 + 0.04 * p.frame + build)

    @cached_property
    def lung(self) -> float:
        """Height of the lung from apex to costophrenic angle, cm."""
        p = self.patient
        share = 0.95 + 0.1 * self.quirks[54] + 0.07 * p.hyperinflation - 0.05 * p.kyphosis
        full = (26.6 if p.male else 25.4) * self.size * share
        return full * (0.62 + 0.38 * self.breath - 0.003 * max(0.0, p.bmi - 27))

    @cached_property
    def fat(self) -> float:
        """Thickness of the fat under the skin, cm."""
        p = self.patient
        return float(np.clip(0.14 * (p.bmi - 18) + (0 if p.male else 0.25), 0.35, 4.2))

    @cached_property
    def quirks(self) -> Array:
        """Uniform deviates (64,) in [0, 1) that make this body unlike others of its kind."""
        return np.random.default_rng([self.patient.seed, 3, self.patient.index]).random(64)

    def bend(self, y: Array | float) -> Array:
        """How far back (negative z) the spine and what hangs on it lie at height y, cm, from kyphosis."""
        t = np.asarray(y) / self.lung - 0.35
        return self.patient.kyphosis * (2.2 * t * t - 0.9)

    def vertebra(self, number: Array | int) -> Array:
        """Height of a thoracic vertebra and of its rib's head, cm; 0 is the first, below 0 the neck's."""
        i, p = np.asarray(number, dtype=float), self.patient
        pitch = 2.28 * self.size * (1 - 0.06 * p.kyphosis) * (0.9 + 0.1 * self.breath)
        return 0.6 * self.quirks[33] - 1.8 + pitch * (0.9 * i + 0.016 * i * np.abs(i))

    def spine(self, y: Array | float) -> Array:
        """Depth coordinate of the vertebral bodies at height y, cm."""
        t = np.asarray(y) / self.lung
        return self.depth * _at(_SPINE, t) + 0.8 * self.bend(y) * np.clip(t + 0.4, 0, 1)

    def lateral(self, y: Array | float) -> Array:
        """Distance of the inner chest wall from the midline at height y, cm."""
        outer, inner, apex = self._borders(np.asarray(y) / self.lung)
        return (outer + inner) / 2 + (outer - inner) / 2 * np.maximum(apex, 0.25)

    def _borders(self, t: Array) -> tuple[Array, Array, Array]:
        """Outer and inner border of the lung (cm from the midline), and how far its apex is open (0 to 1)."""
        apex = np.sqrt(np.clip(1 - (1 - np.clip(t / 0.15, 0, 1)) ** 2, 0, 1))
        return self.width * _at(_LATERAL, t), self.width * _at(_MEDIAL, t), apex

    def half_depth(self, y: Array | float) -> Array:
        """Half depth of the inner chest at height y, cm."""
        return self.depth * _at(_DEPTH, np.asarray(y) / self.lung)

    def forward(self, y: Array | float) -> Array:
        """Depth coordinate of the chest's middle at height y, cm."""
        return self.depth * _at(_FORWARD, np.asarray(y) / self.lung) + 0.6 * self.bend(y)

    def pleura(self, side: str, shrink: float = 0.0, slip: float = 0.0) -> Stack:
        """Pleural space of one side; ``shrink`` (cm) is the visceral pleura's retreat from the chest wall.

        ``slip`` lets the apex fall by as many centimetres more.
        """
        s = sign(side)

        def profile(y: Array) -> tuple[Array, Array, Array, Array]:
            t = (y - slip) / self.lung
            outer, inner, apex = self._borders(t)
            outer = outer - shrink
            inner = inner + 0.6 * s * self.shift * np.clip(3 - 3 * t, 0, 1)
            half = np.maximum(outer - inner, 0) / 2 * apex
            return s * (outer + inner) / 2, half, self.forward(y), self.half_depth(y) * (0.25 + 0.75 * apex)

        return Stack(profile, squareness=0.75, anchor=(s * self.width / 2, 0.0))

    def dome_top(self, side: str) -> float:
        """Height of the diaphragm's dome, cm."""
        p, q = self.patient, self.quirks
        rise = 6.9 * self.size * (1 - 0.45 * p.hyperinflation) * (0.85 + 0.3 * q[0]) + 2.5 * (1 - self.breath)
        return float(self.lung + 0.6 - rise + (0.6 + 1.4 * q[1] if side == "left" else 0.0))

    def dome(self, side: str) -> Stack:
        """Diaphragm and all below it on one side."""
        s, top, floor = sign(side), self.dome_top(side), self.lung + 0.9
        peak = 0.44 + 0.14 * self.quirks[2 if side == "left" else 3]

        def profile(y: Array) -> tuple[Array, Array, Array, Array]:
            t = np.clip((floor - y) / (floor - top), 0, 1)
            bulge = np.sqrt(np.clip(1 - t**1.8, 0, 1))
            bulge = np.where(y < top, 0.0, bulge)
            outer = self.width * (peak + (1.06 - peak) * bulge)
            inner = self.width * (peak - (peak + 0.1) * bulge)
            half = (outer - inner) / 2
            ahead = 0.2 * self.depth * (1 - bulge)
            depth = (0.25 + 1.0 * bulge) * self.half_depth(y) * (bulge > 0)
            return s * (outer + inner) / 2, half, self.forward(y) + ahead, depth

        return Stack(profile, squareness=0.2, anchor=(s * self.width / 2, 0.0))

    @cached_property
    def _ventricle(self) -> tuple[float, float, float]:
        """Long and short half axis of the left ventricle (cm) and the slope of the long one (radians)."""
        p, q = self.patient, self.quirks
        upright = 0.42 + 0.25 * q[4] - 0.006 * (p.bmi - 25) + 0.3 * p.hyperinflation
        angle = float(np.clip(upright - 0.25 * (self.heart_ratio > 0.5), 0.25, 1.0))
        w = self.heart_width
        short = 0.35 * w
        long = np.sqrt(max(0.25 * w * w - (short * np.sin(angle)) ** 2, 0.04 * w * w)) / np.cos(angle)
        return float(long), short, angle

    @cached_property
    def heart_width(self) -> float:
        """Transverse diameter of the heart, cm: the inner chest's times the cardiothoracic ratio."""
        return 2 * self.width * self.heart_ratio

    @cached_property
    def heart_height(self) -> float:
        """Height coordinate of the heart's centre, cm; the heart dips 2 cm into the diaphragm."""
        long, short, angle = self._ventricle
        reach = np.hypot(long * np.sin(angle), short * np.cos(angle))
        return float((self.dome_top("right") + self.dome_top("left")) / 2 + 2.0 - reach)

    def heart(self) -> list[Ellipsoid]:
        """Ventricles, right atrium and outflow tract; together as wide as the cardiothoracic ratio says."""
        (long, short, angle), w = self._ventricle, self.heart_width
        c, s = np.cos(angle), np.sin(angle)
        tilt = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        yaw = np.array([[np.cos(0.45), 0, -np.sin(0.45)], [0, 1, 0], [np.sin(0.45), 0, np.cos(0.45)]])
        y, z, x = self.heart_height, 0.10 * self.depth, self.shift
        thick = 0.46 * w**0.75 * 13**0.25
        return [
            Ellipsoid((x + 0.15 * w, y, z), (long, short, thick), tilt),
            Ellipsoid((x - 0.12 * w, y, z + 0.05 * w), (0.235 * w, 0.33 * w, 0.36 * w), yaw),
            Ellipsoid((x + 0.12 * w, y - 0.34 * w, z - 0.02 * w), (0.20 * w, 0.30 * w, 0.32 * w)),
        ]

    def great_vessels(self) -> list[Ellipsoid]:
        """Aortic arch, ascending aorta with superior vena cava, and the main pulmonary artery."""
        p, q = self.patient, self.quirks
        unfold = p.ageing * (0.7 + 0.6 * q[5])
        x, top = self.shift * 0.8, 0.205 * self.lung - 0.8 * unfold
        knob = 1.35 + 0.65 * unfold
        ascending = (x - 1.25 - 0.45 * unfold, 0.31 * self.lung, 0.22 * self.depth)
        return [
            Ellipsoid((x + 1.55 + 0.9 * unfold, top, -0.05 * self.depth), (knob, knob * 1.05, 3.0 + unfold)),
            Ellipsoid(ascending, (1.5 + 0.5 * unfold, 4.6, 1.9)),
            Ellipsoid((x + 2.0, 0.37 * self.lung, 0.1 * self.depth), (1.9 + 0.3 * q[24], 3.2, 2.4)),
        ]

    def mediastinum(self) -> Stack:
        """Midline tissue between the lungs."""
        wide = 0.92 + 0.2 * self.quirks[6] + 0.006 * (self.patient.bmi - 25) + 0.12 * self.supine

        def profile(y: Array) -> tuple[Array, Array, Array, Array]:
            t = y / self.lung
            half = self.width * _at(_PEDICLE, t) * wide
            centre = self.shift * np.clip(1.2 - t * 0.5, 0, 1) * (t > -0.2)
            return centre, half, self.forward(y), 0.96 * self.half_depth(y)

        return Stack(profile, squareness=-0.35)

    def descending_aorta(self) -> Stack:
        """From the arch down, left of the spine, to the diaphragm."""
        p = self.patient
        unfold = p.ageing * (0.6 + 0.8 * self.quirks[7])

        def profile(y: Array) -> tuple[Array, Array, Array, Array]:
            t = y / self.lung
            centre = 1.2 + 1.0 * np.sin(np.pi * np.clip(t - 0.15, 0, 1) / 0.85) * (0.35 + 1.2 * unfold)
            radius = np.where(t > 0.2, 1.15 + 0.35 * unfold, 0.0)
            return centre + 0.6 * self.shift, radius, self.forward(y) - 0.62 * self.depth, radius

        return Stack(profile, anchor=(1.5, -0.6 * self.depth))

    def carina(self) -> Array:
        """Where the trachea divides (3,), cm."""
        y = 0.265 * self.lung
        return np.array([0.25 + 0.9 * self.shift, y, float(self.forward(y)) - 0.5])

    def hilum(self, side: str) -> Array:
        """Root of one lung's vessels (3,), cm."""
        s = sign(side)
        y = self.lung * (0.375 if side == "right" else 0.34)
        return np.array([s * (0.155 * self.width) + self.shift * 0.8, y, -0.02 * self.depth])
