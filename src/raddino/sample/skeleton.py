"""Bones: ribs, clavicles, shoulder blades and upper arms, spine, breastbone."""

from dataclasses import dataclass

import numpy as np

from raddino.sample.anatomy import SIDES, Anatomy, sign
from raddino.sample.projection import Array, Camera, Points, Stack, resample, tube

RIBS = 12
_END = np.radians([150, 150, 150, 148, 146, 143, 139, 132, 124, 115, 88, 62])
_FALL = np.array([3.6, 5.4, 7.2, 8.6, 9.6, 10.4, 10.8, 10.8, 10.4, 9.8, 8.5, 7.0])


@dataclass(frozen=True)
class Break:
    """A broken rib: side, number 1-12, angle along the rib (0 spine, pi/2 side), step of the far end in cm."""

    side: str
    rib: int
    angle: float
    step: float
    callus: bool


@dataclass(frozen=True)
class Ribs:
    """Ribs as ribbons of point masses, and the shares of each that lie around a break."""

    points: Points
    near_break: Points | None


def spine_pitch(body: Anatomy) -> float:
    """Distance of two vertebrae at mid-chest, cm."""
    return 2.28 * body.size * (1 - 0.06 * body.patient.kyphosis) * (0.9 + 0.1 * body.breath)


def rib_start(body: Anatomy, rib: Array | int) -> Array:
    """Height at which a rib (1-12) leaves the spine, cm."""
    i = np.asarray(rib, dtype=float) - 1
    return -0.9 + (0.6 * body.quirks[33] - 0.3) + spine_pitch(body) * (0.9 * i + 0.016 * i * i)


def _courses(body: Anatomy, count: int, side: str) -> tuple[Array, Array]:
    """Centre lines (12, count, 3) of one side's ribs and the angle (12, count) along each."""
    p, q = body.patient, body.quirks
    s = sign(side)
    rib = np.arange(1, RIBS + 1)
    start = rib_start(body, rib)[:, None]
    slope = 0.92 + 0.06 * p.slope + 0.1 * p.ageing - 0.22 * p.hyperinflation - 0.14 * body.supine
    fall = (_FALL * slope * body.size)[:, None] * (0.97 + 0.06 * q[34 if side == "left" else 35])
    middle = start + 0.5 * fall
    a = body.lateral(middle) + 0.25
    b = body.half_depth(middle) + 0.2
    begin = np.arcsin(np.clip(2.3 / a, 0, 1))
    share = np.linspace(0, 1, count)[None]
    angle = begin + share * (_END[:, None] - begin)
    sine, cosine = np.sin(angle), np.cos(angle)
    x = a * np.clip(sine, 0, 1) ** 0.9
    drop = fall * (0.5 * (1 - cosine) + 0.04 * np.sin(2 * angle) * (cosine < 0)) - 0.35 * np.exp(-(((angle - 0.75) / 0.4) ** 2))
    y = start + drop
    wave = np.sin(3.1 * angle + 6.3 * q[36] + rib[:, None]) * 0.12
    z = body.forward(y) - b * cosine
    return np.stack([s * x, y + wave, z], -1), angle


def ribs(body: Anatomy, camera: Camera, breaks: tuple[Break, ...] = ()) -> Ribs:
    """All ribs: cortical shell and marrow, fainter where they run in front, stepped where they are broken."""
    p = body.patient
    count = int(min(330, max(60, 27.0 / camera.pitch)))
    across = int(np.clip(1.5 / camera.pitch, 4, 22))
    offset = (np.arange(across) + 0.5) * 2 / across - 1
    parts, broken = [], []
    for side in SIDES:
        line, angle = _courses(body, count, side)
        front = np.clip((angle - 1.5) / 0.9, 0, 1)
        half = (0.62 + 0.03 * np.arange(RIBS)[:, None] * (np.arange(RIBS)[:, None] < 6)) * (1 + 0.22 * front)
        half = half * (0.95 if not p.male else 1.05) * body.size
        near = np.zeros_like(angle)
        gap = np.ones_like(angle)
        for b in (b for b in breaks if b.side == side):
            i, away = b.rib - 1, angle[b.rib - 1] - b.angle
            reach = np.abs(away) * np.linalg.norm(line[i, 0, ::2] - line[i, -1, ::2])
            line[i, :, 1] += b.step * np.where(away > 0, np.exp(-np.maximum(away, 0) / 0.22), -0.25 * np.exp(np.minimum(away, 0) / 0.12))
            swell = np.exp(-((away / 0.07) ** 2))
            half[i] = half[i] * (1 + 0.45 * swell * b.callus)
            gap[i] = np.where(np.abs(away) < 0.016 + 0.012 * (not b.callus), 0.15, 1.0) if not b.callus else 1 + 0.7 * swell
            near[i] = np.exp(-((away / 0.16) ** 2)) + 0 * reach
        tangent = np.gradient(line, axis=1)
        step = np.linalg.norm(tangent, axis=-1)
        tangent = tangent / np.maximum(step, 1e-6)[..., None]
        outward = line - np.stack([np.zeros_like(angle), line[..., 1], body.forward(line[..., 1])], -1)
        outward /= np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-6)
        upright = np.cross(tangent, outward)
        upright /= np.maximum(np.linalg.norm(upright, axis=-1, keepdims=True), 1e-6)
        position = line[:, :, None, :] + (half[..., None] * offset)[..., None] * upright[:, :, None, :]
        shell = 0.13 / np.sqrt(1 - 0.97 * offset**2) + 0.11 * np.sqrt(1 - offset**2)
        fade = (1 - 0.38 * front) * np.where(np.arange(RIBS)[:, None] == 0, 0.8, 1.0) * gap
        mass = p.bone * (fade * step * half)[..., None] * shell * (2 / across)
        parts.append(Points(position, mass))
        if breaks:
            broken.append(Points(position, mass * (near > 0.25)[..., None]))
    return Ribs(Points.join(parts), Points.join(broken) if breaks else None)


