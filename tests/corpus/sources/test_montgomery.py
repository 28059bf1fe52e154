"""Montgomery: two lung masks united, sex, age and diagnosis from readings and names."""

import numpy as np
import pytest
from PIL import Image

from raddino.corpus.sources import SOURCES
from raddino.errors import RaddinoError


@pytest.fixture
def root(tmp_path, draw):
    root = tmp_path / "data"
    for n in range(6):
        name = f"MCUCXR_{n + 1:04}_{int(n > 3)}"
        draw(root / f"MontgomerySet/CXR_png/{name}.png")
        for side, columns in (("left", slice(2, 10)), ("right", slice(15, 24))):
            mask = np.zeros((30, 26), bool)
            mask[5:20, columns] = True
            path = root / f"MontgomerySet/ManualMask/{side}Mask/{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
        path = root / f"MontgomerySet/ClinicalReadings/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"Patient's Sex: {'O' if n == 5 else 'F'} \nPatient's Age: 0{20 + n}Y\nnormal\n\n", encoding="utf-8"
        )
    return root


def test_montgomery(root, packed):
    (root / "MontgomerySet/ManualMask/leftMask/MCUCXR_0002_0.png").unlink()
    corpus = packed(f"montgomery:{root}", 6)
    rows = corpus.manifest
    assert rows["label_tuberculosis"].tolist() == [0, 0, 0, 0, 1, 1]
    assert rows["label_no_finding"].tolist() == [1, 1, 1, 1, 0, 0]
    assert rows["sex"].tolist() == ["F"] * 5 + [None]
    assert rows["age"].tolist() == [20, 21, 22, 23, 24, 25]
    assert rows["report"].isna().all()
    assert rows["portable"].eq(0).all()
    expected = np.zeros((30, 26), np.uint8)
    expected[5:20, 2:10] = expected[5:20, 15:24] = 255
    np.testing.assert_array_equal(corpus.read_mask(0, "lungs"), expected)
    assert corpus.read_mask(1, "lungs") is None


def test_readings_and_a_folder_without_the_top(root):
    frame = SOURCES["montgomery"].read(root / "MontgomerySet", reports=True)
    assert frame["report"].tolist() == ["normal"] * 6
    (root / "MontgomerySet/ClinicalReadings/MCUCXR_0001_0.txt").unlink()
    assert SOURCES["montgomery"].read(root)["sex"].isna()[0]
    for path in root.glob("MontgomerySet/CXR_png/*"):
        path.unlink()
    with pytest.raises(RaddinoError, match="not found: the images, CXR_png"):
        SOURCES["montgomery"].read(root)
