"""Both ways of attending, the folded gain, and the fast bf16 path, against plain formulas."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from raddino.vit import attention


@pytest.mark.parametrize("length", [5, attention.SHORT, attention.SHORT + 1])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 2e-2)]
)
def test_equal_to_torch(length, dtype, tolerance):
    q, k, v = torch.randn(3, 2, 3, length, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = scaled_dot_product_attention(q.double(), k.double(), v.double())
    torch.testing.assert_close(attention.attend(q, k, v).double(), expected, rtol=0, atol=tolerance)


def test_gain_in_the_weights_is_gain_on_the_output():
    layer, gain, x = nn.Linear(8, 6).double(), torch.randn(6).double(), torch.randn(4, 8).double()
    torch.testing.assert_close(attention.scaled_linear(x, layer, gain), layer(x) * gain)


def test_weights_are_what_attention_mixes_with():
    layer = attention.Attention(12, 3).double()
    tokens = torch.randn(2 * 5, 12).double()
    weights = layer.weights(tokens, (2, 5))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5).double())
    values = layer.qkv(tokens).view(2, 5, 3, 3, 4)[:, :, 2].transpose(1, 2)
    mixed = layer.proj((weights @ values).transpose(1, 2).reshape(10, 12))
    torch.testing.assert_close(layer(tokens, [(2, 5)], torch.ones(12).double()), mixed)
