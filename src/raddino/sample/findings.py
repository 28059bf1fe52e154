"""Findings: what is wrong in a study, how badly, and where it displaces air along the rays."""

from dataclasses import dataclass

import numpy as np

from raddino.sample.anatomy import SIDES, Anatomy, sign
from raddino.sample.patient import Patient
from raddino.sample.detector import low_pass
from raddino.sample.projection import Array, Camera, Ellipsoid, Interval
from raddino.sample.ribs import Break

FINDINGS = ("effusion", "pneumothorax", "consolidation", "cardiomegaly", "nodule", "rib_fracture")


@dataclass(frozen=True)
class Effusion:
    """Pleural fluid of one side; ``amount`` 0 blunts the angle, 1 covers half the lung; ``layered`` when lying."""

    side: str
    amount: float
    layered: bool


@dataclass(frozen=True)
class Pneumothorax:
    """Air between lung and chest wall of one side: the ``gap`` at the side and the apex's extra ``slip``, cm."""

    side: str
    gap: float
    slip: float
    tension: float


@dataclass(frozen=True)
class Consolidation:
    """Airspace filling of one zone; ``centre`` and ``radii`` in shares of the lung (see :func:`inside_lung`)."""

    side: str
    centre: tuple[float, float, float]
    radius: float
    density: float


@dataclass(frozen=True)
class Nodule:
    """A round lesion of ``radius`` cm."""

    side: str
    centre: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Findings:
    """All findings of a study; an empty tuple is absence. ``heart_ratio`` above 0.5 is cardiomegaly."""

    heart_ratio: float
    effusion: tuple[Effusion, ...] = ()
    pneumothorax: tuple[Pneumothorax, ...] = ()
    consolidation: tuple[Consolidation, ...] = ()
    nodule: tuple[Nodule, ...] = ()
    rib_fracture: tuple[Break, ...] = ()

    @property
    def cardiomegaly(self) -> bool:
        return self.heart_ratio > 0.5

    @property
    def labels(self) -> dict[str, int]:
        """0 or 1 for each of :data:`FINDINGS`."""
        return {name: int(bool(getattr(self, name))) for name in FINDINGS}

    @property
    def mediastinal_shift(self) -> float:
        """Displacement of the mediastinum to the patient's left, cm: away from tension and large effusions."""
        push = sum(-sign(p.side) * p.tension for p in self.pneumothorax)
        return push + sum(-sign(e.side) * 1.3 * max(0.0, e.amount - 0.6) for e in self.effusion)


def draw_findings(patient: Patient, study: int, supine: bool) -> Findings:
    """The findings of a patient's study; a pure function of (seed, patient, study).

    About a third of the studies have none. Nodules and the heart's size last from study to study.
    """
    rng = np.random.default_rng([patient.seed, 5, patient.index, study])
    lasting = np.random.default_rng([patient.seed, 6, patient.index])
    enlarged = lasting.random() < 0.10 + 0.20 * patient.ageing
    ratio = lasting.uniform(0.525, 0.66) if enlarged else patient.heart_ratio
    nodules = _nodules(lasting, patient)
    breaks = _breaks(lasting)
    side = SIDES[int(rng.random() < 0.5)]
    effusion = ()
    if rng.random() < 0.17 + 0.2 * enlarged:
        sides = SIDES if rng.random() < 0.3 else (side,)
        effusion = tuple(
            Effusion(s, float(rng.beta(1.3, 1.6)), bool(supine and rng.random() < 0.6)) for s in sides
        )
    pneumothorax = ()
    if rng.random() < 0.14:
        wet = {e.side for e in effusion}
        free = [s for s in SIDES if s not in wet]
        if free:
            gap = float(0.7 + 4.3 * rng.beta(1.1, 1.9))
            tension = float(rng.uniform(0.6, 2.2)) if gap > 2.8 and rng.random() < 0.5 else 0.0
            pneumothorax = (Pneumothorax(free[int(rng.random() * len(free))], gap, float(gap * rng.uniform(0.5, 1.3)), tension),)
    consolidation = _consolidations(rng) if rng.random() < 0.2 else ()
    return Findings(float(ratio), effusion, pneumothorax, consolidation, nodules, breaks)


def _consolidations(rng: np.random.Generator) -> tuple[Consolidation, ...]:
    first = SIDES[int(rng.random() < 0.5)]
    patches = []
    for k in range(1 + int(rng.random() < 0.35) + int(rng.random() < 0.2)):
        side = first if k == 0 or rng.random() < 0.5 else SIDES[first == "right"]
        centre = (float(rng.beta(2.4, 1.6) * 0.68 + 0.14), float(rng.uniform(0.25, 0.75)), float(rng.uniform(0.25, 0.75)))
        patches.append(Consolidation(side, centre, float(rng.uniform(2.2, 5.0)), float(rng.uniform(0.35, 0.95))))
    return tuple(patches)


