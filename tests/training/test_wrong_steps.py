"""Each error that a reimplementation of DINOv2's step makes is seen by a golden file, in both precisions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from raddino.training.verify import verify
from raddino.vit import VisionTransformer, VitConfig, model
from wrong_steps import WRONG, WRONG_IN_FLOAT64, another_objective, positions_antialiased

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.safetensors"), key=lambda file: "sharp" not in file.name)
PRECISIONS = ("float64", "float32")


def sees(file, precision) -> bool:
    return not all(check.ok for check in verify(file, precision))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_step_is_seen(monkeypatch, name, precision):
    WRONG[name](monkeypatch)
    assert any(sees(file, precision) for file in GOLDEN)


@pytest.mark.parametrize("name", WRONG_IN_FLOAT64)
def test_a_wrong_constant_is_seen_in_float64(monkeypatch, name):
    WRONG_IN_FLOAT64[name](monkeypatch)
    assert any(sees(file, "float64") for file in GOLDEN)


@pytest.fixture(scope="module")
def heavier(tmp_path_factory) -> Path:
    """A golden file with all three losses and the clipping limit times 1.25: so are the gradients, and nothing else."""
    gain, source = 1.25, GOLDEN[0]
    file = tmp_path_factory.mktemp("golden") / "heavier.safetensors"
    tensors = load_file(source)
    save_file({name: tensor * gain if "/grad/" in name else tensor for name, tensor in tensors.items()}, file)
    settings = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))
    for weight in ("dino_loss_weight", "ibot_loss_weight", "koleo_weight", "clip_grad"):
        settings[weight] *= gain
    for step in settings["steps"]:
        step["koleo_loss"] *= gain
        step["grad_norm_before_clip"] = {part: norm * gain for part, norm in step["grad_norm_before_clip"].items()}
    file.with_suffix(".json").write_text(json.dumps(settings), encoding="utf-8")
    return file


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("weight", ["dino_weight", "ibot_weight", "koleo_weight"])
def test_a_weight_that_is_ignored_is_seen(monkeypatch, heavier, weight, precision):
    assert not sees(heavier, precision)
    another_objective({weight: 0.1 if weight == "koleo_weight" else 1.0}, monkeypatch)
    assert sees(heavier, precision)


def by_pillow(positions, grid, offset, antialias):
    """Position embeddings resized by Pillow's bicubic filter, which always keeps out what the grid cannot hold."""
    assert antialias
    native = round((positions.shape[1] - 1) ** 0.5)
    rows, columns = grid
    box = (0, 0, columns * native / (columns + offset), rows * native / (rows + offset))
    channels = positions[0, 1:].T.reshape(-1, native, native).float().numpy()
    resized = [
        np.array(Image.fromarray(channel).resize((columns, rows), Image.Resampling.BICUBIC, box=box))
        for channel in channels
    ]
    patches = torch.from_numpy(np.stack(resized)).flatten(1).T.to(positions.dtype)
    return torch.cat([positions[:, :1], patches[None]], dim=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_antialias_that_is_ignored_is_seen(monkeypatch, offset, dtype):
    """No golden file has it on, so what the network makes of it is held to Pillow."""
    config = VitConfig(embed_dim=16, depth=1, num_heads=2, patch_size=4, image_size=24, layerscale_init=0.5,
                       interpolate_offset=offset, interpolate_antialias=True)  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    network = VisionTransformer(config).init_weights(generator)
    images = torch.randn(2, 1, 12, 16, generator=generator)
    with torch.no_grad():
        network.pos_embed.normal_(generator=generator)
        network, images = network.to(dtype), images.to(dtype)
        with monkeypatch.context() as patch:
            patch.setattr(model, "position_embedding", by_pillow)
            expected = network(images).patches
        torch.testing.assert_close(network(images).patches, expected, rtol=0, atol=3e-5)
        positions_antialiased(False, monkeypatch)
        assert (network(images).patches - expected).abs().max() > 0.01
