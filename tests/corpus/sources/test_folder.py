"""A plain folder, with or without a folder a patient."""

import pytest

from raddino.corpus.prepare import prepare
from raddino.corpus.sources import SOURCES
from raddino.errors import RaddinoError


def test_plain_folder_with_a_folder_a_patient(tmp_path, draw, packed):
    for n in range(12):
        draw(tmp_path / f"data/case{n // 2}/frontal{n % 2}.jpg")
    corpus = packed(f"folder:{tmp_path / 'data'}", 12, patients="folder")
    assert corpus.manifest["patient"].nunique() == 6
    assert corpus.info["source"] == {"name": "folder", "options": {"patients": "folder"}, "notes": []}
    draw(tmp_path / "data/loose.png")
    with pytest.raises(RaddinoError, match=r"1 image lies in no patient's folder"):
        SOURCES["folder"].read(tmp_path / "data", patients="folder")
    assert len(SOURCES["folder"].read(tmp_path / "data")) == 13


def test_what_is_no_image_is_counted_as_from_a_plain_folder_and_corpora_are_passed_over(tmp_path, draw):
    draw(tmp_path / "data/a.png")
    draw(tmp_path / "data/b.jpg")
    (tmp_path / "data/notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "data/.hidden").write_text("no image", encoding="utf-8")
    plain = prepare(tmp_path / "data", tmp_path / "plain", workers=1)
    inside = tmp_path / "data/corpus"
    named = prepare(f"folder:{tmp_path / 'data'}", inside, workers=1)
    assert len(named) == 2
    assert named.info["skipped"] == plain.info["skipped"]
    assert sum(named.info["skipped"].values()) == 1
    assert prepare(f"folder:{tmp_path / 'data'}", inside, workers=1).fingerprint == named.fingerprint