def _nodules(rng: np.random.Generator, patient: Patient) -> tuple[Nodule, ...]:
    if rng.random() >= 0.11 + 0.10 * patient.smoker:
        return ()
    count = 1 + (int(rng.integers(1, 6)) if rng.random() < 0.25 else 0)
    return tuple(
        Nodule(
            SIDES[int(rng.random() < 0.5)],
            (float(rng.uniform(0.12, 0.72)), float(rng.uniform(0.3, 0.85)), float(rng.uniform(0.2, 0.8))),
            float(rng.uniform(0.45, 1.5)),
        )
        for _ in range(count)
    )


def _breaks(rng: np.random.Generator) -> tuple[Break, ...]:
    if rng.random() >= 0.13:
        return ()
    side, first = SIDES[int(rng.random() < 0.5)], int(rng.integers(3, 9))
    angle, callus = rng.uniform(0.75, 2.0), bool(rng.random() < 0.3)
    return tuple(
        Break(side, first + k, float(angle + rng.normal(0, 0.08)), float(rng.uniform(0.45, 1.1) * (0.5 if callus else 1)), callus)
        for k in range(int(rng.integers(1, 4)))
    )


def inside_lung(body: Anatomy, side: str, share: tuple[float, float, float]) -> Array:
    """Patient position (3,) of shares (down, outwards, backwards) of a lung, each 0 to 1."""
    floor = body.dome_top(side) + 1.5
    y = share[0] * floor
    profile = body.pleura(side).profile(np.array([y]))
    x, half, z, depth = (float(v[0]) for v in profile)
    return np.array([x + sign(side) * half * (2 * share[1] - 1), y, z - depth * (2 * share[2] - 1)])


def fluid_share(body: Anatomy, camera: Camera, effusion: Effusion) -> Array:
    """Share (H, W) of each ray's way through the pleural space that runs in fluid.

    The surface is a meniscus: lowest in the middle of the space and drawn up along its walls; the share follows
    from it in closed form. Layered fluid of a lying patient veils the whole side instead.
    """
    s = sign(effusion.side)
    u, v = camera.axes(0.0)
    y = v[:, None].astype(np.float32)
    if effusion.layered:
        veil = np.clip((y / body.lung - 0.05) / 0.9, 0, 1) ** 0.7
        return (veil * (0.10 + 0.38 * effusion.amount)) * np.ones_like(u, dtype=np.float32)
    level = body.lung + 0.3 - body.lung * (0.06 + 0.52 * effusion.amount)
    rise = 2.0 + 0.22 * body.lung * (0.4 + effusion.amount)
    across = (u[None] - camera.lean * (v[:, None] - camera.beam)).astype(np.float32)
    if abs(np.sin(camera.turn)) < 0.7:
        wall = body.lateral(v)[:, None].astype(np.float32)
        place = np.clip((s * across - 0.25 * wall) / (0.75 * wall), 0, 1)
    else:
        place = np.clip(np.abs(-across - body.forward(v)[:, None]) / body.half_depth(v)[:, None], 0, 1)
    depth = np.clip((level - rise * place * place * place - y) / np.float32(0.7 * rise), 0, 1)
    return (1 - np.sqrt(depth)).astype(np.float32)


def lesions(body: Anatomy, findings: Findings, side: str, camera: Camera, lung: Interval, cloud: Array) -> dict[str, Array]:
    """Soft tissue of consolidations and nodules of one lung along the rays (H, W), cm.

    ``cloud`` is a unit-variance random field that frays the edges of consolidation.
    """
    out = {}
    for patch in findings.consolidation:
        if patch.side == side:
            centre, r = inside_lung(body, side, patch.centre), patch.radius
            chord = (Ellipsoid(centre, (r, 1.15 * r, r)).interval(camera) & lung).length
            ragged = chord / (2 * r) + 0.25 * low_pass(cloud, 0.2 / camera.pitch)
            filled = chord * patch.density * np.clip((ragged - 0.12) / 0.6, 0, 1) * 0.75
            out["consolidation"] = np.maximum(out.get("consolidation", 0), filled)
    for nodule in findings.nodule:
        if nodule.side == side:
            centre, r = inside_lung(body, side, nodule.centre), nodule.radius
            chord = (Ellipsoid(centre, (r, 0.92 * r, r)).interval(camera) & lung).length
            out["nodule"] = np.maximum(out.get("nodule", 0), chord)
    return out
