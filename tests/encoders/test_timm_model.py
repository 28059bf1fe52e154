"""Any timm model against timm itself: token and pooled transformers, convolutional and windowed ones."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from published import check_refusals, radiographs, shaken
from raddino.encoders.load import load_encoder
from raddino.encoders.timm_model import known_by_name, preparation_of
from raddino.errors import RaddinoError

timm = pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("vit_tiny_patch16_224", (14, 14)),
        ("vit_tiny_r_s16_p8_224", (7, 7)),
        ("convnext_atto", (7, 7)),
        ("swin_tiny_patch4_window7_224", (7, 7)),
        ("mobilenetv3_small_050", None),
        ("resnet18", (7, 7)),
    ],
)
def test_same_features_as_timm(tmp_path, name, grid):
    torch.manual_seed(0)
    network = shaken(timm.create_model(name, num_classes=7))
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "model.safetensors")
    encoder = load_encoder(f"timm:{name}@{tmp_path}", device="cpu")
    theirs = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    images = radiographs()
    batch = torch.stack([theirs(Image.fromarray(image).convert("RGB")) for image in images])
    torch.testing.assert_close(encoder.preprocess(images), batch, rtol=0, atol=1e-5)
    ours = encoder.encode(encoder.preprocess(images))
    with torch.no_grad():
        features = network.forward_features(batch)
        pooled = network.forward_head(features, pre_logits=True)
    torch.testing.assert_close(ours.cls, pooled, rtol=1e-4, atol=1e-4)
    assert encoder.grid == grid
    if grid is None:
        assert ours.patches is None
        return
    assert ours.patches.shape == (4, *grid, encoder.dim)
    if features.ndim == 3:
        torch.testing.assert_close(ours.patches.flatten(1, 2), features[:, 1:], rtol=1e-4, atol=1e-4)
    elif features.shape[1] == encoder.dim:
        torch.testing.assert_close(ours.patches.permute(0, 3, 1, 2), features, rtol=1e-4, atol=1e-4)
    else:
        torch.testing.assert_close(ours.patches, features, rtol=1e-4, atol=1e-4)
    assert encoder.provenance.sources is None


def test_what_does_not_fit_is_refused(tmp_path, monkeypatch):
    network = shaken(timm.create_model("vit_tiny_patch16_224", num_classes=0))
    good = tmp_path / "good.pth"
    torch.save({"state_dict": network.state_dict()}, good)
    encoder = load_encoder(f"timm:vit_tiny_patch16_224@{good}", device="cpu")
    check_refusals(
        lambda place: load_encoder(f"timm:vit_tiny_patch16_224@{place}"), encoder, good, tmp_path, monkeypatch
    )
    with pytest.raises(RaddinoError, match="weights of another network"):
        load_encoder(f"timm:vit_small_patch16_224@{good}")
    for spec in ("timm", "timm:no_such_net", "timm:vit_tiny_patch16_224.no_such_tag"):
        with pytest.raises(RaddinoError, match="timm has no model"):
            load_encoder(spec)
    monkeypatch.setattr("huggingface_hub.snapshot_download", _offline)
    with pytest.raises(RaddinoError, match=r"timm/vit_tiny_patch16_224\.augreg"):
        load_encoder("timm:vit_tiny_patch16_224")


def test_inputs_that_are_not_implemented_are_refused():
    data = {"input_size": (3, 224, 224), "crop_pct": 0.9, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    data |= {"crop_mode": "center", "interpolation": "bicubic"}
    assert preparation_of("timm:x", data).resize == 248
    assert preparation_of("timm:x", data | {"crop_mode": "squash"}).resize == (248, 248)
    for wrong in ({"input_size": (1, 224, 224)}, {"input_size": (3, 224, 192)}, {"crop_mode": "border"},
                  {"interpolation": "lanczos"}):  # fmt: skip
        with pytest.raises(RaddinoError, match="only three channels"):
            preparation_of("timm:x", data | wrong)


@pytest.mark.parametrize(
    ("name", "supervision", "sources"),
    [
        ("vit_base_patch16_224.augreg_in21k", "labels", ["imagenet-21k"]),
        ("convnext_tiny.in12k_ft_in1k", "labels", ["imagenet-12k", "imagenet-1k"]),
        ("vit_small_patch14_dinov2.lvd142m", "self-supervised", None),
        ("vit_base_patch16_clip_224.openai", "text", None),
        ("vit_base_patch16_224.mae", "self-supervised", None),
    ],
)
def test_the_published_name_tells_the_training(name, supervision, sources):
    record = known_by_name(name, timm.get_pretrained_cfg(name).to_dict())
    assert (record.supervision, record.sources) == (supervision, sources)
    assert record.licence


def _offline(*_, **__):
    raise OSError("no network")


def test_sixteen_bits_agree_with_eight(tmp_path):
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    torch.save(network.state_dict(), tmp_path / "good.pth")
    encoder = load_encoder(f"timm:vit_tiny_patch16_224@{tmp_path / 'good.pth'}", device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (248, 248), dtype=np.uint8)
    torch.testing.assert_close(*(encoder.preprocess([i]) for i in (image, image.astype(np.uint16) * 257)))
