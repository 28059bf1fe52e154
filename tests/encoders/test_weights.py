"""Where weights are found and what is said when they are not; the hub is a folder in the layout of its cache."""

import hashlib
import json
from pathlib import Path

import pytest

from raddino.encoders import weights
from raddino.encoders.base import ENCODERS, Provenance
from raddino.encoders.load import load_encoder
from raddino.encoders.weights import Weights, find_weights, is_here
from raddino.errors import RaddinoError
from raddino.files import sha256

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """No network, an empty hub cache and an empty weights folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("RADDINO_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path


def cached(home: Path, repository: str, *files: str) -> Path:
    """A repository as the hub's cache holds it."""
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(COMMIT, encoding="utf-8")
    for file in files:
        (snapshot / file).write_bytes(b"{}")
    return snapshot


@pytest.mark.parametrize(
    ("family", "published", "licence", "gated"),
    [
        ("rad-dino", "microsoft/rad-dino ", "MIT", False),
        ("rad-dino-maira-2", "microsoft/rad-dino-maira-2", "MSRLA", False),
        ("dinov2-base", "facebook/dinov2-base", "Apache-2.0", False),
        ("dinov3-base", "facebook/dinov3-vitb16-pretrain-lvd1689m", "DINOv3 License", True),
        ("clip-vit-l-14-336", "openai/clip-vit-large-patch14-336", "MIT", False),
        ("medsiglip", "google/medsiglip-448", "Health AI Developer Foundations", True),
        ("xraysiglip", "StanfordAIMI/XraySigLIP__vit-l-16-siglip-384__webli", "CC-BY-NC-4.0", False),
    ],
)
def test_missing_weights_are_one_message_with_place_licence_and_remedy(home, family, published, licence, gated):
    with pytest.raises(RaddinoError) as caught:
        load_encoder(family)
    words = str(caught.value)
    assert words.startswith(f"{family}: its weights are not on this machine")
    assert f"https://huggingface.co/{published}" in words
    assert f"licence: {licence}" in words
    assert ("accept its terms" in words) == gated
    assert f"put them at $RADDINO_WEIGHTS/{family}" in words
    assert "\n" not in words
    assert str(home) not in words


def test_the_default_folder_is_told_without_the_name_of_its_owner(home, monkeypatch):
    monkeypatch.delenv("RADDINO_WEIGHTS")
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(RaddinoError, match=r"put them at ~/\.cache/raddino/weights/rad-dino"):
        load_encoder("rad-dino")
    (home / ".cache/raddino/weights/rad-dino").mkdir(parents=True)
    assert find_weights("rad-dino", None) == Weights(home / ".cache/raddino/weights/rad-dino")


def test_the_order_is_given_place_then_weights_folder_then_hub(home, monkeypatch):
    hub = cached(home, "microsoft/rad-dino", "model.safetensors")
    assert find_weights("rad-dino", None, "microsoft/rad-dino") == Weights(hub, revision=COMMIT)
    file = home / "weights/rad-dino.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"")
    assert find_weights("rad-dino", None, "microsoft/rad-dino") == Weights(file)
    (home / "weights/rad-dino").mkdir()
    assert find_weights("rad-dino", None, "microsoft/rad-dino") == Weights(home / "weights/rad-dino")
    monkeypatch.setenv("HOME", str(home))
    assert find_weights("rad-dino", "~/weights", "microsoft/rad-dino") == Weights(home / "weights")
    assert find_weights("rad-dino", "microsoft/rad-dino").revision == COMMIT


def test_neighbours_in_the_weights_folder_are_not_taken(home):
    (home / "weights").mkdir()
    for name in ("rad-dino-maira-2.safetensors", "rad-dino.txt", "rad-dino.safetensors.part"):
        (home / "weights" / name).write_bytes(b"")
    with pytest.raises(RaddinoError, match="not on this machine"):
        find_weights("rad-dino", None, "microsoft/rad-dino")


