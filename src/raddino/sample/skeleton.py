"""Bones other than ribs: clavicles, shoulder blades and upper arms, spine, breastbone."""

import numpy as np

from raddino.sample.anatomy import Anatomy
from raddino.sample.outline import limbs
from raddino.sample.projection import Array, Camera, Points, Stack, resample, tube


def _ends(path: Array, step: float, length: float) -> Array:
    """Weights (N,) that fade a path's points out towards both ends over ``length`` cm."""
    n = np.arange(path.shape[-2])
    return np.clip((np.minimum(n, n[::-1]) * step + 0.1) / length, 0, 1)


def _both(path: Array, slant: float) -> Array:
    """A left-sided path (K, 3) and its mirror image (2, K, 3), lowered and raised by ``slant`` cm."""
    drop = np.array([0, slant, 0], dtype=np.float32)
    return np.stack([path + drop, path * np.array([-1, 1, 1], dtype=np.float32) - drop])


def shoulders(body: Anatomy, camera: Camera) -> Points:
    """Clavicles, shoulder blades and upper arm bones of both sides."""
    q, w, bone, step = body.quirks, body.width, body.patient.bone, camera.pitch
    lift = 1.6 * (q[40] - 0.5) - 1.1 * body.supine + 1.6 * (q[8] - 0.5)
    slant = 0.8 * (q[42] - 0.5)
    medial, outer = 2.4 - 0.9 * body.supine + 0.5 * lift, -0.4 + lift
    corners = [
        (1.5, medial + 0.3, 0.75 * body.depth),
        (0.38 * w, medial - 0.1 + 0.25 * (outer - medial), 0.80 * body.depth),
        (0.78 * w, outer + 0.1, 0.35 * body.depth),
        (1.12 * w, outer - 0.5, -0.05 * body.depth),
        (1.30 * w, outer - 0.1, -0.05 * body.depth),
    ]
    clavicle = resample(np.array(corners), step)
    along = np.linspace(0, 1, len(clavicle))
    thick = np.interp(along, [0, 0.12, 0.4, 0.8, 1], [0.85, 0.62, 0.52, 0.6, 0.72])
    ends, pair = bone * _ends(clavicle, step, 1.0), _both(clavicle, slant)
    parts = [
        tube(pair, thick, camera, wall=0.32, density=0.55 * ends),
        tube(pair, thick * 0.68, camera, density=0.14 * ends),
    ]
    return Points.join(parts + _blades(body, camera, outer, slant) + _arms(body, camera, outer, slant))


def _blades(body: Anatomy, camera: Camera, outer: float, slant: float) -> list[Points]:
    w, q, bone, step = body.width, body.quirks, body.patient.bone, camera.pitch
    aside = (0.0 if body.supine else 0.17) + 0.1 * (q[41] - 0.5)
    back = -0.9 * body.depth
    top = np.array([(0.74 + aside) * w, outer + 0.6, back])
    tip = np.array([(0.86 + 1.25 * aside) * w, outer + 14.5 * body.size, back])
    socket = np.array([1.30 * w, outer + 4.0, -0.3 * body.depth])
    acromion = np.array([1.42 * w, outer + 0.2, -0.2 * body.depth])
    root = top * 0.68 + tip * 0.32
    edge = resample(np.stack([tip, tip * 0.55 + socket * 0.45 - [0.05 * w, 0, 0], socket]), step)
    ridge = resample(np.stack([root, root * 0.45 + acromion * 0.55 - [0, 0.3, 0], acromion]), step)
    inner = resample(np.stack([top, (top + tip) / 2 - [0.05 * w, 0, 0], tip]), step)
    beak = resample(socket + np.array([[-1.2, -1.6, 2], [-0.6, -2.6, 3], [0.4, -2.2, 4]]), step)
    parts = []
    for path, thin, thick, wall, density, fade in (
        (edge, 0.28, 0.50, 0.35, 0.42, 2.0),
        (ridge, 0.30, 0.75, 0.30, 0.34, 2.0),
        (inner, 0.16, 0.16, 0.00, 0.50, 1.0),
        (beak, 0.60, 0.60, 0.30, 0.16, 1.2),
    ):
        radius = np.linspace(thin, thick, len(path))
        parts.append(tube(_both(path, slant), radius, camera, wall, density * bone * _ends(path, step, fade)))
    n = int(max(12, 9.0 / camera.pitch))
    a, b = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")
    legs = tip - top, socket - top
    sheet = top + (a * (1 - b))[..., None] * legs[0] + (a * b)[..., None] * legs[1]
    mass = 0.05 * bone * a * np.linalg.norm(np.cross(*legs)) / n**2
    parts.append(Points.at(_both(sheet.reshape(-1, 3), slant), mass.ravel(), camera))
    return parts


