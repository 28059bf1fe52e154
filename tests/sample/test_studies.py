"""Who is in a sample: demographics, splits, and independence of one image from the others."""

import numpy as np
import pytest

from raddino.sample.findings import FINDINGS
from raddino.sample.patient import draw_patient
from raddino.sample.studies import draw_scene


@pytest.fixture(scope="module")
def images():
    return [draw_scene(0, i, 64) for i in range(1600)]


def test_demographics(images):
    patients = {i.patient.index: i.patient for i in images}.values()
    age, bmi = np.array([p.age for p in patients]), np.array([p.bmi for p in patients])
    assert 0.45 < np.mean([p.male for p in patients]) < 0.55
    assert age.min() >= 18
    assert age.max() <= 95
    assert 50 < age.mean() < 65
    assert age.std() > 14
    assert 25 < bmi.mean() < 28
    assert 4 < bmi.std() < 6.5
    assert bmi.min() >= 15.5
    for p in patients:
        assert p.weight == pytest.approx(p.bmi * p.height**2, abs=0.06)
    men, women = ([p.height for p in patients if p.male is m] for m in (True, False))
    assert 0.10 < np.mean(men) - np.mean(women) < 0.18


def test_a_patient_is_one_person_in_one_split(images):
    facts: dict[int, set] = {}
    for i in images:
        facts.setdefault(i.patient.index, set()).add((i.split, i.patient.sex, i.patient.age, i.patient.weight))
    assert all(len(f) == 1 for f in facts.values())
    share = np.mean([next(iter(f))[0] == "train" for f in facts.values()])
    assert 0.66 < share < 0.74
    assert {i.split for i in images} == {"train", "val", "test"}


def test_patients_have_studies_and_studies_have_views(images):
    per_patient = np.bincount([i.patient.index for i in images])
    assert per_patient.max() > 1
    views = np.array([i.scene.view for i in images])
    assert {v: bool(0.1 < np.mean(views == v) < 0.6) for v in ("PA", "AP", "LATERAL")} == dict.fromkeys(
        ("PA", "AP", "LATERAL"), True
    )
    studies: dict[tuple, list] = {}
    for i in images:
        studies.setdefault((i.patient.index, i.study), []).append(i)
    for study in studies.values():
        assert [i.scene.view for i in study] in (["PA"], ["PA", "LATERAL"], ["AP"])
        assert len({i.scene.findings for i in study}) == 1


def test_prevalence_is_neither_rare_nor_common(images):
    rate = {name: np.mean([i.scene.findings.labels[name] for i in images]) for name in FINDINGS}
    assert all(0.07 < r < 0.35 for r in rate.values()), rate
    assert 0.15 < np.mean([not any(i.scene.findings.labels.values()) for i in images]) < 0.5


def test_cardiomegaly_and_age_go_together(images):
    large = [i.patient.age for i in images if i.scene.findings.cardiomegaly]
    assert np.mean(large) > np.mean([i.patient.age for i in images]) + 2


def test_an_image_is_a_function_of_seed_and_index():
    assert draw_scene(5, 37, 64).scene.exposure == draw_scene(5, 37, 64).scene.exposure
    assert draw_scene(5, 37, 64).scene.findings == draw_scene(5, 37, 128).scene.findings
    assert draw_patient(5, 8) != draw_patient(6, 8)


def test_a_supine_patient_lies_on_the_detector_and_others_face_it():
    seen = set()
    for index in range(80):
        scene = draw_scene(5, index, 64).scene
        front, back = scene.camera.magnification(5.0), scene.camera.magnification(-5.0)
        assert (front > back) == (scene.view == "AP")
        seen.add(scene.view)
    assert seen == {"PA", "AP", "LATERAL"}
