"""Ribs: two sides of twelve curved ribbons, and what a fracture does to them."""

from dataclasses import dataclass

import numpy as np

from raddino.sample.anatomy import SIDES, Anatomy, sign
from raddino.sample.projection import Array, Camera, Points, ribbon

RIBS = 12
_END = np.radians([150, 150, 150, 148, 146, 143, 139, 132, 124, 115, 88, 62])
_FALL = np.array([3.4, 5.6, 8.0, 9.8, 11.0, 11.8, 12.2, 12.2, 11.8, 11.0, 9.5, 8.0])
_DIP = np.array([1.9, 1.6, 1.2, 0.8, 0.5, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2])


@dataclass(frozen=True)
class Break:
    """A broken rib: side, number 1-12, angle along the rib (0 spine, pi/2 side), step of the far end in cm.

    ``callus``: an older break, swollen and without a gap.
    """

    side: str
    rib: int
    angle: float
    step: float
    callus: bool


def _courses(body: Anatomy, count: int, side: str) -> tuple[Array, Array]:
    """Centre lines (12, count, 3) of one side's ribs and the angle (12, count) along each."""
    p, q = body.patient, body.quirks
    rib = np.arange(RIBS)[:, None]
    start = body.vertebra(rib)
    slope = 0.92 + 0.06 * p.slope + 0.1 * p.ageing - 0.22 * p.hyperinflation - 0.14 * body.supine
    fall = _FALL[:, None] * slope * body.size * (0.97 + 0.06 * q[34 if side == "left" else 35])
    middle = start + 0.5 * fall
    a, b = body.lateral(middle) + 0.25, body.half_depth(middle) + 0.2
    begin = np.arcsin(np.clip(2.3 / a, 0, 1))
    angle = begin + np.linspace(0, 1, count) * (_END[:, None] - begin)
    sine, cosine = np.sin(angle), np.cos(angle)
    drop = fall * (0.5 * (1 - cosine) + 0.04 * np.sin(2 * angle) * (cosine < 0))
    drop += _DIP[:, None] * np.clip(sine, 0, 1) - 0.35 * np.exp(-(((angle - 0.75) / 0.4) ** 2))
    y = start + drop
    wave = np.sin(3.1 * angle + 6.3 * q[36] + rib + 1) * 0.12
    x = sign(side) * a * np.clip(sine, 0, 1) ** 0.9
    return np.stack([x, y + wave, body.forward(y) - b * cosine], -1), angle


def ribs(body: Anatomy, camera: Camera, breaks: tuple[Break, ...] = ()) -> tuple[Points, Points | None]:
    """All ribs, and the parts of them around a fracture (None without one).

    Shell and marrow are brightest along the rib's edges; ribs are fainter where they run in front.
    """
    count = int(np.clip(27.0 / camera.pitch, 48, 380))
    offset = np.arange(int(np.clip(1.1 / camera.pitch, 4, 22))) + 0.5
    offset = offset * 2 / len(offset) - 1
    profile = (0.13 / np.sqrt(1 - 0.97 * offset**2) + 0.11 * np.sqrt(1 - offset**2)) * 2 / len(offset)
    number = np.arange(RIBS)[:, None]
    parts, broken = [], []
    for side in SIDES:
        line, angle = _courses(body, count, side)
        front = np.clip((angle - 1.5) / 0.9, 0, 1)
        half = (0.62 + 0.03 * np.minimum(number, 6)) * (1 + 0.22 * front) * body.size
        half *= 1.05 if body.patient.male else 0.95
        density = body.patient.bone * (1 - 0.30 * front) * np.where(number == 0, 0.8 * (1 - 0.7 * front), 1.0)
        density = density * np.sqrt(np.clip((1 - np.linspace(0, 1, count)) / 0.06, 0, 1))
        mine = [b for b in breaks if b.side == side]
        for b in mine:
            _fracture(b, angle[b.rib - 1] - b.angle, line[b.rib - 1], half[b.rib - 1], density[b.rib - 1])
        step, upright = _frame(body, line)
        across, mass = half[..., None] * upright, density * step * half
        parts.append(ribbon(line, across, mass, profile, camera))
        for b in mine:
            i, near = b.rib - 1, np.abs(angle[b.rib - 1] - b.angle) < 0.19
            broken.append(ribbon(line[i][near], across[i][near], mass[i][near], profile, camera))
    return Points.join(parts), Points.join(broken) if broken else None


def _fracture(b: Break, away: Array, line: Array, half: Array, density: Array) -> None:
    """Step, gap or callus of one rib, in place; ``away`` (K,) is the angle from the break."""
    swell = np.exp(-((away / 0.07) ** 2))
    beyond, before = np.exp(-np.maximum(away, 0) / 0.22), -0.25 * np.exp(np.minimum(away, 0) / 0.12)
    line[:, 1] += b.step * np.where(away > 0, beyond, before)
    if b.callus:
        half *= 1 + 0.45 * swell
        density *= 1 + 0.7 * swell
    else:
        density *= np.where(np.abs(away) < 0.035, 0.1, 1.0)


def _frame(body: Anatomy, line: Array) -> tuple[Array, Array]:
    """Length of each step (12, K) and the direction (12, K, 3) of the ribs' broad side.

    It stands upright in the chest wall, but the uppermost ribs lie flat.
    """
    tangent = np.gradient(line, axis=1)
    step = np.linalg.norm(tangent, axis=-1)
    outward = line.copy()
    outward[..., 1] = 0
    outward[..., 2] -= body.forward(line[..., 1])
    upright = np.cross(tangent, outward)
    for vector in (outward, upright):
        vector /= np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-6)
    flat = np.array([1.2, 0.7, 0.3, *[0.0] * 9])[:, None, None]
    return step, np.cos(flat) * upright + np.sin(flat) * outward
