"""Blood vessels of the lungs: trees that fan from the hilum to the pleura."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from raddino.sample.anatomy import Anatomy, sign
from raddino.sample.projection import Array, Camera, Points, tube

Keep = Callable[[Array, Array, Array], Array]
_REACH = np.array([0.0, 0.17, 0.34, 0.51, 0.67, 0.83, 0.98])
_TRUNKS = np.array([9, 7])
"""Arteries, and veins, which leave lower."""
_COARSE = 4
"""Generations whose branches are long; the later ones are sampled with half as many points."""


def lung_vessels(
    body: Anatomy, camera: Camera, side: str, keep: Keep, shrink: float = 0.0, slip: float = 0.0
) -> Points:
    """Arteries and veins of one lung; radii in cm fall from about 0.5 at the hilum to 0.03 at the pleura.

    ``keep`` maps columns, rows (pixels) and depths (cm) to the share of a vessel there that shows in air;
    ``shrink`` and ``slip`` are those of :meth:`Anatomy.pleura`: a collapsed lung takes its vessels along.
    Generations far thinner than a pixel are left out.
    """
    rng = np.random.default_rng([body.patient.seed, 4, body.patient.index, side == "left"])
    generations = _grow(rng, float(np.exp(0.12 * body.patient.vessels)))
    generations = [g for k, g in enumerate(generations) if k == 0 or g[2].mean() > 0.3 * camera.pitch]
    parts = []
    for group, density in ((generations[:_COARSE], 13.0), (generations[_COARSE:], 9.0)):
        if not group:
            continue
        course, bow, radius, near, far, vein = (np.concatenate(v) for v in zip(*group, strict=True))
        root = body.hilum(side) + vein[:, None] * [0.0, 1.6, -0.5]
        count = int(np.clip(density / camera.pitch * (far - near).max(), 4, 60))
        t = np.linspace(0, 1, count, dtype=np.float32)
        ease = (t * t * (3 - 2 * t))[None, :, None]
        way = course[:, :1] * (1 - ease) + course[:, 1:] * ease
        way[..., 0] += np.sin(t * np.pi) * bow[:, None]
        reach = near[:, None] + t * (far - near)[:, None]
        path = _place(body, root, sign(side), way, reach, shrink, slip)
        shown = keep(*camera.project(path))
        taper = radius[:, None] * (1 - 0.18 * t)
        rank = np.digitize(radius, np.array([0.75, 2.0]) * camera.pitch)
        for some in (rank == r for r in range(3)):
            if some.any():
                parts.append(tube(path[some], taper[some], camera, density=shown[some]))
    return Points.join(parts)


def _grow(rng: np.random.Generator, calibre: float) -> list[tuple[Array, ...]]:
    """Branches by generation: directions at both ends (N, 2, 2); bow, radius, both reaches, vein, (N,) each.

    A direction is the angle below the horizontal in the frontal plane, and the angle towards the front.
    """
    vein = np.repeat([0.0, 1.0], _TRUNKS)
    polar = np.concatenate([np.linspace(-1.35, 1.5, k) for k in _TRUNKS]) + rng.normal(0, 0.10, len(vein))
    ends = np.stack([polar, rng.normal(0, 0.42, len(polar))], -1)
    radius = 0.36 + 0.20 * np.clip(polar, 0, 1) + rng.uniform(-0.05, 0.05, len(polar))
    radius *= calibre * (1 - 0.15 * vein)
    begin, spread = ends * [0.85, 0.6], np.array([0.20, 0.30])
    generations: list[tuple[Array, ...]] = []
    for level, (near, far) in enumerate(pairwise(_REACH)):
        if level:
            begin, vein = np.repeat(ends, 2, axis=0), np.repeat(vein, 2)
            radius = np.repeat(radius, 2) * rng.uniform(0.58, 0.84, 2 * len(radius))
            fork = np.tile([-1.0, 1.0], len(ends))[:, None] * rng.uniform(0.5, 1.3, (len(begin), 1))
            ends = begin + fork * spread + rng.normal(0, 0.05, begin.shape)
            spread = spread * 0.74
        n, bow = np.ones(len(ends), np.float32), rng.normal(0, 0.012, len(ends))
        course = np.stack([begin, ends], 1).astype(np.float32)
        generations.append((course, bow.astype(np.float32), radius, near * n, far * n, vein))
    return generations


def _place(body: Anatomy, root: Array, s: int, course: Array, reach: Array, shrink: float, slip: float) -> Array:
    """Positions (N, K, 3) at a share ``reach`` (N, K) of the way from the roots (N, 3) to the pleura.

    ``course`` (N, K, 2) holds the directions of :func:`_grow`.
    """
    polar, tilt = course[..., 0], course[..., 1]
    flat = np.cos(tilt)
    direction = np.stack([s * np.cos(polar) * flat, np.sin(polar) * flat, np.sin(tilt)], -1)
    centre = np.array([s * 0.53 * body.width, 0.53 * body.lung + slip / 2, -0.05 * body.depth])
    size = (0.50 * body.width - shrink / 2, 0.56 * body.lung - (shrink + slip) / 2, 0.95 * body.depth)
    axes = np.array(size, dtype=np.float32)
    towards, away = direction / axes, ((root - centre) / axes).astype(np.float32)
    a = np.einsum("nki,nki->nk", towards, towards)
    b = np.einsum("nki,ni->nk", towards, away)
    c = np.einsum("ni,ni->n", away, away)[:, None] - 1
    distance = (-b + np.sqrt(np.maximum(b * b - a * c, 0.0))) / a
    return root[:, None].astype(np.float32) + (reach * np.maximum(distance, 1.0))[..., None] * direction
