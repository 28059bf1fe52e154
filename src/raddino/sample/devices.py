"""Devices: endotracheal tube, chest drain and pacemaker as tubes and boxes in the patient; ECG leads as clutter."""

from dataclasses import dataclass

import numpy as np

from raddino.sample.anatomy import Anatomy, sign
from raddino.sample.findings import Findings, inside_lung
from raddino.sample.patient import Patient
from raddino.sample.projection import Array, Camera, Points, Stack, resample, tube

DEVICES = ("endotracheal_tube", "chest_drain", "pacemaker")


@dataclass(frozen=True)
class Devices:
    """What a study's patient carries. Sides are None where the device is absent."""

    tube_height: float | None = None
    """Tip of the endotracheal tube above the carina, cm."""
    drain_side: str | None = None
    drain_up: bool = True
    pacemaker_side: str | None = None
    pacemaker_leads: int = 2
    electrodes: int = 0
    quirk: int = 0

    @property
    def labels(self) -> dict[str, int]:
        """0 or 1 for each of :data:`DEVICES`."""
        present = (self.tube_height, self.drain_side, self.pacemaker_side)
        return {name: int(value is not None) for name, value in zip(DEVICES, present, strict=True)}


def draw_devices(patient: Patient, study: int, supine: bool, findings: Findings) -> Devices:
    """The devices of a patient's study; a pure function of (seed, patient, study) and the findings."""
    rng = np.random.default_rng([patient.seed, 7, patient.index, study])
    lasting = np.random.default_rng([patient.seed, 8, patient.index])
    drained = [x.side for x in (*findings.pneumothorax, *findings.effusion)]
    if drained and rng.random() < 0.35:
        drain = drained[0]
    else:
        drain = ("right", "left")[int(rng.random() < 0.5)] if rng.random() < 0.04 else None
    pace = lasting.random() < 0.03 + 0.20 * patient.ageing + 0.08 * findings.cardiomegaly
    return Devices(
        tube_height=float(rng.uniform(1.5, 6.5)) if supine and rng.random() < 0.42 else None,
        drain_side=drain,
        drain_up=bool(findings.pneumothorax) or rng.random() < 0.4,
        pacemaker_side=("left" if lasting.random() < 0.85 else "right") if pace else None,
        pacemaker_leads=int(lasting.integers(1, 3)),
        electrodes=int(rng.integers(2, 6)) if supine and rng.random() < 0.6 else 0,
        quirk=int(rng.integers(2**31)),
    )


def endotracheal_tube(body: Anatomy, devices: Devices, camera: Camera) -> Points:
    """A faint plastic wall and a radiopaque stripe, from the mouth to above the carina."""
    end = body.carina() - [0, devices.tube_height or 0.0, 0]
    path = np.array([[0.5, -16.0, 4.5], [0.3, -8.0, 1.2], [0.5 * end[0], 0.35 * end[1] - 1.5, 0.6 * end[2] + 0.4], end])
    line = resample(path, camera.pitch * 0.7)
    round_ = np.ones(len(line))
    stripe = tube(line + [0.28, 0, 0.1], 0.07 * round_, camera, density=5.0)
    return Points.join([tube(line, 0.46 * round_, camera, wall=0.25, density=0.28), stripe])


def chest_drain(body: Anatomy, devices: Devices, camera: Camera) -> Points:
    """A tube through the side of the chest, with a stripe that breaks off at its last hole."""
    rng = np.random.default_rng(devices.quirk)
    side = devices.drain_side or "right"
    s = sign(side)
    y = body.lung * rng.uniform(0.50, 0.68)
    wall = float(body.lateral(y))
    entry = np.array([s * (wall + 0.2), y, -0.1 * body.depth])
    outside = np.array([s * (wall + 5.5 + body.fat), y + rng.uniform(1, 5), 0.1 * body.depth])
    goal = (rng.uniform(0.08, 0.3), rng.uniform(0.2, 0.6), 0.6) if devices.drain_up else (0.88, rng.uniform(0.1, 0.4), 0.85)
    tip = inside_lung(body, side, goal)
    bend = 0.5 * (entry + tip) + [-s * 1.5, -1.0 if devices.drain_up else 0.8, -1.5]
    line = resample(np.stack([outside, entry, bend, tip]), camera.pitch * 0.7)
    along = np.arange(len(line)) * camera.pitch * 0.7
    hole = np.abs(along - (along[-1] - 4.0)) < 0.35
    round_ = np.ones(len(line))
    wall_ = tube(line, 0.36 * round_, camera, wall=0.3, density=0.42)
    return Points.join([wall_, tube(line + [0, 0.16, 0], 0.075 * round_, camera, density=5.0 * ~hole)])


