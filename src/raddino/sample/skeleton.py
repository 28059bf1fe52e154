"""Bones other than ribs: clavicles, shoulder blades and upper arms, spine, breastbone."""

import numpy as np

from raddino.sample.anatomy import SIDES, Anatomy, sign
from raddino.sample.projection import Array, Camera, Points, Stack, resample, tube


def _ends(path: Array, step: float, length: float) -> Array:
    """Weights (N,) that fade a path's points out towards both ends over ``length`` cm."""
    near = np.minimum(np.arange(len(path)), np.arange(len(path))[::-1])
    return np.clip((near * step + 0.1) / length, 0, 1)


def shoulders(body: Anatomy, camera: Camera) -> Points:
    """Clavicles, shoulder blades and upper arm bones."""
    p, q, w = body.patient, body.quirks, body.width
    step = camera.pitch
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
        ends = _ends(path, step, 1.0)
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
    step = camera.pitch
    edge = resample(np.stack([tip, tip * 0.55 + socket * 0.45 + [-0.05 * w, 0, 0], socket]) * flip, step)
    ridge = resample(np.stack([root, root * 0.45 + acromion * 0.55 + [0, -0.3, 0], acromion]) * flip, step)
    inner = resample(np.stack([top, (top + tip) / 2 - [0.05 * w, 0, 0], tip]) * flip, step)
    beak = resample(np.stack([socket + [-1.2, -1.6, 2], socket + [-0.6, -2.6, 3], socket + [0.4, -2.2, 4]]) * flip, step)
    parts = [
        tube(edge, np.linspace(0.28, 0.5, len(edge)), camera, wall=0.35, density=0.42 * bone * _ends(edge, step, 2.0)),
        tube(ridge, np.linspace(0.3, 0.75, len(ridge)), camera, wall=0.3, density=0.34 * bone * _ends(ridge, step, 2.0)),
        tube(inner, np.full(len(inner), 0.16), camera, density=0.5 * bone),
        tube(beak, np.full(len(beak), 0.6), camera, wall=0.3, density=0.16 * bone * _ends(beak, step, 1.2)),
    ]
    n = int(max(12, 9.0 / camera.pitch))
    a, b = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")
    corner = top * flip
    legs = (tip * flip - corner, socket * flip - corner)
    sheet = corner + a[..., None] * (1 - b[..., None]) * legs[0] + a[..., None] * b[..., None] * legs[1]
    area = np.linalg.norm(np.cross(*legs)) / 2
    parts.append(Points.at(sheet, 2 * a * area / n**2 * 0.05 * bone, camera))
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
    position = head + np.stack([a, b, 0 * a], -1) * radius
    sphere = Points.at(position, ball * (r2 < 1) * bone * (2 * radius / n) ** 2 * 1.6, camera)
    path = resample(np.stack([head + down * 0.8, head + down * 8, head + down * 22]), camera.pitch)
    along = np.arange(len(path)) * camera.pitch
    thick = np.interp(along, [0, 1.5, 4, 8], [1.9, 1.7, 1.25, 1.1])
    return [sphere, tube(path, thick, camera, wall=0.3, density=0.5 * bone * np.clip(along / 3.5, 0, 1))]


def vertebrae(body: Anatomy) -> Stack:
    """Vertebral bodies and discs as one column, waisted between the end plates."""

    def profile(y: Array) -> tuple[Array, Array, Array, Array]:
        phase = _phase(body, y)
        waist = 1 - 0.13 * np.sin(np.pi * np.clip((phase - 0.12) / 0.76, 0, 1))
        grow = np.clip(0.86 + 0.22 * y / body.lung, 0.78, 1.25) * body.size
        half = 1.75 * grow * waist * (1.06 if body.patient.male else 0.96)
        return np.zeros_like(y), half, body.spine(y), 1.55 * grow * waist

    return Stack(profile, squareness=0.2, anchor=(0.0, -0.8 * body.depth))


def _phase(body: Anatomy, y: Array) -> Array:
    """Where in its segment height y lies: 0 and 1 in the middle of a disc, 0.5 in the middle of a body."""
    i = np.arange(-6, 20)
    return (np.interp(y, body.vertebra(i), i) + 0.5) % 1.0


def vertebral_density(body: Anatomy, y: Array) -> Array:
    """Bone density (H,) along the column at heights y: end plates bright, discs none."""
    phase = _phase(body, y)
    disc = 0.10 - 0.03 * body.patient.ageing
    solid = np.clip((np.minimum(phase, 1 - phase) - disc) / 0.03, 0, 1)
    plate = np.exp(-(((np.minimum(phase, 1 - phase) - disc - 0.035) / 0.03) ** 2))
    return body.patient.bone * (0.065 * solid + 0.10 * plate)


def arches(body: Anatomy, camera: Camera) -> Points:
    """Pedicles, spinous and transverse processes, and the breastbone."""
    bone = body.patient.bone
    i = np.arange(-4, 16)
    y = body.vertebra(i)
    back = body.spine(y)
    grow = np.clip(0.86 + 0.22 * y / body.lung, 0.78, 1.25) * body.size
    turn = np.linspace(0, 2 * np.pi, 25)[:-1]
    parts = []
    for s in (-1, 1):
        centre = np.stack([s * 1.25 * grow, y - 0.35, back - 1.8], -1)
        ring = np.stack([0.3 * np.cos(turn), 0.48 * np.sin(turn), 0 * turn], -1)
        there = np.clip((i + 1) / 2, 0, 1)[:, None]
        parts.append(Points.at(centre[:, None] + ring * grow[:, None, None], 0.0026 * bone * there * np.ones(24), camera))
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
