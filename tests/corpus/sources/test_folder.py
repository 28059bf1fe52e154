"""A plain folder, with or without a folder a patient."""

import pytest

from raddino.corpus.sources import SOURCES
from raddino.errors import RaddinoError


def test_plain_folder_with_a_folder_a_patient(tmp_path, draw, packed):
    for n in range(12):
        draw(tmp_path / f"data/case{n // 2}/frontal{n % 2}.jpg")
    corpus = packed(f"folder:{tmp_path / 'data'}", 12, patients="folder")
    assert corpus.manifest["patient"].nunique() == 6
    assert corpus.info["source"] == {"name": "folder", "options": {"patients": "folder"}, "notes": []}
    draw(tmp_path / "data/loose.png")
    with pytest.raises(RaddinoError, match=r"1 image\(s\) lie in no patient's folder"):
        SOURCES["folder"].read(tmp_path / "data", patients="folder")
    assert len(SOURCES["folder"].read(tmp_path / "data")) == 13
