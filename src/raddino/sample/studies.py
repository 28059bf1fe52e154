"""Which patient, study, view, findings, devices and technique stand behind image number ``index``."""

from dataclasses import dataclass, replace

import numpy as np

from raddino.sample.anatomy import Anatomy
from raddino.sample.detector import Exposure
from raddino.sample.detectors import ALONE, Detector, Planting, taken_with
from raddino.sample.devices import draw_devices
from raddino.sample.findings import draw_findings
from raddino.sample.patient import Patient, draw_patient
from raddino.sample.projection import Camera
from raddino.sample.scene import Scene

BLOCK = 8
"""Images are dealt to patients in blocks, so that an index alone decides whose image it is."""


@dataclass(frozen=True)
class Image:
    """One image of the sample and where it stands among its patient's."""

    index: int
    patient: Patient
    study: int
    split: str
    scene: Scene
    detector: Detector | None = None


def _place(seed: int, index: int) -> tuple[int, int, str]:
    """(patient number, study number, view) of an image.

    A block of eight images is cut into patients of one to four images; these into studies: a PA view, with or
    without a lateral one, or an AP view at the bedside.
    """
    block, wanted = divmod(index, BLOCK)
    rng = np.random.default_rng([seed, 0, block])
    patient, at = block * BLOCK, 0
    while True:
        count = min(int(rng.choice([1, 2, 3, 4], p=[0.45, 0.3, 0.15, 0.1])), BLOCK - at)
        study, left = 0, count
        while left:
            bedside = rng.random() < 0.4
            views = ["AP"] if bedside else ["PA", "LATERAL"] if left > 1 and rng.random() < 0.6 else ["PA"]
            for view in views:
                if at == wanted:
                    return patient, study, view
                at += 1
            study, left = study + 1, left - len(views)
        patient += 1


def draw_scene(seed: int, index: int, size: int, planting: Planting = ALONE) -> Image:
    """Image number ``index``; a pure function of (seed, index) and ``planting`` but for its resolution."""
    number, study, view = _place(seed, index)
    patient = draw_patient(seed, number)
    supine = view == "AP"
    findings = draw_findings(patient, study, supine)
    devices = draw_devices(patient, study, supine, findings)
    rng = np.random.default_rng([seed, 9, index])
    breath = float(np.clip(rng.normal(0.72 if supine else 0.95, 0.10), 0.4, 1.1))
    body = Anatomy(patient, findings.heart_ratio, breath, supine, findings.mediastinal_shift)
    share = np.random.default_rng([seed, 10, number]).random()
    split = "train" if share < 0.7 else "val" if share < 0.8 else "test"
    scene = Scene(
        body=body,
        findings=findings,
        devices=devices,
        camera=_camera(rng, body, view, size),
        exposure=_exposure(rng, view, (seed, 11, index)),
        bone=float(rng.uniform(0.85, 1.35)),
        view=view,
    )
    if taken_by := planting.draw(seed, number, study, findings.labels):
        scene = replace(scene, exposure=taken_with(scene.exposure, taken_by))
    return Image(index, patient, study, split, scene, taken_by)


def _camera(rng: np.random.Generator, body: Anatomy, view: str, size: int) -> Camera:
    lateral, supine = view == "LATERAL", view == "AP"
    field = (0.35 * 42 + 0.65 * 2.9 * body.width) * rng.uniform(0.88, 1.08)
    turn = rng.normal(0, 0.075 if supine else 0.035)
    return Camera(
        size=size,
        pitch=float(field / size),
        turn=float(turn - (np.pi / 2 if lateral else 0)),
        lean=float(rng.normal(0, 0.05 if supine else 0.02)),
        offset=(float(rng.normal(0, 1.0)) + (1.0 if lateral else 0), float(rng.normal(0.3, 1.2))),
        beam=float(0.5 * body.lung),
        source=110.0 if supine else 180.0,
        detector=-(body.depth + 6.0) if supine else body.depth + 5.0,
    )


def _exposure(rng: np.random.Generator, view: str, seed: tuple[int, ...]) -> Exposure:
    bedside = view == "AP"
    lung = rng.uniform(0.25, 0.5) * (0.8 if view == "LATERAL" else 1.0)
    blades = rng.uniform(0.005, 0.06, 4) * (rng.random(4) < 0.5) if rng.random() < 0.4 else np.zeros(4)
    left = rng.random() < 0.7
    note = rng.choice(["PORTABLE", "AP", "AP ERECT", "SUPINE", ""]) if bedside else rng.choice(["", "", "PA"])
    side = rng.uniform(0.88, 0.95) if left else rng.uniform(0.05, 0.12)
    return Exposure(
        scatter=float(rng.uniform(0.5, 1.2) if bedside else rng.uniform(0.25, 0.65)),
        photons=float(np.exp(rng.uniform(np.log(5e5), np.log(5e6)))),
        blur=float(rng.uniform(0.04, 0.075)),
        lung=float(lung),
        mediastinum=float(rng.uniform(max(0.62, lung + 0.22), 0.82)),
        equalise=float(rng.uniform(0.0, 0.4)),
        sharpen=float(rng.uniform(0.0, 0.5)),
        black=float(rng.uniform(0.0, 0.95)),
        collimation=(float(blades[0]), float(blades[1]), float(blades[2]), float(blades[3])),
        tilt=float(rng.normal(0, 0.012)),
        marker=("L" if left else "R"),
        marker_at=(float(side), float(rng.uniform(0.06, 0.2))),
        note=str(note) if view != "LATERAL" else "",
        seed=seed,
    )
