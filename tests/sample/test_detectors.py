"""Planted detectors: seen in the image, told in the manifest, independent of the patient unless asked."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pydicom
import pytest

from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.errors import RaddinoError
from raddino.sample.detector import LINE_PERIOD, read_out
from raddino.sample.detectors import DETECTORS, Planting
from raddino.sample.findings import FINDINGS
from raddino.sample.generate import sample
from raddino.sample.scene import render
from raddino.sample.studies import draw_scene

TWO = Planting(2)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("planted") / "a", 24, seed=4, size=64, workers=1, detectors=2)


@pytest.fixture(scope="module")
def images():
    return [draw_scene(0, index, 64, TWO) for index in range(2400)]


def test_the_manifest_tells_which_detector_took_a_study(planted, tmp_path):
    table = pd.read_csv(planted / "manifest.csv")
    assert set(zip(table.manufacturer, table.detector, strict=True)) == {(d.manufacturer, d.kind) for d in DETECTORS}
    assert (table.groupby("study_id").manufacturer.nunique() == 1).all()
    corpus = prepare(planted, tmp_path / "corpus", shorter_side=48, workers=1)
    kept = Corpus.open(corpus.path).manifest
    assert kept.manufacturer.tolist() == table.manufacturer.tolist()
    assert kept.detector.tolist() == table.detector.tolist()


def test_all_but_image_and_columns_is_that_of_a_plain_sample(planted, tmp_path):
    plain = sample(tmp_path / "plain", 24, seed=4, size=64, workers=1)
    first, second = pd.read_csv(plain / "manifest.csv"), pd.read_csv(planted / "manifest.csv")
    pd.testing.assert_frame_equal(second.drop(columns=["manufacturer", "detector"]), first)
    for mask in sorted((plain / "masks").iterdir()):
        assert mask.read_bytes() == (planted / "masks" / mask.name).read_bytes()
    same = [(plain / path).read_bytes() == (planted / path).read_bytes() for path in first.path]
    assert not any(same)


def test_a_plain_sample_is_that_of_before():
    """Nothing of a detector is drawn, and no random number of another part is taken."""
    image = draw_scene(4, 3, 64)
    assert image.detector is None
    assert (image.scene.exposure.gamma, image.scene.exposure.lines) == (1.0, 0.0)
    grey = np.random.default_rng(0).random((8, 8), dtype=np.float32)
    assert np.array_equal(read_out(grey, image.scene.exposure, 0.1), grey)
    assert draw_scene(4, 3, 64, Planting(1)) == image
    assert replace(draw_scene(4, 3, 64, TWO).scene, exposure=image.scene.exposure) == image.scene


def test_detectors_are_independent_of_patient_view_and_findings(images):
    second = np.array([image.detector is DETECTORS[1] for image in images])
    assert 0.45 < second.mean() < 0.55
    facts = {name: np.array([image.scene.findings.labels[name] for image in images]) for name in FINDINGS}
    facts |= {"male": np.array([image.patient.male for image in images])}
    facts |= {view: np.array([image.scene.view == view for image in images]) for view in ("AP", "LATERAL")}
    for name, fact in facts.items():
        assert abs(np.corrcoef(second, fact)[0, 1]) < 0.06, name


@pytest.mark.parametrize("share", [0.9, 0.2])
def test_a_confounded_finding_meets_the_second_detector_as_often_as_asked(share):
    asked = Planting.parse(2, f"effusion={share}")
    drawn = [draw_scene(1, index, 64, asked) for index in range(2400)]
    second = np.array([image.detector is DETECTORS[1] for image in drawn])
    wet = np.array([bool(image.scene.findings.labels["effusion"]) for image in drawn])
    assert second[wet].mean() == pytest.approx(share, abs=0.06)
    assert second[~wet].mean() == pytest.approx(1 - share, abs=0.06)


def power(image: np.ndarray, pitch: float) -> float:
    """Share of the variance along the columns that lies at the lines' frequency."""
    rows = image - image.mean(0)
    spectrum = (np.abs(np.fft.rfft(rows * np.hanning(len(image))[:, None], axis=0)) ** 2).mean(1)
    at = round(len(image) * pitch / LINE_PERIOD)
    return spectrum[at - 1 : at + 2].sum() / spectrum[3:].sum()


def test_the_fingerprint_is_in_the_pixels():
    """Lines at their own frequency, whatever the resolution; and a blur that takes fine detail."""
    for size in (112, 256):
        lines, fine = {}, {}
        for index in range(12):
            scene = draw_scene(2, index, size, TWO)
            grey = render(scene.scene).image
            kind = scene.detector.kind
            lines.setdefault(kind, []).append(power(grey, scene.scene.camera.pitch))
            fine.setdefault(kind, []).append(np.abs(np.diff(grey, axis=1)).mean() / grey.std())
        assert min(lines["STORAGE"]) > max(lines["SCINTILLATOR"])
        assert np.mean(fine["STORAGE"]) < np.mean(fine["SCINTILLATOR"])


def test_gamma_and_lines_in_closed_form():
    exposure = replace(draw_scene(0, 0, 64).scene.exposure, gamma=2.0, lines=0.1)
    grey = np.full((24, 5), 0.5, np.float32)
    y = np.arange(24)[:, None] * 0.3
    expected = np.broadcast_to(0.25 * (1 + 0.1 * np.sin(2 * np.pi * y / LINE_PERIOD)), (24, 5))
    np.testing.assert_allclose(read_out(grey, exposure, 0.3), expected, rtol=1e-5)


def test_dicom_headers_name_the_detector(tmp_path):
    out = sample(tmp_path / "d", 4, seed=4, size=64, workers=1, format="dicom", detectors=2)
    table = pd.read_csv(out / "manifest.csv")
    for row in table.itertuples():
        header = pydicom.dcmread(out / row.path)
        assert (header.Manufacturer, header.DetectorType) == (row.manufacturer, row.detector)


def test_a_planted_sample_is_the_same_again_and_extends_itself(planted, tmp_path):
    out = sample(tmp_path / "b", 10, seed=4, size=64, workers=1, detectors=2)
    sample(out, 24, seed=4, size=64, workers=2, detectors=2)
    for file in sorted(path for path in planted.rglob("*") if path.is_file()):
        other = out / file.relative_to(planted)
        assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest(), file.name


@pytest.mark.parametrize("other", [{}, {"detectors": 2, "confound": "effusion=0.9"}])
def test_another_planting_in_the_folder_is_refused(planted, other):
    with pytest.raises(RaddinoError, match="holds a sample with planted"):
        sample(planted, 24, seed=4, size=64, workers=1, **other)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"detectors": 0}, "1 to 2"),
        ({"detectors": 3}, "1 to 2"),
        ({"confound": "effusion=0.9"}, "beside 2 detectors"),
        ({"detectors": 2, "confound": "effusion"}, "FINDING=SHARE"),
        ({"detectors": 2, "confound": "effusion=1.5"}, "FINDING=SHARE"),
        ({"detectors": 2, "confound": "effusion=nan"}, "FINDING=SHARE"),
        ({"detectors": 2, "confound": "efusion=0.5"}, "Did you mean 'effusion'"),
    ],
)
def test_bad_arguments_leave_nothing_behind(tmp_path, wrong, match):
    with pytest.raises(RaddinoError, match=match) as error:
        sample(tmp_path / "b", 1, size=64, workers=1, **wrong)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b").exists()
