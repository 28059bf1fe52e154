"""Ground truth: what a mask says is where the finding is, and the body is that of the patient."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, laplace

from raddino.sample.anatomy import Anatomy
from raddino.sample.devices import DEVICES, Devices
from raddino.sample.findings import FINDINGS, Findings
from raddino.sample.patient import draw_patient
from raddino.sample.scene import Masks, Rendering, Scene, _bones, render
from raddino.sample.skeleton import vertebrae, vertebral_density
from raddino.sample.studies import draw_scene

SIZE = 160
STRUCTURES = {"lungs", "heart", "ribs"}


@cache
def scenes(count: int = 150) -> list[Scene]:
    return [draw_scene(3, i, SIZE).scene for i in range(count)]


def some(name: str, count: int = 3) -> list[Scene]:
    """Frontal scenes with a finding or device."""
    found = [s for s in scenes() if s.view != "LATERAL" and {**s.findings.labels, **s.devices.labels}[name]]
    return found[:count]


def without(scene: Scene, name: str) -> Scene:
    """The same scene without one finding or without devices."""
    if name in DEVICES:
        return replace(scene, devices=Devices())
    if name == "cardiomegaly":
        body = replace(scene.body, heart_ratio=0.42)
        return replace(scene, body=body, findings=replace(scene.findings, heart_ratio=0.42))
    return replace(scene, findings=replace(scene.findings, **{name: ()}))


def pair(scene: Scene, name: str) -> tuple[Rendering, np.ndarray, np.ndarray]:
    """Rendering, its mask, and what the finding changed in the attenuation."""
    scene = replace(scene, devices=replace(scene.devices, electrodes=0))
    drawn = render(scene)
    return drawn, drawn.masks[name] > 0, drawn.attenuation - render(without(scene, name)).attenuation


@pytest.mark.parametrize("name", ["effusion", "consolidation", "nodule", *DEVICES])
def test_dense_things_brighten_their_mask_and_nothing_else(name):
    for scene in some(name):
        if name in DEVICES:
            only = {"endotracheal_tube": "tube_height", "chest_drain": "drain_side", "pacemaker_side": ""}
            keep = only.get(name, "pacemaker_side")
            rest = {f: None for f in ("tube_height", "drain_side", "pacemaker_side") if f != keep}
            scene = replace(scene, devices=replace(scene.devices, **rest))
        _, mask, change = pair(scene, name)
        assert mask.any()
        assert change[mask].mean() > 0.03
        assert np.abs(change[mask]).sum() > 0.85 * np.abs(change).sum()


def test_pneumothorax_is_dark_and_without_vessels():
    for scene in some("pneumothorax"):
        drawn, mask, change = pair(scene, "pneumothorax")
        assert mask.any()
        assert change[mask].mean() < -0.1
        assert (mask & (drawn.masks["lungs"] > 0)).sum() == mask.sum()
    scene = max(some("pneumothorax", 20), key=lambda s: s.findings.pneumothorax[0].gap)
    scene = without(without(scene, "consolidation"), "effusion")
    drawn = render(replace(scene, bone=0.0, devices=Devices()))
    gap = drawn.masks["pneumothorax"] > 0
    lung = (drawn.masks["lungs"] > 0) & ~gap & (drawn.masks["heart"] == 0)
    rough = np.abs(laplace(drawn.attenuation))
    inner = [np.median(rough[binary_erosion(area, iterations=4)]) for area in (gap, lung)]
    assert inner[0] < 0.3 * inner[1]


def test_cardiomegaly_is_a_wide_heart():
    for scene in some("cardiomegaly"):
        drawn, mask, change = pair(scene, "cardiomegaly")
        np.testing.assert_array_equal(mask, drawn.masks["heart"] > 0)
        assert change[mask].mean() > 0.02
    normal = [s for s in scenes(40) if s.view == "PA" and not s.findings.cardiomegaly][:4]

    def ratio(drawn: Rendering) -> float:
        heart, lungs = (np.ptp(np.flatnonzero(drawn.masks[n].any(0))) for n in ("heart", "lungs"))
        return heart / lungs

    large = [ratio(render(s)) for s in some("cardiomegaly")]
    assert min(large) > 0.5 > max(ratio(render(s)) for s in normal) - 0.03


def test_a_fracture_changes_its_ribs_only_nearby():
    for scene in some("rib_fracture"):
        _, mask, change = pair(scene, "rib_fracture")
        around = binary_dilation(mask, iterations=6)
        assert mask.any()
        assert np.abs(change[around]).sum() > 0.7 * np.abs(change).sum() > 0


def test_masks_are_exactly_those_of_the_labels():
    for scene in scenes()[:60]:
        drawn = render(scene)
        labels = {**scene.findings.labels, **scene.devices.labels}
        expected = STRUCTURES | {k for k, v in labels.items() if v} | ({"zones"} if scene.view != "LATERAL" else set())
        assert set(drawn.masks) == expected
        assert drawn.image.dtype == np.float32
        assert drawn.image.shape == (SIZE, SIZE)
        assert np.isfinite(drawn.image).all()
        assert drawn.image.min() >= 0
        assert drawn.image.max() <= 1
        assert drawn.image.std() > 0.08
        assert all(m.dtype == np.uint8 and m.shape == (SIZE, SIZE) for m in drawn.masks.values())
        assert drawn.masks["lungs"].any()
        assert drawn.masks["heart"].any()
        assert drawn.masks["ribs"].any()


def test_six_zones_partition_the_lungs_from_top_to_bottom():
    for scene in [s for s in scenes() if s.view != "LATERAL"][:8]:
        masks = render(scene).masks
        zones = masks["zones"]
        np.testing.assert_array_equal(zones > 0, masks["lungs"] > 0)
        assert set(np.unique(zones)) == {0, 1, 2, 3, 4, 5, 6}
        columns, rows = ([np.mean(np.nonzero(zones == k)[axis]) for k in range(1, 7)] for axis in (1, 0))
        assert max(columns[:3]) < min(columns[3:])
        assert rows[0] < rows[1] < rows[2]
        assert rows[3] < rows[4] < rows[5]


def test_lungs_are_darker_than_what_surrounds_them():
    for scene in [s for s in scenes() if s.view == "PA"][:6]:
        drawn = render(without(without(scene, "effusion"), "consolidation"))
        lungs, heart = drawn.masks["lungs"] > 0, drawn.masks["heart"] > 0
        assert np.median(drawn.image[lungs & ~heart]) < np.median(drawn.image[heart]) - 0.05


def body_of(**facts: object) -> Anatomy:
    return Anatomy(replace(draw_patient(0, 0), **{"height": 1.7, "frame": 0.0, "smoker": False, **facts}), 0.45)


def test_sex_age_and_weight_shape_the_body():
    man, woman = (body_of(sex=s, age=40, bmi=24.0) for s in "MF")
    assert man.width > woman.width
    assert man.lung > woman.lung
    assert man.patient.bone > woman.patient.bone
    young, old = (body_of(sex="F", age=a, bmi=24.0) for a in (25, 85))
    assert old.patient.bone < young.patient.bone
    assert old.patient.kyphosis > young.patient.kyphosis
    assert old.great_vessels()[0].axes[0] > young.great_vessels()[0].axes[0]
    assert old.patient.heart_ratio > young.patient.heart_ratio
    assert old.depth > young.depth
    thin, heavy = (body_of(sex="F", age=40, bmi=b) for b in (19.0, 38.0))
    assert heavy.fat > 2 * thin.fat
    assert heavy.patient.weight == pytest.approx(38 * 1.7**2, abs=0.1)


def test_sex_and_weight_are_seen_in_the_image():
    scene = replace(next(s for s in scenes() if s.view == "PA"), findings=Findings(0.45), devices=Devices())
    seen = {
        key: render(replace(scene, body=body_of(age=40, sex=key[0], bmi=key[1]))).attenuation
        for key in (("M", 24.0), ("F", 24.0), ("F", 38.0))
    }
    rows = slice(int(0.5 * SIZE), int(0.75 * SIZE))
    assert np.abs(seen["M", 24.0] - seen["F", 24.0])[rows].mean() > 0.1
    assert seen["F", 38.0].mean() > seen["F", 24.0].mean() + 0.3


def test_all_findings_and_devices_occur():
    counts = {
        name: sum({**s.findings.labels, **s.devices.labels}[name] for s in scenes()) for name in (*FINDINGS, *DEVICES)
    }
    assert min(counts.values()) >= 5, counts


@pytest.mark.parametrize("view", ["PA", "AP", "LATERAL"])
def test_the_spine_is_drawn_whole(view):
    scene = next(scene for scene in scenes() if scene.view == view)
    column = vertebrae(scene.body).interval(scene.camera).length
    column *= vertebral_density(scene.body, scene.camera.axes(0.0)[1])[:, None]
    assert column.max() > 0.3
    assert (_bones(scene.body, scene.camera, view, (), Masks(SIZE)) > column - 1e-3).all()
