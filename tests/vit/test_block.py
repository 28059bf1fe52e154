"""A block against torch's own layers written out; stochastic depth against its definition."""

import pytest
import torch
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention, silu

from raddino.vit.block import Block, Kept, Mlp, SwiGlu


def made(ffn: str) -> Block:
    block = Block(16, 4, 3.0, ffn, 0.5).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return block


def written_out(block: Block, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, N, D) after the attention branch, and after both."""
    n1 = layer_norm(x, (16,), block.norm1.weight, block.norm1.bias, 1e-6)
    qkv = linear(n1, block.attn.qkv.weight, block.attn.qkv.bias).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
    attended = scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2)
    x = x + linear(attended, block.attn.proj.weight, block.attn.proj.bias) * block.ls1.gamma
    n2 = layer_norm(x, (16,), block.norm2.weight, block.norm2.bias, 1e-6)
    mlp = block.mlp
    if isinstance(mlp, Mlp):
        mapped = linear(gelu(linear(n2, mlp.fc1.weight, mlp.fc1.bias)), mlp.fc2.weight, mlp.fc2.bias)
    else:
        half = mlp.w3.in_features
        both = linear(n2, mlp.w12.weight, mlp.w12.bias)
        mapped = linear(silu(both[..., :half]) * both[..., half:], mlp.w3.weight, mlp.w3.bias)
    return x, x + mapped * block.ls2.gamma


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_a_block_is_its_formula(ffn):
    block, x = made(ffn), torch.randn(2, 5, 16, dtype=torch.float64) * 1e-3
    found = block(x.flatten(0, 1), [(2, 5)]).view(2, 5, 16)
    torch.testing.assert_close(found, written_out(block, x)[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("dim", "ratio", "hidden"), [(1536, 4.0, 4096), (16, 3.0, 32), (24, 4.0, 64), (10, 4.0, 32)])
def test_width_of_the_gated_layer(dim, ratio, hidden):
    """Two thirds, rounded up to eights: 4,096 for DINOv2's ViT-g."""
    layer = SwiGlu(dim, ratio)
    assert (layer.w12.out_features, layer.w3.in_features) == (2 * hidden, hidden)
    assert Mlp(dim, ratio).fc1.out_features == int(dim * ratio)


@pytest.mark.parametrize(("batch", "rate", "keep"), [(4, 0.5, 2), (5, 0.3, 3), (2, 0.9, 1), (7, 0.0, 7), (1, 0.5, 1)])
def test_how_many_samples_are_kept(batch, rate, keep):
    kept = Kept([(batch, 3), (2, 2)], rate, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert kept.shapes[0] == (keep, 3)
    first = kept.rows[: keep * 3].view(keep, 3)
    assert (first[:, 0] % 3 == 0).all()
    assert (first == first[:, :1] + torch.arange(3)).all()
    assert (first[:, 0].diff() > 0).all(), "in their order, none twice"
    assert first.max() < batch * 3
    assert (kept.rows[keep * 3 :] >= batch * 3).all()
    assert (kept.rows[keep * 3 :] < batch * 3 + 4).all()
    added = kept.add(torch.zeros(batch * 3 + 4, 1), torch.ones(len(kept.rows), 1))
    assert (added[kept.rows[: keep * 3]] == torch.tensor(batch / keep)).all()
    assert added.count_nonzero() == len(kept.rows), "the others pass by"


def test_every_sample_is_kept_as_often():
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(4)
    for _ in range(400):
        kept = Kept([(4, 2)], 0.5, generator, torch.device("cpu"))
        counts[kept.rows[::2] // 2] += 1
    assert ((counts - 200).abs() < 50).all(), "binomial, five standard deviations"


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_kept_samples_count_more_and_the_others_pass_by(ffn):
    block, x = made(ffn), torch.randn(4, 5, 16, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    first, second = (Kept([(4, 5)], 0.5, generator, torch.device("cpu")) for _ in range(2))
    found = block(x.flatten(0, 1), [(4, 5)], (first, second)).view(4, 5, 16)
    expected = x.clone()
    chosen = [kept.rows[::5] // 5 for kept in (first, second)]
    assert chosen[0].tolist() != chosen[1].tolist()
    attended = written_out(block, x)[0]
    expected[chosen[0]] += 2 * (attended - x)[chosen[0]]
    block.ls1.gamma.data.zero_()
    before, mapped = written_out(block, expected)
    expected[chosen[1]] += 2 * (mapped - before)[chosen[1]]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
