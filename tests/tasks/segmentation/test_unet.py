"""The U-Net reference: made, refused in plain words, and able to learn."""

import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from raddino.errors import ConfigError, RaddinoError
from raddino.tasks.segmentation.frame import square
from raddino.tasks.segmentation.unet import build_unet, unet_preparation

smp = pytest.importorskip("segmentation_models_pytorch")


def test_it_learns_eight_images_by_heart():
    rng = np.random.default_rng(0)
    truth = np.zeros((8, 64, 64), np.int64)
    images = []
    for mask in truth:
        for code in (1, 2):
            top, left = rng.integers(4, 36, 2)
            mask[top : top + 20, left : left + 20] = code
        images.append((60 + 70 * mask + rng.normal(0, 10, mask.shape)).clip(0, 255).astype(np.uint8))
    batch, target = unet_preparation(64)("unet", images), torch.from_numpy(truth)
    torch.manual_seed(0)
    unet = build_unet(3, "resnet18")
    optimizer = torch.optim.AdamW(unet.parameters(), 3e-3)
    for _ in range(60):
        loss = cross_entropy(unet(batch), target)
        if loss < 0.06:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = unet(batch).argmax(1)
    for code in (1, 2):
        here, there = found == code, target == code
        assert 2 * (here & there).sum() / (here.sum() + there.sum()) > 0.95
    unet.eval()
    with torch.no_grad():
        torch.testing.assert_close(unet(batch)[:1], unet(batch[:1]), rtol=1e-3, atol=1e-3)


def test_random_weights_follow_torch_s_seed_and_the_network_is_the_library_s():
    torch.manual_seed(3)
    first = build_unet(2, "mobilenet_v2").state_dict()
    torch.manual_seed(3)
    second = smp.Unet("mobilenet_v2", encoder_weights=None, in_channels=1, classes=2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_images_of_both_depths_and_any_shape_are_prepared():
    image = np.full((90, 40), 255, np.uint8)
    batch = unet_preparation(64)("unet", [square(image), square(image.astype(np.uint16) * 257)])
    assert batch.shape == (2, 1, 64, 64)
    torch.testing.assert_close(batch[0], batch[1], rtol=0, atol=0.02)
    assert batch[:, :, 32, 32].tolist() == [[2.0], [2.0]]
    assert batch[:, :, 32, 0].tolist() == [[-2.0], [-2.0]]


def test_a_wrong_name_gets_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'efficientnet-b0'"):
        build_unet(2, "efficentnet-b0")


def test_weights_that_cannot_be_fetched_are_told_in_one_line(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network at /some/place")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline)
    with pytest.raises(RaddinoError) as caught:
        build_unet(2, "mobilenet_v2", "imagenet")
    told = str(caught.value)
    assert told.startswith("unet: imagenet weights of mobilenet_v2 cannot be fetched (OSError)")
    assert "unet_weights" in told
    assert "/some/place" not in told
    assert "\n" not in told


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(RaddinoError, match=r"pip install 'raddino\[seg\]'"):
        build_unet(2)
