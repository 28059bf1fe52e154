"""Devices as tubes and boxes in the patient: endotracheal tube, chest drain, pacemaker; ECG leads."""

from dataclasses import dataclass

import numpy as np

from raddino.sample.anatomy import SIDES, Anatomy, sign
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
    drained = [p.side for p in findings.pneumothorax] + [e.side for e in findings.effusion]
    drain: str | None = None
    if drained and rng.random() < 0.35:
        drain = drained[0]
    elif rng.random() < 0.04:
        drain = SIDES[int(rng.random() < 0.5)]
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
    inlet = [0.5 * end[0], 0.35 * end[1] - 1.5, 0.6 * end[2] + 0.4]
    line = resample(np.array([[0.5, -16.0, 4.5], [0.3, -8.0, 1.2], inlet, end]), 0.7 * camera.pitch)
    stripe = tube(line + np.array([0.28, 0, 0.1]), 0.07, camera, density=5.0)
    return Points.join([tube(line, 0.46, camera, wall=0.25, density=0.28), stripe])


def chest_drain(body: Anatomy, devices: Devices, camera: Camera) -> Points:
    """A tube through the side of the chest, with a stripe that breaks off at its last hole."""
    rng = np.random.default_rng(devices.quirk)
    side = devices.drain_side or "right"
    s, y = sign(side), body.lung * rng.uniform(0.50, 0.68)
    wall = float(body.lateral(y))
    entry = np.array([s * (wall + 0.2), y, -0.1 * body.depth])
    outside = np.array([s * (wall + 5.5 + body.fat), y + rng.uniform(1, 5), 0.1 * body.depth])
    up = devices.drain_up
    share = (rng.uniform(0.08, 0.3), rng.uniform(0.2, 0.6), 0.6) if up else (0.88, rng.uniform(0.25, 0.6), 0.85)
    tip = inside_lung(body, side, share)
    bend = 0.5 * (entry + tip) + [-s * 1.5, -1.0 if up else 0.8, -1.5]
    step = 0.7 * camera.pitch
    line = resample(np.stack([outside, entry, bend, tip]), step)
    from_tip = np.arange(len(line))[::-1] * step
    stripe = tube(line + np.array([0, 0.16, 0]), 0.075, camera, density=5.0 * (np.abs(from_tip - 4.0) > 0.35))
    return Points.join([tube(line, 0.36, camera, wall=0.3, density=0.42), stripe])


def pacemaker_can(body: Anatomy, devices: Devices) -> Stack:
    """The generator's box under the collar bone."""
    s = sign(devices.pacemaker_side or "left")
    centre = pocket(body, devices)
    half, tall = 1.8 + 0.5 * body.quirks[52], 1.6 + 0.6 * body.quirks[53]

    def profile(y: Array) -> tuple[Array, Array, Array, Array]:
        t = np.clip(np.abs(y - centre[1]) / tall, 0, 1)
        width = half * np.clip(1 - t**4, 0, 1) ** 0.25
        x = centre[0] + 0.1 * s * (y - centre[1])
        return x, width, np.full_like(y, centre[2]), 0.38 * (width > 0)

    return Stack(profile, squareness=1.0, anchor=(centre[0], centre[2]))


def pocket(body: Anatomy, devices: Devices) -> Array:
    """Centre of the generator (3,), cm."""
    s = sign(devices.pacemaker_side or "left")
    q = body.quirks
    return np.array([s * body.width * (0.68 + 0.12 * q[50]), 4.8 + 2.5 * q[51], 0.8 * body.depth + 1.5])


def pacemaker_leads(body: Anatomy, devices: Devices, camera: Camera) -> Points:
    """One or two wires through the subclavian vein and the vena cava to ventricle and atrium."""
    s = sign(devices.pacemaker_side or "left")
    can, w = pocket(body, devices), body.heart_width
    x, y, z = body.shift, body.heart_height, 0.3 * body.depth
    cava = np.array([x - 2.0, 0.22 * body.lung, 0.1 * body.depth])
    start, loop = can + np.array([-s * 1.0, -2.0, 0.0]), can + np.array([-s * 2.6, -3.6, -1.0])
    vein = np.array([s * 0.30 * body.width, 2.2, 0.35 * body.depth])
    crossing = np.array([s * 0.4 - 0.6, 3.6, 0.25 * body.depth])
    ventricle = [(-0.20, 0.02, 0.0), (-0.06, 0.22, 0.10), (0.36, 0.23, 0.15)]
    atrium = [(-0.22, 0.10, 0.0), (-0.20, 0.18, 0.08), (-0.27, -0.02, 0.15)]
    parts, step = [], 0.7 * camera.pitch
    for k, target in enumerate((ventricle, atrium)[: devices.pacemaker_leads]):
        slack = 0.3 * k * np.array([[1, 0, 0], [0, 1, 0]])
        way = np.stack([start, loop]) + slack
        heart = np.array([x, y, z]) + w * np.array(target)
        line = resample(np.concatenate([way, [vein, crossing, cava], heart]), step)
        from_tip = np.arange(len(line))[::-1] * step
        electrode = (from_tip < 0.5) | ((from_tip > 1.6) & (from_tip < 1.9))
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
        parts.append(tube(resample(ring, camera.pitch * 0.7), 0.16, camera, density=1.6))
        away = np.array([np.sign(x) * body.width * 1.7, spot[1] + rng.uniform(-6, 10), spot[2]])
        middle = (spot + away) / 2 + [0, rng.uniform(-4, 4), 0]
        wire = resample(np.stack([spot, middle, away]), camera.pitch * 0.7)
        parts.append(tube(wire, 0.07, camera, density=2.2))
    return Points.join(parts)