def shoulders(body: Anatomy, camera: Camera) -> Points:
    """Clavicles, shoulder blades and upper arm bones."""
    p, q, w = body.patient, body.quirks, body.width
    step = camera.pitch * 0.8
    parts = []
    raise_ = 1.6 * (q[40] - 0.5) - 1.1 * body.supine + 1.6 * (q[8] - 0.5)
    bone = p.bone
    for side in SIDES:
        s = sign(side)
        medial, outer = 2.4 - 0.9 * body.supine + 0.5 * raise_, -0.4 + raise_
        clavicle = np.array(
            [
                [1.5, medial + 0.3, 0.75 * body.depth],
                [0.38 * w, medial - 0.1 + 0.25 * (outer - medial), 0.80 * body.depth],
                [0.78 * w, outer + 0.1, 0.35 * body.depth],
                [1.12 * w, outer - 0.5, -0.05 * body.depth],
                [1.30 * w, outer - 0.1, -0.05 * body.depth],
            ]
        ) * [s, 1, 1]
        path = resample(clavicle, step)
        thick = np.interp(np.linspace(0, 1, len(path)), [0, 0.12, 0.4, 0.8, 1], [0.85, 0.62, 0.52, 0.6, 0.72])
        ends = np.clip(np.minimum(np.arange(len(path)), np.arange(len(path))[::-1]) * step / 0.8, 0.25, 1)
        parts.append(tube(path, thick, camera, wall=0.32, density=0.55 * bone * ends))
        parts.append(tube(path, thick * 0.68, camera, density=0.14 * bone * ends))
        parts += _blade(body, camera, s, outer)
        parts += _arm(body, camera, s, outer)
    return Points.join(parts)


def _blade(body: Anatomy, camera: Camera, s: int, outer: float) -> list[Points]:
    w, q, bone = body.width, body.quirks, body.patient.bone
    aside = (0.0 if body.supine else 0.17) + 0.1 * (q[41] - 0.5)
    back = -0.9 * body.depth
    top = np.array([(0.74 + aside) * w, outer + 0.6, back])
    tip = np.array([(0.86 + 1.25 * aside) * w, outer + 14.5 * body.size, back])
    socket = np.array([1.30 * w, outer + 4.0, -0.3 * body.depth])
    acromion = np.array([1.42 * w, outer + 0.2, -0.2 * body.depth])
    root = top * 0.68 + tip * 0.32
    flip = np.array([s, 1.0, 1.0])
    step = camera.pitch * 0.9
    edge = resample(np.stack([tip, tip * 0.55 + socket * 0.45 + [-0.05 * w, 0, 0], socket]) * flip, step)
    ridge = resample(np.stack([root, root * 0.45 + acromion * 0.55 + [0, -0.3, 0], acromion]) * flip, step)
    inner = resample(np.stack([top, (top + tip) / 2 - [0.05 * w, 0, 0], tip]) * flip, step)
    beak = resample(np.stack([socket + [-1.2, -1.6, 2], socket + [-0.6, -2.6, 3], socket + [0.4, -2.2, 4]]) * flip, step)
    parts = [
        tube(edge, np.linspace(0.28, 0.55, len(edge)), camera, wall=0.35, density=0.55 * bone),
        tube(ridge, np.linspace(0.3, 0.75, len(ridge)), camera, wall=0.3, density=0.4 * bone),
        tube(inner, np.full(len(inner), 0.16), camera, density=0.5 * bone),
        tube(beak, np.full(len(beak), 0.6), camera, wall=0.3, density=0.45 * bone),
    ]
    n = int(max(12, 9.0 / camera.pitch))
    a, b = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")
    corner = top * flip
    legs = (tip * flip - corner, socket * flip - corner)
    sheet = corner + a[..., None] * (1 - b[..., None]) * legs[0] + a[..., None] * b[..., None] * legs[1]
    area = np.linalg.norm(np.cross(*legs)) / 2
    parts.append(Points(sheet, 2 * a * area / n**2 * 0.05 * bone))
    return parts


