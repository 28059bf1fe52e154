"""What is kept of a spec leads back to the encoder, wherever both are moved, and holds no folder of anybody's."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from features.embed_job import small_vit
from raddino.encoders.kept_spec import found_spec, kept_spec, weights_digest
from raddino.encoders.load import load_encoder
from raddino.encoders.ours import save_encoder
from raddino.errors import RaddinoError


@pytest.fixture
def place(tmp_path) -> Path:
    """``jane-doe/study`` with an encoder in ``run`` and the folder of a probe in ``results``."""
    study = tmp_path / "jane-doe" / "study"
    made = small_vit()
    save_encoder(
        study / "run/encoder", made.model, size=24, mean=0.4, std=0.2, name="small", provenance=made.provenance
    )
    (study / "results/probes/edema/small").mkdir(parents=True)
    return study


def kept(spec, study: Path) -> str | None:
    return kept_spec(spec, study / "results/probes/edema/small", study / "results")


@pytest.mark.parametrize(
    "spec", ["hog", "raddino-tiny", "hf:org/name", "rad-dino", "timm:vit_small_patch16_224", "dinov2-base:org/name"]
)
def test_names_and_hub_ids_stay(place, spec):
    assert kept(spec, place) == spec
    assert found_spec(spec, place / "results") == spec


@pytest.mark.parametrize("given", ["absolute", "relative", "path"])
def test_what_lies_beside_the_results_is_found_when_all_has_moved(place, monkeypatch, given):
    monkeypatch.chdir(place.parent)
    spec = {"absolute": str(place / "run/encoder"), "relative": "study/run/encoder", "path": place / "run/encoder"}[
        given
    ]
    said = kept(spec, place)
    assert said == "../../../../run/encoder"
    moved = Path(shutil.move(place, place.parent.parent / "moved"))
    monkeypatch.chdir("/")
    found = found_spec(said, moved / "results/probes/edema/small")
    assert found == str(moved / "run/encoder")
    assert load_encoder(found, "cpu").fingerprint == load_encoder(moved / "run/encoder", "cpu").fingerprint
    with pytest.raises(RaddinoError):
        load_encoder(spec, "cpu")


def test_a_relative_folder_of_a_probe_is_enough(place, monkeypatch):
    said = kept(place / "run/encoder", place)
    monkeypatch.chdir(place / "results/probes")
    assert found_spec(said, Path("edema/small")) == str(place / "run/encoder")


@pytest.mark.parametrize(
    ("before", "inside"),
    [("dinov2-base:", "weights.pth"), ("hf:", "run/encoder"), ("timm:vit_small_patch16_224@", "weights.pth")],
)
def test_the_family_stays_before_the_place(place, before, inside):
    (place / "weights.pth").touch()
    said = kept(f"{before}{place / inside}", place)
    assert said == f"{before}../../../../{inside}"
    assert found_spec(said, place / "results/probes/edema/small") == f"{before}{place / inside}"


def test_a_folder_that_is_called_as_an_encoder_is_not_taken_for_one(place, monkeypatch):
    (place / "hog").mkdir()
    monkeypatch.chdir(place)
    assert kept("hog", place) == "hog"


@pytest.mark.parametrize("before", ["", "dinov2-base:", "timm:vit_small_patch16_224@"])
def test_of_what_lies_elsewhere_nothing_is_kept(place, tmp_path, before):
    other = tmp_path / "john-roe" / "encoder"
    other.mkdir(parents=True)
    assert kept(f"{before}{other}", place) is None
    assert kept(f"{before}{os.path.relpath(other)}", place) is None


def test_nothing_is_kept_where_the_results_lie_in_the_root(place):
    assert kept_spec(place / "run/encoder", Path("/results/probes/edema/small"), Path("/results")) is None


def test_what_lies_with_the_probe_is_found_too(place):
    inside = place / "results/probes/edema/small/encoder"
    shutil.copytree(place / "run/encoder", inside)
    said = kept(inside, place)
    assert said == "./encoder"
    assert found_spec(said, place / "results/probes/edema/small") == str(inside)


@pytest.mark.parametrize("spec", ["hog", "raddino-tiny", "hf:org/name", "dinov2-base:org/name", "/no/such/place"])
def test_what_names_no_place_has_no_digest(spec):
    assert weights_digest(spec) == ""


def test_weights_have_one_digest_wherever_they_lie(place, monkeypatch):
    file = place / "run/encoder/model.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.chdir(place.parent)
    for spec in (file, file.parent, f"dinov2-base:{file.parent}", "study/run/encoder", f"timm:vit@{file}"):
        assert weights_digest(spec) == digest, spec
