"""Heads against numpy, Transformers' UPerNet and closed forms; and whether they learn, in any precision and shape."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from published import shaken
from raddino.errors import ConfigError, RaddinoError
from raddino.tasks.segmentation.heads import HEADS, build_head
from raddino.tasks.segmentation.heads.pyramid import ChannelNorm, Scales
from raddino.tasks.segmentation.heads.upernet import UperNet


def count(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def test_linear_is_a_matrix_product_of_standardised_features():
    torch.manual_seed(0)
    head = shaken(build_head("linear", 5, 3, depths=2))
    patches = torch.randn(2, 4, 6, 10)
    norm, last = head.norm, head.classifier
    mean, var, gain, shift, weight, bias = (
        one.detach().double().numpy()
        for one in (norm.running_mean, norm.running_var, norm.weight, norm.bias, last.weight[:, :, 0, 0], last.bias)
    )
    standardised = (patches.double().numpy() - mean) / np.sqrt(var + norm.eps) * gain + shift
    expected = np.moveaxis(standardised @ weight.T + bias, -1, 1)
    np.testing.assert_allclose(head(patches).detach(), expected, rtol=0, atol=1e-5)
    assert count(head) == 10 * 3 + 3 + 2 * 10


NAMES = {
    r"^pools\.(\d)\.1\.": r"psp_modules.\1.1.", r"^laterals\.": "lateral_convs.", r"^smooth\.": "fpn_convs.",
    r"^fused\.": "fpn_bottleneck.", r"\.1\.(weight|bias|running_\w+|num_\w+)$": r".batch_norm.\1",
    r"\.0\.weight$": ".conv.weight",
}  # fmt: skip
"""Ours to Transformers', one after another."""


def renamed(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = re.sub(ours, theirs, name)
    return name


@pytest.mark.parametrize("sides", [(32, 16, 8, 4), (20, 11, 7, 3)])
def test_upernet_equals_transformers_decode_head(sides):
    from transformers import UperNetConfig
    from transformers.models.upernet.modeling_upernet import UperNetHead

    torch.manual_seed(0)
    channels = (6, 8, 10, 12)
    theirs = shaken(UperNetHead(UperNetConfig(hidden_size=16, num_labels=3), channels))
    ours = UperNet(channels, 3, 16, norm=nn.BatchNorm2d).eval()
    state = theirs.state_dict()
    assert {renamed(name) for name in ours.state_dict()} == set(state)
    ours.load_state_dict({name: state[renamed(name)] for name in ours.state_dict()})
    maps = [torch.randn(2, one, side, side + 1) for one, side in zip(channels, sides, strict=True)]
    with torch.no_grad():
        torch.testing.assert_close(ours(maps), theirs(maps), rtol=0, atol=1e-5)


def test_scales_are_those_of_the_paper_and_so_are_their_parameters():
    """Li et al. 2022: 2 x 2 deconvolutions with bias to D/2 and D/4, a norm between; the rest has no weights."""
    dim = 768
    scales = Scales(dim)
    maps = scales(torch.randn(1, 4, 6, dim))
    assert [tuple(one.shape) for one in maps] == [(1, 192, 16, 24), (1, 384, 8, 12), (1, 768, 4, 6), (1, 768, 2, 3)]
    one_up, two_up = 4 * dim * dim // 2 + dim // 2, 4 * (dim // 2) * (dim // 4) + dim // 4
    assert count(scales) == 2 * one_up + two_up + 2 * (dim // 2)


def test_heads_have_as_many_parameters_as_their_layers_say():
    dim, width, classes = 768, 256, 5
    block = {1: lambda i, o: i * o + 2 * o, 3: lambda i, o: 9 * i * o + 2 * o}
    channels = (dim // 4, dim // 2, dim, dim)
    last = width * classes + classes
    laterals = sum(block[1](one, width) + block[3](width, width) for one in channels)
    pyramid = count(Scales(dim))
    assert count(build_head("vitdet", dim, classes)) == pyramid + laterals + 4 * block[3](width, width) + last
    pools = 4 * block[1](dim, width) + block[3](dim + 4 * width, width)
    finer = sum(block[1](one, width) + block[3](width, width) for one in channels[:3])
    assert count(build_head("upernet", dim, classes)) == pyramid + pools + finer + block[3](4 * width, width) + last


def test_four_depths_each_make_a_scale():
    scales = Scales(8, depths=4).eval()
    patches = torch.randn(1, 6, 6, 32)
    with torch.no_grad():
        before = scales(patches)
        for depth in range(4):
            changed = patches.clone()
            changed[..., 8 * depth : 8 * depth + 8] += 1
            moved = [not torch.allclose(a, b) for a, b in zip(before, scales(changed), strict=True)]
            assert moved == [level == depth for level in range(4)]


def test_the_norm_is_layer_norm_of_each_place():
    torch.manual_seed(0)
    norm, one = shaken(ChannelNorm(6)), torch.randn(2, 6, 3, 5)
    reference = nn.LayerNorm(6)
    reference.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(one), reference(one.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("depths", [1, 4])
@pytest.mark.parametrize("grid", [(37, 37), (7, 7), (1, 1), (5, 9), (2, 1)])
def test_every_grid_and_single_images(kind, depths, grid):
    torch.manual_seed(0)
    head = build_head(kind, 12, 3, depths)
    finer = 1 if kind == "linear" else 4
    patches = torch.randn(3, *grid, depths * 12)
    logits = head(patches)
    assert logits.shape == (3, 3, grid[0] * finer, grid[1] * finer)
    logits.mean().backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in head.parameters())
    head.eval()
    with torch.no_grad():
        torch.testing.assert_close(head(patches)[1:2], head(patches[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("low", [False, True])
def test_each_learns_eight_images_by_heart(kind, low):
    """Random features that hold the class of their patch in some direction; bf16 autocast as on a GPU."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 3, (8, 7, 5), generator=generator)
    patches = torch.randn(8, 7, 5, 24, generator=generator)
    torch.manual_seed(0)
    head = build_head(kind, 24, 3)
    optimizer = torch.optim.AdamW(head.parameters(), 0.05 if kind == "linear" else 0.005)
    loss = torch.tensor(9.0)
    patches[..., :3] += 2.5 * nn.functional.one_hot(truth, 3)
    target = truth if kind == "linear" else interpolate(truth[:, None].float(), scale_factor=4)[:, 0].long()
    for _ in range(400):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = head(patches)
        loss = cross_entropy(logits.float(), target)
        if loss < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


def test_what_a_head_cannot_be_or_read_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'upernet'"):
        build_head("upnet", 8, 2)
    with pytest.raises(ConfigError, match="1 or more"):
        build_head("linear", 8, 0)
    with pytest.raises(ConfigError, match="1 or 4 depths, got 3"):
        build_head("vitdet", 8, 2, depths=3)
    for kind in HEADS:
        for wrong in (torch.zeros(1, 4, 4, 7), torch.zeros(4, 4, 8), torch.zeros(1, 16, 8)):
            with pytest.raises(RaddinoError, match=r"takes patch features \(B, H, W, 8\)"):
                build_head(kind, 8, 2)(wrong)