def test_a_cache_that_holds_only_part_does_not_count(home):
    cached(home, "a/config-only", "config.json")
    cached(home, "a/other-format", "config.json", "pytorch_model.bin")
    parts = cached(home, "a/parts", "config.json", "model-1.safetensors")
    index = {"weight_map": {"x": "model-1.safetensors", "y": "model-2.safetensors"}}
    (parts / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for name in ("config-only", "other-format", "parts"):
        with pytest.raises(RaddinoError, match="no whole set of weights"):
            find_weights("rad-dino", f"a/{name}", patterns=("*.json", "*.safetensors"))
    (parts / "model-2.safetensors").write_bytes(b"")
    assert find_weights("rad-dino", "a/parts", patterns=("*.json", "*.safetensors")).path == parts


@pytest.mark.parametrize("where", ["./absent", "../absent", "absent", "/no/such/folder", "a/b/c", "-x/y"])
def test_a_place_that_is_not_there_is_named(home, where):
    with pytest.raises(RaddinoError, match="there is no file or folder"):
        find_weights("rad-dino", where, "microsoft/rad-dino")


def test_a_hub_id_that_cannot_be_fetched_is_not_given_anothers_licence(home):
    with pytest.raises(
        RaddinoError, match="someone/model is neither on this machine nor could it be fetched"
    ) as caught:
        find_weights("rad-dino", "someone/model", "microsoft/rad-dino")
    assert "MIT" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("GatedRepoError", "has not granted this account access"),
        ("RepositoryNotFoundError", "no such repository"),
        ("LocalEntryNotFoundError", "cannot be reached"),
        ("OSError", "OSError"),
    ],
)
def test_the_hubs_reason_is_passed_on(home, monkeypatch, error, words):
    from huggingface_hub import errors

    kind = getattr(errors, error, OSError)

    def refuse(*_, local_files_only=False, **__):
        raise OSError if local_files_only else kind.__new__(kind)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(RaddinoError, match=words):
        find_weights("dinov3-base", None, "facebook/dinov3-vitb16-pretrain-lvd1689m")


def test_is_here_looks_without_a_network(home):
    assert is_here("hog")
    assert is_here("raddino-tiny")
    assert not is_here("rad-dino")
    assert not is_here("hf")
    cached(home, "microsoft/rad-dino", "model.safetensors")
    assert is_here("rad-dino")


def test_file_takes_the_first_name_that_is_there(tmp_path):
    for name in ("b", "c"):
        (tmp_path / name).write_bytes(b"")
    assert Weights(tmp_path).file("a", "b", "c") == tmp_path / "b"
    assert Weights(tmp_path / "c").file("a") == tmp_path / "c"
    with pytest.raises(RaddinoError, match="holds none of a, d"):
        Weights(tmp_path).file("a", "d")


def test_the_record_has_revision_and_digest(tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    known = Provenance(sources=["nih"], supervision="labels", licence="MIT", gated=True)
    record = Weights(tmp_path, revision=COMMIT).record(known, one)
    digest = hashlib.sha256(b"one").hexdigest()
    assert record.to_dict() == known.to_dict() | {"revision": COMMIT, "sha256": digest}
    assert sha256(one) == digest
    both = hashlib.sha256((digest + hashlib.sha256(b"two").hexdigest()).encode()).hexdigest()
    assert sha256(one, two) == both != sha256(two, one)
    (tmp_path / weights.RANDOM_MARKER).write_text("{}", encoding="utf-8")
    random = Weights(tmp_path).record(known, one)
    assert (random.sources, random.supervision, random.note, random.sha256) == ([], "none", "random weights", digest)


def test_every_family_says_where_its_weights_come_from():
    for name in ENCODERS:
        about = ENCODERS[name]
        assert about.summary
        assert "\n" not in about.summary
        assert not about.home or about.provenance.licence, name
