"""Attention by every way that it takes, with its gradient, against torch's and a plain formula."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from raddino.vit import attention

BATCH, HEADS, DIM = 2, 3, 16


def with_gradient(function, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a function makes of (B N, 3 D), and the gradient of a weighted sum of it, in float64."""
    given = qkv.clone().requires_grad_()
    out = function(given)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
    (out.double() * weights).sum().backward()
    return out.detach().double(), given.grad.double()


def by_torch(qkv: torch.Tensor) -> torch.Tensor:
    parts = qkv.double().view(BATCH, -1, 3, HEADS, DIM).permute(2, 0, 3, 1, 4)
    return scaled_dot_product_attention(*parts).transpose(1, 2).reshape(len(qkv), -1)


def some(length: int) -> torch.Tensor:
    return torch.randn(BATCH * length, 3 * HEADS * DIM, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("length", [1, 5, 64])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 2e-2)]
)
def test_equal_to_torch(length, dtype, tolerance):
    qkv = some(length).to(dtype)
    found = with_gradient(lambda given: attention.attend(given, BATCH, length, HEADS), qkv)
    for one, expected in zip(found, with_gradient(by_torch, qkv), strict=True):
        torch.testing.assert_close(one, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kept", [0, 512], ids=["computed again", "kept"])
@pytest.mark.parametrize("slab", [1, 3 * 50 * 50, 1 << 21])
def test_slabs_do_not_show(monkeypatch, slab, kept):
    monkeypatch.setattr(attention, "SLAB", slab)
    monkeypatch.setattr(attention, "KEPT", kept)
    qkv = some(50).double()
    found = with_gradient(lambda given: attention._InSlabs.apply(given, BATCH, 50, HEADS), qkv)
    for one, expected in zip(found, with_gradient(by_torch, qkv), strict=True):
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(attention._InSlabs.apply(qkv, BATCH, 50, HEADS), found[0])


def test_weights_are_what_attention_mixes_with():
    layer = attention.Attention(12, 3).double()
    tokens = torch.randn(2 * 5, 12).double()
    weights = layer.weights(tokens, (2, 5))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5).double())
    values = layer.qkv(tokens).view(2, 5, 3, 3, 4)[:, :, 2].transpose(1, 2)
    mixed = layer.proj((weights @ values).transpose(1, 2).reshape(10, 12))
    torch.testing.assert_close(layer(tokens, [(2, 5)], torch.ones(12).double()), mixed)