def pacemaker_can(body: Anatomy, devices: Devices) -> Stack:
    """The generator's box under the collar bone."""
    rng = np.random.default_rng([devices.quirk % 7, body.patient.index])
    s = sign(devices.pacemaker_side or "left")
    centre = _pocket(body, devices)
    half, tall = rng.uniform(2.0, 2.5), rng.uniform(1.9, 2.6)

    def profile(y: Array) -> tuple[Array, Array, Array, Array]:
        t = np.clip(np.abs(y - centre[1]) / tall, 0, 1)
        width = half * np.clip(1 - t**4, 0, 1) ** 0.25
        return np.full_like(y, centre[0]) + 0.1 * s * (y - centre[1]), width, np.full_like(y, centre[2]), 0.38 * (width > 0)

    return Stack(profile, squareness=1.0, anchor=(centre[0], centre[2]))


def _pocket(body: Anatomy, devices: Devices) -> Array:
    s = sign(devices.pacemaker_side or "left")
    q = body.quirks
    return np.array([s * body.width * (0.68 + 0.12 * q[50]), 4.8 + 2.5 * q[51], 0.8 * body.depth + 1.5])


def pacemaker_leads(body: Anatomy, devices: Devices, camera: Camera) -> Points:
    """One or two wires through the subclavian vein and the vena cava to ventricle and atrium."""
    s = sign(devices.pacemaker_side or "left")
    can, w = _pocket(body, devices), 2 * body.width * body.heart_ratio
    x, y, z = body.shift, body.heart_top, 0.3 * body.depth
    cava = np.array([x - 2.0, 0.22 * body.lung, 0.1 * body.depth])
    start = can + [-s * 1.0, -2.0, 0]
    loop = can + [-s * 2.6, -3.6, -1.0]
    vein = np.array([s * 0.30 * body.width, 2.2, 0.35 * body.depth])
    crossing = np.array([s * 0.4 - 0.6, 3.6, 0.25 * body.depth])
    ventricle = [[x - 0.20 * w, y + 0.02 * w, z], [x - 0.06 * w, y + 0.22 * w, z + 0.1 * w], [x + 0.36 * w, y + 0.23 * w, z + 0.15 * w]]
    atrium = [[x - 0.22 * w, y + 0.10 * w, z], [x - 0.20 * w, y + 0.18 * w, z + 1.0], [x - 0.27 * w, y - 0.02 * w, z + 2.0]]
    parts = []
    for k, target in enumerate([ventricle, atrium][: devices.pacemaker_leads]):
        line = resample(np.stack([start + [0.3 * k, 0, 0], loop + [0, 0.4 * k, 0], vein, crossing, cava, *np.array(target)]), camera.pitch * 0.7)
        left = (len(line) - np.arange(len(line))) * camera.pitch * 0.7
        electrode = (left < 0.5) | ((left > 1.6) & (left < 1.9))
        parts.append(tube(line, np.where(electrode, 0.14, 0.085), camera, density=5.0))
    return Points.join(parts)


def electrodes(body: Anatomy, devices: Devices, camera: Camera) -> Points:
    """ECG electrodes on the skin and their wires: clutter without a label."""
    rng = np.random.default_rng(devices.quirk + 1)
    spots = np.array([[-0.8, 0.02], [0.8, 0.02], [-0.95, 0.8], [0.95, 0.8], [0.35, 0.75]])[: devices.electrodes]
    parts = []
    turn = np.linspace(0, 2 * np.pi, 24)
    for x, t in spots + rng.normal(0, 0.07, spots.shape):
        spot = np.array([x * body.width, t * body.lung, body.depth + 2.5 + body.fat])
        ring = spot + np.stack([0.35 * np.cos(turn), 0.35 * np.sin(turn), 0 * turn], -1)
        parts.append(tube(resample(ring, camera.pitch * 0.7), np.full(1, 0.16), camera, density=1.6))
        away = np.array([np.sign(x) * body.width * 1.7, spot[1] + rng.uniform(-6, 10), spot[2]])
        middle = (spot + away) / 2 + [0, rng.uniform(-4, 4), 0]
        wire = resample(np.stack([spot, middle, away]), camera.pitch * 0.7)
        parts.append(tube(wire, np.full(1, 0.07), camera, density=2.2))
    return Points.join(parts)
