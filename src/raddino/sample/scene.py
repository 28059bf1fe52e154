"""One image: a body, its findings and devices, seen by a camera; and the exact truth about it."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image as Picture

from raddino.sample import detector, devices as dev, skeleton
from raddino.sample.anatomy import SIDES, Anatomy
from raddino.sample.findings import Findings, fluid_share, lesions
from raddino.sample.projection import Array, Camera, Interval
from raddino.sample.vessels import lung_vessels

MUSCLE, FAT, LUNG, METAL = 0.205, 0.165, 0.047, 0.9
"""Effective attenuation, 1/cm, of a filtered diagnostic beam; metal is capped by beam hardening."""


@dataclass(frozen=True)
class Scene:
    """Everything that decides one image."""

    body: Anatomy
    findings: Findings
    devices: dev.Devices
    camera: Camera
    exposure: detector.Exposure
    bone: float
    """Contrast of bone against the average tube voltage's."""
    view: str


@dataclass
class Rendering:
    """The picture in [0, 1], the noiseless attenuation it was made from, both (H, W) float32, and the truth.

    ``masks`` are uint8 (H, W): 0 and 255, but ``zones`` counts 1-3 image-left lung from top to bottom, 4-6 right.
    """

    image: Array
    attenuation: Array
    masks: dict[str, Array] = field(default_factory=dict)


def render(scene: Scene) -> Rendering:
    """Project the scene, expose the detector, and keep the masks."""
    body, camera, findings = scene.body, scene.camera, scene.findings
    frontal = scene.view != "LATERAL"
    rng = np.random.default_rng([*scene.exposure.seed, 1])
    texture = detector.cloud(camera.size, 2.6, rng, cut=6.0)
    masks: dict[str, Array] = {}

    path = _outline(body, camera)
    chest = _Chest(body, camera)
    fields = {}
    for side in SIDES:
        lung, silhouette = _one_lung(scene, chest, side, texture, masks)
        path += lung
        fields[side] = silhouette
    path -= MUSCLE * body.airway(camera).project(camera) * 0.9
    for gas in body.bowel_gas():
        path -= 0.5 * MUSCLE * gas.interval(camera).length
    path += scene.bone * _bones(scene, masks) * (1 + 0.06 * np.roll(texture, 131, axis=1))
    _devices(scene, path, masks)
    np.maximum(path, 0, out=path)

    masks["heart"] = chest.heart.inside
    if findings.cardiomegaly:
        masks["cardiomegaly"] = masks["heart"]
    masks["lungs"] = fields["right"] | fields["left"]
    out = {name: mask.astype(np.uint8) * 255 for name, mask in masks.items()}
    if frontal:
        out["zones"] = _zones(fields)

    seen = detector.expose(path, scene.exposure, camera.pitch)
    grey = detector.tone(seen, scene.exposure, camera.pitch)
    grey = detector.mark(detector.collimate(grey, scene.exposure), scene.exposure)
    return Rendering(grey, path, out)


class _Chest:
    """What bounds both lungs, computed once."""

    def __init__(self, body: Anatomy, camera: Camera) -> None:
        self.heart = Interval.hull([solid.interval(camera) for solid in body.heart()])
        great = [solid.interval(camera) for solid in body.great_vessels()]
        self.middle = Interval.hull([body.mediastinum().interval(camera), self.heart, *great])
        self.aorta = body.descending_aorta().interval(camera)
        self.spine = skeleton.vertebrae(body)[0].interval(camera)

    def air(self, space: Interval, dome: Interval) -> Array:
        """Length of each ray in ``space`` that no organ takes, cm."""
        length = space.length - (space & self.middle).length - (space & dome).length
        length += (space & self.middle & dome).length
        length -= np.maximum((space & self.aorta).length - (space & self.middle & self.aorta).length, 0)
        length -= np.maximum((space & self.spine).length - (space & self.middle & self.spine).length, 0)
        return np.maximum(length, 0)


def _outline(body: Anatomy, camera: Camera) -> Array:
    """Attenuation of a body without chest organs: skin and fat around muscle. Smooth, so computed coarsely."""
    frontal = abs(np.sin(camera.turn)) < 0.7
    coarse = camera.coarser(2)
    outer, inner = (body.trunk(skin).interval(coarse) for skin in (0.0, body.fat))
    total, lean = outer.length, inner.length
    for full, core in zip(body.limbs(0.0, frontal), body.limbs(body.fat, frontal), strict=True):
        total, lean = _merge(total, full.interval(coarse).length), _merge(lean, core.interval(coarse).length)
    breast = np.zeros_like(total)
    for mound in body.breasts():
        interval = mound.interval(coarse)
        breast += interval.length - (interval & outer).length
    path = FAT * (total - lean) + MUSCLE * lean + 0.185 * breast
    grid = Picture.fromarray(path.astype(np.float32)).resize((camera.size, camera.size), Picture.Resampling.BICUBIC)
    return np.maximum(np.asarray(grid), 0)


def _merge(a: Array, b: Array) -> Array:
    """Length of the union of chords about a common middle, without a crease."""
    a, b = a * a, b * b
    return np.sqrt(np.sqrt(a * a + b * b))