def _arm(body: Anatomy, camera: Camera, s: int, outer: float) -> list[Points]:
    limb = body.limbs(0.0)[0 if s < 0 else 2]
    assert limb.rotation is not None
    down = limb.rotation @ [0.0, 1.0, 0.0]
    head = np.array([s * 1.44 * body.width, outer + 3.6, 0.0])
    bone = body.patient.bone
    n = int(max(24, 5.0 / camera.pitch))
    grid = (np.arange(n) + 0.5) * 2 / n - 1
    a, b = np.meshgrid(grid, grid, indexing="ij")
    r2 = a * a + b * b
    ball = np.sqrt(np.clip(1 - r2, 0, None)) * 0.24 + 0.12 * np.exp(-((np.sqrt(r2) - 0.95) ** 2) / 0.004)
    radius = 2.25 * body.size
    sphere = Points(head + np.stack([a, b, 0 * a], -1) * radius, ball * (r2 < 1) * bone * (2 * radius / n) ** 2 * 1.6)
    path = resample(np.stack([head + down * 0.8, head + down * 8, head + down * 22]), camera.pitch * 0.9)
    along = np.arange(len(path)) * camera.pitch * 0.9
    thick = np.interp(along, [0, 1.5, 4, 8], [1.9, 1.7, 1.25, 1.1])
    return [sphere, tube(path, thick, camera, wall=0.3, density=0.5 * bone * np.clip(along / 3.5, 0, 1))]


def vertebrae(body: Anatomy) -> tuple[Stack, "np.ndarray"]:
    """Vertebral bodies as one column, and where along it discs lie: (start, pitch) in cm."""

    def profile(y: Array) -> tuple[Array, Array, Array, Array]:
        phase = _phase(body, y)
        waist = 1 - 0.13 * np.sin(np.pi * np.clip((phase - 0.12) / 0.76, 0, 1))
        grow = np.clip(0.86 + 0.22 * y / body.lung, 0.78, 1.25) * body.size
        half = 1.75 * grow * waist * (1.06 if body.patient.male else 0.96)
        return np.zeros_like(y), half, body.spine(y), 1.55 * grow * waist

    return Stack(profile, squareness=0.6, anchor=(0.0, -0.8 * body.depth)), np.zeros(0)


def _phase(body: Anatomy, y: Array) -> Array:
    pitch = spine_pitch(body)
    i = np.interp(y, rib_start(body, np.arange(-4, 20)), np.arange(-4, 20))
    return (i + 0.5 + 0 * pitch) % 1.0


def vertebral_density(body: Anatomy, y: Array) -> Array:
    """Bone density (H,) along the column at heights y: end plates bright, discs none."""
    phase = _phase(body, y)
    disc = 0.10 - 0.03 * body.patient.ageing
    solid = np.clip((np.minimum(phase, 1 - phase) - disc) / 0.03, 0, 1)
    plate = np.exp(-(((np.minimum(phase, 1 - phase) - disc - 0.035) / 0.03) ** 2))
    return body.patient.bone * (0.085 * solid + 0.13 * plate)


def arches(body: Anatomy, camera: Camera) -> Points:
    """Pedicles, spinous and transverse processes, and the breastbone."""
    bone = body.patient.bone
    i = np.arange(-3, 17)
    y = rib_start(body, i)
    back = body.spine(y)
    grow = np.clip(0.86 + 0.22 * y / body.lung, 0.78, 1.25) * body.size
    turn = np.linspace(0, 2 * np.pi, 25)[:-1]
    parts = []
    for s in (-1, 1):
        centre = np.stack([s * 1.25 * grow, y - 0.35, back - 1.8], -1)
        ring = np.stack([0.3 * np.cos(turn), 0.48 * np.sin(turn), 0 * turn], -1)
        parts.append(Points(centre[:, None] + ring * grow[:, None, None], np.full((len(y), 24), 0.0026 * bone)))
        ends = np.stack([s * 3.2 * grow, y - 0.3, back - 3.0], -1)
        t = np.linspace(0, 1, int(max(8, 2.5 / camera.pitch)))[:, None]
        bars = centre[:, None] + t * (ends - centre)[:, None]
        parts.append(tube(bars, 0.42 * np.ones((1, 1)), camera, density=0.13 * bone))
    t = np.linspace(0, 1, int(max(8, 3.5 / camera.pitch)))[:, None]
    start = np.stack([0 * y, y - 0.2, back - 2.4], -1)
    spines = start[:, None] + t * np.stack([0 * y, 2.0 * grow, -2.4 * grow], -1)[:, None]
    parts.append(tube(spines, 0.34 * np.ones((1, 1)), camera, density=0.16 * bone))
    height = np.array([2.6, 7.0, 12.0, 17.5]) * body.size
    front = np.stack([0 * height, height, body.forward(height) + body.half_depth(height) * np.array([0.98, 1.04, 1.06, 1.05]) + 0.6], -1)
    path = resample(front, camera.pitch)
    wide = np.interp(np.linspace(0, 1, len(path)), [0, 0.2, 0.35, 1.0], [1.5, 1.15, 0.8, 1.05])
    strips = np.linspace(-1.5, 1.5, 9)[:, None] * wide
    plate = path + np.stack([strips, 0 * strips, 0 * strips], -1)
    parts.append(tube(plate, np.full((1, 1), 0.38), camera, wall=0.25, density=0.17 * bone))
    return Points.join(parts)
