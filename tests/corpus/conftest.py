"""A small data set on disk: images, masks and a manifest with patients, splits and labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

KEY = "the key of these tests"


@pytest.fixture(autouse=True)
def _key(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RADDINO_KEY", KEY)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def key() -> str:
    return KEY


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Folder with ``manifest.csv``, 40 images (60, 50) uint16 of 20 patients, and 40 lung masks."""
    folder = tmp_path / "St_Elsewhere"
    (folder / "png").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for n in range(40):
        picture = (rng.random((60, 50)) * 60000).astype(np.uint16)
        mask = np.where(np.mgrid[:60, :50][1] < n, 255, 0).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"png/Doe_Jane_{n:02}.png")
        Image.fromarray(mask).save(folder / f"png/Doe_Jane_{n:02}_lungs.png")
        patient = n // 2
        rows.append(
            {
                "path": f"png/Doe_Jane_{n:02}.png",
                "patient_id": f"MRN-{patient:04}",
                "source": "clinic",
                "split": "train" if patient < 14 else "val" if patient < 16 else "test",
                "view": "Lateral" if n % 8 == 7 else "PA",
                "sex": "F" if patient % 2 else "M",
                "age": f"{20 + n:03}Y",
                "study_date": "2001-06-05",
                "labels": "Edema|Effusion" if n % 4 == 0 else "No Finding",
                "mask_lungs": f"png/Doe_Jane_{n:02}_lungs.png",
                "licence": "CC BY 4.0",
            }
        )
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder
