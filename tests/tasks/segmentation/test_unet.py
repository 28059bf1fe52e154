"""The U-Net reference: made, refused in plain words, and able to learn."""

import hashlib
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from raddino.errors import ConfigError, RaddinoError
from raddino.tasks.segmentation.frame import square
from raddino.tasks.segmentation.unet import build_unet, named_weights, unet_preparation

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


def classifier(library: str, name: str) -> torch.nn.Module:
    """A classifier with random weights and running statistics, as another library has it."""
    torch.manual_seed(1)
    made = pytest.importorskip(library)
    network = made.models.get_model(name) if library == "torchvision" else made.create_model(name)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize(
    ("library", "name", "encoder", "suffix", "prefix"),
    [
        ("torchvision", "resnet34", "resnet34", ".pth", ""),
        ("torchvision", "resnet50", "resnet50", ".safetensors", ""),
        ("torchvision", "resnet18", "resnet18", ".pth", "module."),
        ("timm", "resnet34", "resnet34", ".safetensors", ""),
        ("timm", "efficientnet_b0", "timm-efficientnet-b0", ".pth", ""),
    ],
)
def test_a_classifier_s_weights_give_its_features_on_three_equal_channels(
    tmp_path, library, name, encoder, suffix, prefix
):
    theirs = classifier(library, name)
    file = tmp_path / f"weights{suffix}"
    state = {prefix + key: one for key, one in theirs.state_dict().items()}
    torch.save(state, file) if suffix == ".pth" else save_file(state, file)
    ours = build_unet(2, encoder, str(file)).encoder.eval()
    batch = torch.randn(2, 1, 64, 64)
    seen = []
    last = {"resnet": "layer4", "effici": "blocks"}[name[:6]]
    getattr(theirs, last).register_forward_hook(lambda *given: seen.append(given[2]))
    with torch.no_grad():
        theirs(batch.repeat(1, 3, 1, 1))
        torch.testing.assert_close(ours(batch)[-1], seen[0], rtol=1e-3, atol=1e-4)


def test_weights_of_another_network_are_refused_in_one_line(tmp_path):
    file = tmp_path / "mine.pth"
    whole = classifier("torchvision", "resnet18").state_dict()
    lacking = {key: one for key, one in whole.items() if key != "layer1.0.conv1.weight"}
    broken = whole | {"layer1.0.conv1.weight": torch.full((64, 64, 3, 3), float("nan"))}
    for name, state, told in (
        ("resnet34", whole, "mine.pth does not fit resnet34"),
        ("mobilenet_v2", whole, "set unet_encoder to the network that it is of"),
        ("resnet18", lacking, r"\(1 of 120 tensors, 'layer1.0.conv1.weight' first\)"),
        ("resnet18", whole | {"more": torch.ones(1)}, r"\(1 of 120 tensors, 'more' first\)"),
        ("resnet18", broken, r"NaN or infinity in layer1\.0\.conv1\.weight"),
    ):
        torch.save(state, file)
        with pytest.raises(RaddinoError, match=told) as caught:
            build_unet(2, name, str(file))
        assert str(tmp_path) not in str(caught.value)
    file.write_bytes(b"no weights")
    with pytest.raises(RaddinoError, match=r"mine\.pth"):
        build_unet(2, "resnet18", str(file))


def test_the_name_of_weights_tells_their_content_and_no_place(tmp_path):
    file = tmp_path / "mine.pth"
    file.write_bytes(b"a")
    first = named_weights(str(file))
    assert first == f"mine.pth sha256:{hashlib.sha256(b'a').hexdigest()[:16]}"
    assert named_weights(first) == first
    file.write_bytes(b"b")
    assert named_weights(str(file)) != first
    assert (named_weights(None), named_weights("imagenet")) == (None, "imagenet")
    with pytest.raises(RaddinoError, match=r"unet_weights: no file .*give one, 'imagenet', or leave it out"):
        named_weights(str(tmp_path / "absent.pth"))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(RaddinoError, match=r"pip install 'raddino\[seg\]'"):
        build_unet(2)
