"""Findings: what is wrong in a study, how badly, and where it displaces air along the rays."""

from dataclasses import dataclass

import numpy as np

from raddino.sample.anatomy import SIDES, Anatomy, sign
from raddino.sample.detector import low_pass
from raddino.sample.patient import Patient
from raddino.sample.projection import Array, Camera, Ellipsoid, Interval
from raddino.sample.ribs import Break

FINDINGS = ("effusion", "pneumothorax", "consolidation", "cardiomegaly", "nodule", "rib_fracture")


@dataclass(frozen=True)
class Effusion:
    """Pleural fluid of one side: ``amount`` 0 blunts the angle, 1 fills half; ``layered`` if lying."""

    side: str
    amount: float
    layered: bool


@dataclass(frozen=True)
class Pneumothorax:
    """Air around one lung: the ``gap`` at the side, the apex's extra ``slip``, the mediastinal shift; cm."""

    side: str
    gap: float
    slip: float
    tension: float


@dataclass(frozen=True)
class Consolidation:
    """Airspace filling: ``centre`` in shares of the lung (:func:`inside_lung`), ``radius`` in cm."""

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
        """Shift of the mediastinum to the patient's left, cm: away from tension and large effusions."""
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
    effusion = _effusions(rng, supine, enlarged)
    pneumothorax = _pneumothorax(rng, {e.side for e in effusion})
    consolidation = _consolidations(rng)
    return Findings(float(ratio), effusion, pneumothorax, consolidation, _nodules(lasting, patient), _breaks(lasting))


def _draw_side(rng: np.random.Generator) -> str:
    return SIDES[int(rng.random() < 0.5)]


def _effusions(rng: np.random.Generator, supine: bool, heart: bool) -> tuple[Effusion, ...]:
    if rng.random() >= 0.17 + 0.2 * heart:
        return ()
    sides = SIDES if rng.random() < 0.3 else (_draw_side(rng),)
    layered = bool(supine and rng.random() < 0.6)
    return tuple(Effusion(side, float(rng.beta(1.3, 1.6)), layered) for side in sides)


def _pneumothorax(rng: np.random.Generator, wet: set[str]) -> tuple[Pneumothorax, ...]:
    side = _draw_side(rng)
    if rng.random() >= 0.16 or side in wet:
        return ()
    gap = float(0.7 + 4.3 * rng.beta(1.1, 1.9))
    tension = float(rng.uniform(0.6, 2.2)) if gap > 2.8 and rng.random() < 0.5 else 0.0
    return (Pneumothorax(side, gap, float(gap * rng.uniform(0.5, 1.3)), tension),)


def _consolidations(rng: np.random.Generator) -> tuple[Consolidation, ...]:
    if rng.random() >= 0.2:
        return ()
    count = int(rng.choice([1, 2, 3], p=[0.55, 0.35, 0.10]))
    side, spread = _draw_side(rng), rng.random()
    patches = []
    for _ in range(count):
        down, out, back = rng.beta(2.4, 1.6) * 0.68 + 0.14, *rng.uniform(0.25, 0.75, 2)
        radius, density = rng.uniform(2.5, 5.5), rng.uniform(0.4, 1.0)
        where = (float(down), float(out), float(back))
        patches.append(Consolidation(side, where, float(radius), float(density)))
        side = _draw_side(rng) if spread < 0.5 else side
    return tuple(patches)


def _nodules(rng: np.random.Generator, patient: Patient) -> tuple[Nodule, ...]:
    if rng.random() >= 0.11 + 0.10 * patient.smoker:
        return ()
    count = int(rng.integers(2, 7)) if rng.random() < 0.25 else 1
    shares = rng.uniform((0.12, 0.3, 0.2), (0.72, 0.85, 0.8), (count, 3)).tolist()
    return tuple(Nodule(_draw_side(rng), (a, b, c), float(rng.uniform(0.45, 1.5))) for a, b, c in shares)


def _breaks(rng: np.random.Generator) -> tuple[Break, ...]:
    if rng.random() >= 0.13:
        return ()
    side, first = _draw_side(rng), int(rng.integers(3, 9))
    angle, callus = rng.uniform(0.75, 2.0), bool(rng.random() < 0.3)
    return tuple(
        Break(
            side=side,
            rib=first + k,
            angle=float(angle + rng.normal(0, 0.08)),
            step=float(rng.uniform(0.6, 1.3) * (0.5 if callus else 1.0)),
            callus=callus,
        )
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

    The surface is a meniscus, drawn up along the walls; the share follows from it in closed form.
    Layered fluid of a lying patient veils the whole side instead.
    """
    s = sign(effusion.side)
    u, v = camera.axes(0.0)
    y = v[:, None].astype(np.float32)
    if effusion.layered:
        veil = np.sin(np.pi / 2 * np.clip(y / body.lung, 0, 1)) ** 2
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


def lesions(
    body: Anatomy, findings: Findings, side: str, camera: Camera, lung: Interval, cloud: Array
) -> dict[str, Array]:
    """Soft tissue of consolidations and nodules of one lung along the rays (H, W), cm.

    ``cloud`` is a unit-variance random field that frays the edges of consolidation.
    """
    out: dict[str, Array] = {}
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
