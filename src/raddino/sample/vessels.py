"""Blood vessels of the lungs: trees that fan from the hilum to the pleura."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from raddino.sample.anatomy import Anatomy, sign
from raddino.sample.projection import Array, Camera, Points, tube

Keep = Callable[[Array, Array, Array], Array]
_REACH = np.array([0.0, 0.17, 0.34, 0.51, 0.66, 0.80, 0.91, 0.99])


def lung_vessels(
    body: Anatomy, camera: Camera, side: str, keep: Keep, shrink: float = 0.0, slip: float = 0.0
) -> Points:
    """Arteries and veins of one lung; radii in cm fall from about 0.4 at the hilum to 0.04 at the pleura.

    ``keep`` maps columns, rows (pixels) and depths (cm) to the share of a vessel there that shows in air;
    ``shrink`` and ``slip`` are those of :meth:`Anatomy.pleura`: a collapsed lung takes its vessels along.
    """
    rng = np.random.default_rng([body.patient.seed, 4, body.patient.index, side == "left"])
    s, trunks = sign(side), np.array([9, 7])
    wide = np.exp(0.12 * body.patient.vessels)
    vein = np.repeat([0.0, 1.0], trunks)[:, None]
    root = body.hilum(side) + vein * [0.0, 1.6, -0.5]
    polar = np.concatenate([np.linspace(-1.35, 1.5, k) for k in trunks]) + rng.normal(0, 0.10, trunks.sum())
    ends = np.stack([polar, rng.normal(0, 0.42, len(polar))], -1)
    radius = wide * (1 - 0.15 * vein[:, 0]) * (0.36 + 0.20 * np.clip(polar, 0, 1) + rng.uniform(-0.05, 0.05, len(polar)))
    begin, spread, parts = ends * [0.85, 0.6], np.array([0.20, 0.30]), []
    for level, (near, far) in enumerate(pairwise(_REACH)):
        if level:
            begin, root = np.repeat(ends, 2, axis=0), np.repeat(root, 2, axis=0)
            radius = np.repeat(radius, 2) * rng.uniform(0.58, 0.84, 2 * len(radius))
            fork = np.tile([-1.0, 1.0], len(ends))[:, None] * rng.uniform(0.5, 1.3, (len(begin), 1))
            ends = begin + fork * spread + rng.normal(0, 0.05, begin.shape)
            spread = spread * 0.74
        t = np.linspace(0, 1, int(np.clip(11.0 / camera.pitch * (far - near), 4, 60)), dtype=np.float32)
        ease = (t * t * (3 - 2 * t))[None, :, None]
        course = begin[:, None] * (1 - ease) + ends[:, None] * ease
        course[..., 0] += np.sin(t * np.pi) * rng.normal(0, 0.012, (len(ends), 1))
        path = _place(body, root, s, course, near + t * (far - near), shrink, slip)
        shown = keep(*camera.project(path))
        taper = radius[:, None] * (1 - 0.18 * t)
        thick = radius >= 0.75 * camera.pitch
        parts += [tube(path[some], taper[some], camera, density=shown[some]) for some in (thick, ~thick) if some.any()]
    return Points.join(parts)


def _place(body: Anatomy, root: Array, s: int, course: Array, reach: Array, shrink: float, slip: float) -> Array:
    """Positions (N, K, 3) at a share ``reach`` (K,) of the way from the roots (N, 3) to the pleura.

    ``course`` (N, K, 2) holds the directions: angle below the horizontal in the frontal plane, and towards the front.
    """
    polar, tilt = course[..., 0].astype(np.float32), course[..., 1].astype(np.float32)
    flat = np.cos(tilt)
    direction = np.stack([s * np.cos(polar) * flat, np.sin(polar) * flat, np.sin(tilt)], -1)
    centre = np.array([s * 0.53 * body.width, 0.53 * body.lung + slip / 2, -0.05 * body.depth])
    axes = [0.50 * body.width - shrink / 2, 0.56 * body.lung - (shrink + slip) / 2, 0.95 * body.depth]
    axes = np.array(axes, dtype=np.float32)
    towards, away = direction / axes, ((root - centre) / axes).astype(np.float32)
    a = np.einsum("nki,nki->nk", towards, towards)
    b = np.einsum("nki,ni->nk", towards, away)
    c = np.einsum("ni,ni->n", away, away)[:, None] - 1
    distance = (-b + np.sqrt(np.maximum(b * b - a * c, 0.0))) / a
    return root[:, None].astype(np.float32) + (reach * np.maximum(distance, 1.0))[..., None] * direction
