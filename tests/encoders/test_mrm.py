"""MRM against timm's VisionTransformer and torchvision's transforms, as its own fine-tuning code sets them up."""

import argparse

import pytest
import torch
from PIL import Image
from torchvision import transforms

from published import check_missing, check_refusals, radiographs, shaken
from raddino.encoders.load import load_encoder

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """``MRM.pth`` as pre-training saves it: under "model", with decoders, optimiser state and arguments."""
    torch.manual_seed(0)
    network = shaken(timm.create_model("vit_base_patch16_224", num_classes=0, global_pool="avg", fc_norm=False))
    extra = {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_embed.weight": torch.zeros(8, 768),
        "bert_encoder.model.x": torch.zeros(2),
        "bert_mlp.weight": torch.zeros(3, 768),
    }
    file = tmp_path_factory.mktemp("mrm") / "MRM.pth"
    state = {"model": network.state_dict() | extra, "epoch": 199, "args": argparse.Namespace(lr=1.5e-4, resume="x")}
    torch.save(state, file)
    return network, file


def test_same_features_as_the_original(published):
    network, file = published
    encoder = load_encoder(f"mrm:{file}", device="cpu")
    theirs = transforms.Compose(
        [
            transforms.Resize(224),
            transforms.CenterCrop((224, 224)),
            transforms.Grayscale(num_output_channels=3),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.4978], std=[0.2449]),
        ]
    )
    images = radiographs()
    batch = torch.stack([theirs(Image.fromarray(image)) for image in images])
    torch.testing.assert_close(encoder.preprocess(images), batch, rtol=0, atol=1e-5)
    batch = batch[1:3]
    ours = encoder.encode(encoder.preprocess(images[1:3]))
    with torch.no_grad():
        tokens, pooled = network.forward_features(batch)[:, 1:], network(batch)
    torch.testing.assert_close(ours.cls, pooled, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.patches.flatten(1, 2), tokens, rtol=0, atol=1e-4)
    assert encoder.grid == ours.patches.shape[1:3] == (14, 14)
    assert encoder.dim == ours.cls.shape[1] == ours.patches.shape[3] == 768
    assert encoder.provenance.sources == ["mimic-cxr", "imagenet-1k"]
    assert len(encoder.provenance.sha256) == 64


def test_what_is_not_mrm_is_refused(published, tmp_path, monkeypatch):
    encoder = load_encoder(f"mrm:{published[1].parent}", device="cpu")
    check_refusals(lambda place: load_encoder(f"mrm:{place}"), encoder, published[1], tmp_path, monkeypatch)
    check_missing("mrm", tmp_path, monkeypatch, "github.com/RL4M/MRM-pytorch")
