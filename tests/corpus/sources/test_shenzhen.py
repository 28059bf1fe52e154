"""Shenzhen: masks where they were drawn, readings in the spellings that its files have."""

import numpy as np
import pytest
from PIL import Image

from raddino.corpus.sources import SOURCES

READINGS = {
    "male 45yrs\nnormal": ("M", 45),
    "femal 32yrs\nnormal": ("F", 32),
    "Female, 28yrs\nright upper PTB": ("F", 28),
    "male 16month\nPTB in the left": ("M", round(16 / 12, 4)),
    "female 64days\nbilateral PTB": ("F", round(64 / 365.25, 4)),
    "normal": (None, None),
}


@pytest.fixture
def root(tmp_path, draw):
    root = tmp_path / "shenzhen"
    for n, text in enumerate(READINGS):
        name = f"CHNCXR_{n + 1:04}_{int('PTB' in text)}"
        draw(root / f"CXR_png/{name}.png")
        for folder in ("ClinicalReadings", "mask"):
            (root / folder).mkdir(exist_ok=True)
        (root / f"ClinicalReadings/{name}.txt").write_text(text, encoding="utf-8")
        if n:
            Image.fromarray(np.eye(30, 26, dtype=np.uint8) * 255).save(root / f"mask/{name}_mask.png")
    return root


def test_shenzhen(root, packed):
    corpus = packed(f"shenzhen:{root}", 6)
    rows = corpus.manifest
    told = list(READINGS.values())
    assert rows["label_tuberculosis"].tolist() == [0, 0, 1, 1, 1, 0]
    assert rows["sex"].tolist() == [sex for sex, _ in told]
    np.testing.assert_allclose(rows["age"], [np.nan if age is None else age for _, age in told])
    machine = rows[["manufacturer", "model", "portable", "year_band"]].drop_duplicates()
    assert machine.to_numpy().tolist() == [["Philips", "DigitalDiagnost", 0, "2010-2014"]]
    assert corpus.read_mask(0, "lungs") is None
    np.testing.assert_array_equal(corpus.read_mask(1, "lungs"), np.eye(30, 26) * 255)


def test_readings(root):
    frame = SOURCES["shenzhen"].read(root, reports=True).set_index("id")
    assert frame.loc["CHNCXR_0003_1", "report"] == "right upper PTB"
    assert frame.loc["CHNCXR_0004_1", "report"] == "PTB in the left"
    assert frame.loc["CHNCXR_0006_0", "report"] == "normal"