def _arms(body: Anatomy, camera: Camera, outer: float, slant: float) -> list[Points]:
    limb, bone = limbs(body, 0.0)[0], body.patient.bone
    assert limb.rotation is not None
    down = limb.rotation @ [0.0, 1.0, 0.0]
    head = np.array([1.44 * body.width, outer + 3.6, 0.0])
    n = int(max(16, 5.0 / camera.pitch))
    grid = (np.arange(n) + 0.5) * 2 / n - 1
    a, b = np.meshgrid(grid, grid, indexing="ij")
    r2 = a * a + b * b
    ball = np.sqrt(np.clip(1 - r2, 0, None)) * 0.24 + 0.12 * np.exp(-((np.sqrt(r2) - 0.95) ** 2) / 0.004)
    radius = 2.25 * body.size
    position = (head + np.stack([a, b, 0 * a], -1) * radius).reshape(-1, 3)
    mass = ball * (r2 < 1) * bone * (2 * radius / n) ** 2 * 1.6
    path = resample(np.stack([head + down * 0.8, head + down * 8, head + down * 22]), camera.pitch)
    along = np.arange(len(path)) * camera.pitch
    thick = np.interp(along, [0, 1.5, 4, 8], [1.9, 1.7, 1.25, 1.1])
    shaft = tube(_both(path, slant), thick, camera, wall=0.3, density=0.5 * bone * np.clip(along / 3.5, 0, 1))
    return [Points.at(_both(position, slant), mass.ravel(), camera), shaft]


def vertebrae(body: Anatomy) -> Stack:
    """Vertebral bodies and discs as one column, waisted between the end plates."""

    def profile(y: Array) -> tuple[Array, Array, Array, Array]:
        waist = 1 - 0.13 * np.sin(np.pi * np.clip((_phase(body, y) - 0.12) / 0.76, 0, 1))
        grown = _growth(body, y) * waist
        half = 1.75 * grown * (1.06 if body.patient.male else 0.96)
        return np.zeros_like(y), half, body.spine(y), 1.55 * grown

    return Stack(profile, squareness=0.2, anchor=(0.0, -0.8 * body.depth))


def _growth(body: Anatomy, y: Array) -> Array:
    """Size of vertebrae at height y against those of the middle chest."""
    return np.clip(0.86 + 0.22 * y / body.lung, 0.78, 1.25) * body.size


def _phase(body: Anatomy, y: Array) -> Array:
    """Where in its segment height y lies: 0 and 1 in the middle of a disc, 0.5 in the middle of a body."""
    i = np.arange(-6, 20)
    return (np.interp(y, body.vertebra(i), i) + 0.5) % 1.0


def vertebral_density(body: Anatomy, y: Array) -> Array:
    """Bone density (H,) along the column at heights y: end plates bright, discs none."""
    phase = _phase(body, y)
    from_disc = np.minimum(phase, 1 - phase) - 0.10 + 0.03 * body.patient.ageing
    plate = np.exp(-(((from_disc - 0.035) / 0.03) ** 2))
    return body.patient.bone * (0.065 * np.clip(from_disc / 0.03, 0, 1) + 0.10 * plate)


def arches(body: Anatomy, camera: Camera) -> Points:
    """Pedicles, spinous and transverse processes, and the breastbone."""
    bone, i = body.patient.bone, np.arange(-4, 16)
    y = body.vertebra(i)
    back, grown, zero = body.spine(y), _growth(body, y), np.zeros(len(y))
    sides = np.array([[-1.0], [1.0]])
    flat = np.ones((2, 1))

    def both(x: Array, dy: float, dz: float) -> Array:
        return np.stack([sides * x, flat * (y + dy), flat * (back + dz)], -1)

    turn = np.linspace(0, 2 * np.pi, 25)[:-1]
    ring = np.stack([0.3 * np.cos(turn), 0.48 * np.sin(turn), 0 * turn], -1)
    pedicle, tip = both(1.25 * grown, -0.35, -1.8), both(3.2 * grown, -0.3, -3.0)
    there = np.clip((i + 1) / 2, 0, 1)[:, None]
    mass = 0.0026 * bone * there * np.ones((2, 1, 24))
    rings = Points.at(pedicle[..., None, :] + ring * grown[:, None, None], mass, camera)

    def bars(start: Array, end: Array, radius: float, density: float) -> Points:
        t = np.linspace(0, 1, int(max(6, 3.0 / camera.pitch)))[:, None]
        path = start[..., None, :] + t * (end - start)[..., None, :]
        return tube(path, radius, camera, density=density * bone)

    root = np.stack([zero, y - 0.2, back - 2.4], -1)
    spinous = bars(root, root + np.stack([zero, 2.0 * grown, -2.4 * grown], -1), 0.34, 0.16)
    return Points.join([rings, bars(pedicle, tip, 0.42, 0.13), spinous, _breastbone(body, camera)])


def _breastbone(body: Anatomy, camera: Camera) -> Points:
    height = np.array([2.6, 7.0, 12.0, 17.5]) * body.size
    bulge = body.half_depth(height) * np.array([0.98, 1.04, 1.06, 1.05])
    front = np.stack([0 * height, height, body.forward(height) + bulge + 0.6], -1)
    path = resample(front, camera.pitch)
    wide = np.interp(np.linspace(0, 1, len(path)), [0, 0.2, 0.35, 1.0], [1.5, 1.15, 0.8, 1.05])
    strips = np.linspace(-1.5, 1.5, 9)[:, None] * wide
    plate = path + np.stack([strips, 0 * strips, 0 * strips], -1)
    return tube(plate, 0.38, camera, wall=0.25, density=0.17 * body.patient.bone)
