"""ResNet-50 against torchvision's own model and its IMAGENET1K_V2 transforms."""

import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.feature_extraction import create_feature_extractor

from published import check_missing, check_refusals, radiographs, shaken
from raddino.encoders.load import load_encoder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    torch.manual_seed(0)
    network = shaken(resnet50())
    file = tmp_path_factory.mktemp("resnet") / "resnet50-11ad3fa6.pth"
    torch.save(network.state_dict(), file)
    return network, file


def test_same_features_as_torchvision(published):
    network, file = published
    encoder = load_encoder(f"resnet50:{file}", device="cpu")
    images = radiographs()
    theirs = ResNet50_Weights.IMAGENET1K_V2.transforms()
    batch = torch.stack([theirs(Image.fromarray(image).convert("RGB")) for image in images])
    torch.testing.assert_close(encoder.preprocess(images), batch, rtol=0, atol=1e-5)
    ours = encoder.encode(encoder.preprocess(images))
    with torch.no_grad():
        found = create_feature_extractor(network, {"layer4": "map", "flatten": "pooled"})(batch)
    torch.testing.assert_close(ours.cls, found["pooled"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.patches.permute(0, 3, 1, 2), found["map"], rtol=1e-4, atol=1e-4)
    assert (encoder.dim, encoder.grid) == (2048, (7, 7))
    assert encoder.provenance.supervision == "labels"


def test_what_is_not_this_network_is_refused(published, tmp_path, monkeypatch):
    encoder = load_encoder(f"resnet50:{published[1]}", device="cpu")
    check_refusals(lambda place: load_encoder(f"resnet50:{place}"), encoder, published[1], tmp_path, monkeypatch)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    check_missing("resnet50", tmp_path, monkeypatch, "download.pytorch.org")


def test_it_is_found_in_torchs_cache_and_fetched_from_its_url(published, tmp_path, monkeypatch):
    _, file = published
    cache = tmp_path / "hub/checkpoints"
    cache.mkdir(parents=True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("RADDINO_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("raddino.encoders.resnet50.URL", file.as_uri())
    fetched = load_encoder("resnet50", device="cpu")
    assert (tmp_path / "weights" / file.name).read_bytes() == file.read_bytes()
    (cache / file.name).symlink_to(file)
    (tmp_path / "weights" / file.name).unlink()
    assert load_encoder("resnet50", device="cpu").fingerprint == fetched.fingerprint
