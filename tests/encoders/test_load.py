"""Specs to encoders, and the table of what is known; each family's own features are tested beside it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from raddino.encoders.base import ENCODERS
from raddino.encoders.load import EXTRAS, describe_encoders, known_encoders, load_encoder
from raddino.errors import RaddinoError


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("rad-din", "Did you mean 'rad-dino'"),
        ("microsoft/rad-dino", "hf:ORG/NAME"),
        ("./absent", "no encoder at"),
        ("rad-dino:", "names no place"),
        ("rad-dino:/no/such/place", "no file or folder /no/such/place"),
        ("hog:somewhere", "has no weights"),
    ],
)
def test_specs_that_name_nothing_are_refused_with_a_hint(spec, words):
    with pytest.raises(RaddinoError, match=words):
        load_encoder(spec)


def test_folders_that_are_no_encoders_are_refused(tmp_path):
    with pytest.raises(RaddinoError, match=r"has no config\.json"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(RaddinoError, match=r"config\.json is damaged"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}), encoding="utf-8")
    with pytest.raises(RaddinoError, match=r"holds none of model\.safetensors"):
        load_encoder(tmp_path)


def test_the_table_has_a_row_for_each_name_with_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setenv("RADDINO_WEIGHTS", str(tmp_path))
    (tmp_path / "rad-dino").mkdir()
    rows = {row["name"]: row for row in describe_encoders()}
    assert sorted(rows) == known_encoders()
    assert len({tuple(row) for row in rows.values()}) == 1
    rad_dino = rows["rad-dino"]
    assert (rad_dino["dim"], rad_dino["side"], rad_dino["licence"]) == (768, 518, "MIT")
    assert rad_dino["here"]
    assert rad_dino["needs"] == "https://huggingface.co/microsoft/rad-dino"
    assert rows["dinov3-base"]["gated"]
    assert not rows["dinov3-base"]["here"]
    assert rows["medsiglip"]["needs"].startswith("https://")
    assert (rows["hf"]["dim"], rows["hf"]["side"]) == ("-", "-")
    assert rows["hog"]["here"]
    assert rows["hog"]["needs"] == ""
    json.dumps(list(rows.values()))


def test_an_extra_is_needed_where_its_modules_are_not_here(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "timm" else find(name, *a))
    rows = {row["name"]: row["needs"] for row in describe_encoders()}
    assert rows["mrm"].startswith("pip install 'raddino[baselines]'; ")
    assert "pip" not in rows["rad-dino"]


def test_every_extra_of_an_encoder_has_its_modules_listed():
    assert {ENCODERS[name].extra for name in known_encoders()} <= {"", *EXTRAS}


def test_listing_loads_no_network_library():
    code = (
        "import sys; from raddino.encoders.load import describe_encoders; describe_encoders(); "
        "heavy = {'transformers', 'timm', 'open_clip', 'torchxrayvision', 'sklearn', 'health_multimodal'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_family_saw_is_said_with_a_reference_or_is_unknown():
    text = " ".join((Path(__file__).parents[2] / "docs/encoders.md").read_text(encoding="utf-8").split())
    for name in known_encoders():
        for training in ENCODERS[name].provenance.trainings:
            recorded = not training.sources or training.corpora
            assert recorded or training.reference, name
            assert " ".join(training.reference.split()) in text, name


def test_rad_dino_began_with_what_dinov2_saw():
    for name in ("rad-dino", "rad-dino-maira-2"):
        assert ENCODERS[name].provenance.before == [ENCODERS["dinov2-base"].provenance]
