"""One image: a body, its findings and devices, seen by a camera; and the exact truth about it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture

from raddino.sample import detector, outline, skeleton
from raddino.sample import devices as fitted
from raddino.sample.anatomy import SIDES, Anatomy
from raddino.sample.findings import Findings
from raddino.sample.lungs import MUSCLE, Masks, Side, zones
from raddino.sample.projection import Array, Camera, Points
from raddino.sample.ribs import Break, ribs

FAT, GLAND, METAL = 0.165, 0.185, 0.9
"""Effective attenuation of fat, breast and metal, 1/cm; metal's path is capped, as beam hardening does."""


@dataclass(frozen=True)
class Scene:
    """All that decides one image; ``bone`` is the contrast of bone against the average tube voltage's."""

    body: Anatomy
    findings: Findings
    devices: fitted.Devices
    camera: Camera
    exposure: detector.Exposure
    bone: float
    view: str


@dataclass(frozen=True)
class Rendering:
    """The picture in [0, 1], the noiseless attenuation it was made from, both (H, W) float32, and the truth.

    ``masks`` are uint8 (H, W): 0 and 255, but ``zones`` counts 1-3 image-left from the top, 4-6 image-right.
    """

    image: Array
    attenuation: Array
    masks: dict[str, Array]


def render(scene: Scene) -> Rendering:
    """Project the scene (Beer-Lambert line integrals), expose the detector, and keep the masks."""
    body, camera, findings, exposure = scene.body, scene.camera, scene.findings, scene.exposure
    texture = detector.cloud(camera.size, 2.6, np.random.default_rng([*exposure.seed, 1]), cut=6.0)
    masks = Masks(camera.size)
    path = _outline(body, camera, scene.view)
    fields = {}
    for name in SIDES:
        side = Side(body, name, camera)
        path[side.view.window or ...] += side.attenuation(findings, texture, masks)
        masks.add("lungs", side.field, side.view)
        masks.add("heart", side.heart.inside, side.view)
        fields[name] = np.zeros(path.shape, bool)
        fields[name][side.view.window or ...] = side.field
    path -= 1.15 * MUSCLE * outline.airway(body, camera).image(camera)
    for gas in outline.bowel_gas(body):
        view = camera.around(gas.centre, gas.axes)
        path[view.window or ...] -= 0.5 * MUSCLE * gas.interval(view).length
    bone = _bones(body, camera, scene.view, findings.rib_fracture, masks)
    path += scene.bone * bone * (1 + 0.06 * np.roll(texture, 131, axis=1))
    path += METAL * _metal(body, camera, scene.devices, masks)
    np.maximum(path, 0, out=path)

    found = masks.found
    if findings.cardiomegaly:
        found["cardiomegaly"] = found["heart"]
    truth = {name: mask.astype(np.uint8) * np.uint8(255) for name, mask in found.items()}
    if scene.view != "LATERAL":
        truth["zones"] = zones(fields)

    seen = detector.expose(path, exposure, camera.pitch)
    grey = detector.read_out(detector.tone(seen, exposure, camera.pitch), exposure, camera.pitch)
    grey = detector.collimate(grey, exposure)
    return Rendering(detector.mark(grey, exposure), path, truth)


def _outline(body: Anatomy, camera: Camera, view: str) -> Array:
    """Attenuation of a body without chest organs: fat, muscle, breasts. Smooth, so computed coarsely."""
    coarse = camera.coarser(2)
    outer, inner = (solid.interval(coarse) for solid in outline.trunk(body, (0.0, body.fat)))
    total, lean = outer.length, inner.length
    for limb in outline.limbs(body, 0.0, view):
        total = _merge(total, limb.interval(coarse).length)
    for limb in outline.limbs(body, body.fat, view):
        lean = _merge(lean, limb.interval(coarse).length)
    path = FAT * (total - lean) + MUSCLE * lean
    for mound in outline.breasts(body):
        breast = mound.interval(coarse)
        path += GLAND * (breast.length - (breast & outer).length)
    whole = (camera.size, camera.size)
    fine = Picture.fromarray(path.astype(np.float32)).resize(whole, Picture.Resampling.BICUBIC)
    return np.maximum(np.asarray(fine), 0)


def _merge(a: Array, b: Array) -> Array:
    """Length of the union of chords about a common middle, without a crease."""
    a, b = a * a, b * b
    return np.sqrt(np.sqrt(a * a + b * b))


def _bones(body: Anatomy, camera: Camera, view: str, breaks: tuple[Break, ...], masks: Masks) -> Array:
    """Attenuation of all bone at average tube voltage; adds the masks of ribs and fractures."""
    whole, broken = ribs(body, camera, breaks)
    cage = whole.image(camera)
    masks.add("ribs", cage > 0.10, camera)
    if broken is not None:
        masks.add("rib_fracture", broken.image(camera) > 0.08, camera)
    rest = [skeleton.arches(body, camera)]
    if view != "LATERAL":
        rest.append(skeleton.shoulders(body, camera))
    bone = 0.8 * cage / (1 + 0.75 * cage) + Points.join(rest).image(camera)
    back = camera.around((0, body.lung / 2, -0.5 * body.depth), (2.6, 60, 1.2 * body.depth))
    column = skeleton.vertebrae(body).interval(back).length
    column *= skeleton.vertebral_density(body, back.axes(0.0)[1]).astype(np.float32)[:, None]
    bone[back.window or ...] += column
    return bone


def _metal(body: Anatomy, camera: Camera, devices: fitted.Devices, masks: Masks) -> Array:
    """Path through devices and clutter, cm; adds the devices' masks."""
    found: dict[str, Array] = {}
    if devices.tube_height is not None:
        found["endotracheal_tube"] = fitted.endotracheal_tube(body, devices, camera).image(camera)
    if devices.drain_side is not None:
        found["chest_drain"] = fitted.chest_drain(body, devices, camera).image(camera)
    if devices.pacemaker_side is not None:
        leads = fitted.pacemaker_leads(body, devices, camera).image(camera)
        near = camera.around(fitted.pocket(body, devices), (4, 4, 3))
        leads[near.window or ...] += 3.4 * fitted.pacemaker_can(body, devices).interval(near).length
        found["pacemaker"] = leads
    for name, path in found.items():
        masks.add(name, path > 0.02, camera)
    if devices.electrodes:
        found["clutter"] = fitted.electrodes(body, devices, camera).image(camera)
    total = np.zeros((camera.size, camera.size), np.float32)
    for path in found.values():
        total += np.minimum(path, 2.6)
    return total