def _one_lung(scene: Scene, chest: _Chest, side: str, texture: Array, masks: dict[str, Array]) -> tuple[Array, Array]:
    """Change of attenuation (H, W) by one lung and its pleural space, and the lung field's silhouette."""
    body, camera, findings = scene.body, scene.camera, scene.findings
    stack = body.pleura(side)
    pleura, dome = stack.interval(camera), body.dome(side).interval(camera)
    space = chest.air(pleura, dome)
    silhouette = pleura.inside & ~dome.inside & (pleura.length > 1.0)
    collapse = next((p for p in findings.pneumothorax if p.side == side), None)
    shrink, slip = (collapse.gap, collapse.slip) if collapse else (0.0, 0.0)
    lung, aerated = pleura, space
    change = np.zeros_like(space)
    if collapse:
        lung = pleura & body.pleura(side, shrink, slip).interval(camera)
        aerated = np.minimum(chest.air(lung, dome), space)
        inner = body.pleura(side, shrink + 0.1, slip + 0.1).interval(camera)
        change += 0.11 * np.clip(lung.length - (lung & inner).length, 0, 1.6)
        gap = silhouette & ~lung.inside
        masks["pneumothorax"] = masks.get("pneumothorax", False) | gap
    found = lesions(body, findings, side, camera, lung, texture)
    for name, soft in found.items():
        soft = np.minimum(soft, aerated)
        masks[name] = masks.get(name, False) | (soft > (0.25 if name == "consolidation" else 0.05))
        change += (MUSCLE * 0.95 - LUNG) * soft
    fluid = np.float32(0)
    for effusion in findings.effusion:
        if effusion.side == side:
            fluid = fluid_share(body, camera, effusion)
            shown = space * fluid
            masks["effusion"] = masks.get("effusion", False) | (shown > 0.5)
            change += MUSCLE * shown
    density = LUNG * (1 + 0.12 * shrink) * (1 + 0.05 * texture)
    vessels = lung_vessels(body, camera, side, shrink, slip).project(camera, _within(lung, aerated))
    thin = np.minimum(vessels, 0.6 * aerated)
    change = change * 1.0 + (1 - fluid) * (density * aerated + (MUSCLE - LUNG) * 1.15 * thin)
    return change - MUSCLE * space, silhouette


def _within(lung: Interval, aerated: Array):
    """Factor of points: 1 in aerated lung, else 0."""
    size = aerated.shape[0]

    def keep(columns: Array, rows: Array, depth: Array) -> Array:
        x, y = np.clip(columns, 0, size - 1).astype(np.int32), np.clip(rows, 0, size - 1).astype(np.int32)
        return (aerated[y, x] > 0.3) & (depth > lung.low[y, x]) & (depth < lung.high[y, x])

    return keep


def _bones(scene: Scene, masks: dict[str, Array]) -> Array:
    body, camera = scene.body, scene.camera
    ribs = skeleton.ribs(body, camera, scene.findings.rib_fracture)
    cage = ribs.points.project(camera)
    masks["ribs"] = cage > 0.10
    if ribs.near_break is not None:
        masks["rib_fracture"] = ribs.near_break.project(camera) > 0.08
    column, _ = skeleton.vertebrae(body)
    chord = column.interval(camera).length
    _, v = camera.axes(0.0)
    chord *= skeleton.vertebral_density(body, v).astype(np.float32)[:, None]
    rest = skeleton.arches(body, camera)
    frontal = scene.view != "LATERAL"
    bone = 0.62 * cage / (1 + 0.55 * cage) + chord + rest.project(camera)
    if frontal:
        bone += skeleton.shoulders(body, camera).project(camera)
    return bone


def _devices(scene: Scene, path: Array, masks: dict[str, Array]) -> None:
    body, camera, devices = scene.body, scene.camera, scene.devices
    metal = {}
    if devices.tube_height is not None:
        metal["endotracheal_tube"] = dev.endotracheal_tube(body, devices, camera).project(camera)
    if devices.drain_side is not None:
        metal["chest_drain"] = dev.chest_drain(body, devices, camera).project(camera)
    if devices.pacemaker_side is not None:
        leads = dev.pacemaker_leads(body, devices, camera).project(camera)
        metal["pacemaker"] = leads + 2.2 * dev.pacemaker_can(body, devices).interval(camera).length
    for name, amount in metal.items():
        masks[name] = amount > 0.06
        path += METAL * np.minimum(amount, 1.7)
    if devices.electrodes:
        path += METAL * np.minimum(dev.electrodes(body, devices, camera).project(camera), 1.2)


def _zones(fields: dict[str, Array]) -> Array:
    """Thirds of each lung field's height: 1-3 image-left, 4-6 image-right, 0 outside."""
    zones = np.zeros(fields["right"].shape, np.uint8)
    for first, side in ((1, "right"), (4, "left")):
        rows = np.flatnonzero(fields[side].any(axis=1))
        if rows.size:
            top, height = rows[0], rows[-1] + 1 - rows[0]
            third = np.clip((np.arange(len(zones)) - top) * 3 // height, 0, 2).astype(np.uint8)
            zones[fields[side]] = np.broadcast_to(third[:, None] + first, zones.shape)[fields[side]]
    return zones
