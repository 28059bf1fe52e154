"""One call for all groups against one a group; the kernel, which a CPU lacks, played by a plain loop."""

import inspect
from types import SimpleNamespace

import pytest
import torch

from raddino.vit import attention, varlen

HEADS, DIM = 2, 8
SHAPES = [(2, 17), (3, 5), (1, 1)]
real = varlen.varlen_attn


def played(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k):
    """``varlen_attn`` by sequence in float64; refuses what the kernel would."""
    tokens = len(query)
    for part in (query, key, value):
        assert part.shape == (tokens, HEADS, DIM)
        assert part.is_contiguous(), "cuDNN's kernel has misread strided parts"
        assert part.data_ptr() % 16 == 0
    for bounds, longest in ((cu_seq_q, max_q), (cu_seq_k, max_k)):
        assert bounds.dtype == torch.int32
        assert bounds.device == query.device
        assert isinstance(longest, int)
        assert longest == bounds.diff().max()
        assert bounds[0] == 0
        assert bounds[-1] == tokens
        assert (bounds.diff() > 0).all()
    found = []
    for start, stop in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        q, k, v = (part[start:stop].double().transpose(0, 1) for part in (query, key, value))
        found.append(((q @ k.mT * DIM**-0.5).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(found).to(query.dtype)


@pytest.fixture
def on_gpu(monkeypatch):
    """As on a GPU that has the kernel."""
    monkeypatch.setattr(varlen, "varlen_attn", played)
    monkeypatch.setattr(varlen, "serves", lambda qkv, shapes, heads: len(shapes) > 1)


def with_gradient(function, given: torch.Tensor) -> list[torch.Tensor]:
    given = given.clone().requires_grad_()
    out = function(given)
    (
        out.double() * torch.linspace(-1, 1, out.numel(), dtype=torch.float64, device=out.device).view(out.shape)
    ).sum().backward()
    return [out.detach(), given.grad]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("shapes", [SHAPES, SHAPES[::-1], SHAPES[:2]], ids=["long first", "short first", "two"])
def test_one_call_is_one_a_group(on_gpu, shapes, dtype, tolerance):
    tokens = sum(batch * length for batch, length in shapes)
    qkv = torch.randn(tokens, 3 * HEADS * DIM, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = with_gradient(lambda given: attention.attend_groups(given, shapes, HEADS), qkv)

    def apart(given):
        groups = given.split([batch * length for batch, length in shapes])
        return torch.cat([attention.attend(one, *shape, HEADS) for one, shape in zip(groups, shapes, strict=True)])

    for one, expected in zip(found, with_gradient(apart, qkv), strict=True):
        torch.testing.assert_close(one, expected, rtol=0, atol=tolerance)


def test_a_layer_takes_it_and_one_group_does_not(monkeypatch, on_gpu):
    layer = attention.Attention(HEADS * DIM, HEADS).double()
    tokens, gain = torch.randn(2 * 17 + 3 * 5, HEADS * DIM).double(), torch.ones(HEADS * DIM).double()
    found = layer(tokens, SHAPES[:2], gain)
    monkeypatch.undo()
    torch.testing.assert_close(found, layer(tokens, SHAPES[:2], gain), rtol=0, atol=1e-12)
    monkeypatch.setattr(varlen, "varlen_attn", None)
    layer(tokens[:34], SHAPES[:1], gain)


@pytest.mark.skipif(real is None, reason="torch without varlen_attn")
def test_compiled_without_a_break(monkeypatch):
    """``fullgraph`` raises at one. Tensors on ``meta`` have no values and need no kernel."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)

    def attend(qkv):
        return varlen.attend_all(qkv, SHAPES[:2], HEADS) if varlen.has_kernel(0) else None

    compiled = torch.compile(attend, fullgraph=True, backend="eager")
    qkv = torch.empty(49, 3 * HEADS * DIM, device="meta", requires_grad=True)
    compiled(qkv).sum().backward()
    assert qkv.grad.shape == qkv.shape


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True), ({"dtype": torch.float16}, True), ({"dtype": torch.float32}, False), ({"device": "cpu"}, False),
        ({"shape": (9, 3 * HEADS * 4)}, False), ({"shape": (9, 3 * HEADS * 256)}, True),
        ({"shape": (9, 3 * HEADS * 264)}, False), ({"shapes": SHAPES[:1]}, False), ({"capability": (7, 5)}, False),
        ({"capability": (9, 0)}, True), ({"flash": False}, False), ({"kernel": None}, False),
    ],
)  # fmt: skip
def test_where_it_is_taken(monkeypatch, change, expected):
    case = {"dtype": torch.bfloat16, "device": "cuda", "shape": (9, 3 * HEADS * 64), "shapes": SHAPES,
            "capability": (8, 0), "flash": True, "kernel": played} | change  # fmt: skip
    monkeypatch.setattr(varlen, "varlen_attn", case["kernel"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: case["capability"])
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: case["flash"])
    qkv = SimpleNamespace(
        shape=case["shape"], dtype=case["dtype"], device=SimpleNamespace(type=case["device"], index=0)
    )
    assert varlen.serves(qkv, case["shapes"], HEADS) is expected


def test_the_kernel_takes_what_it_is_given_here():
    if real is None:
        pytest.skip("torch without varlen_attn")
    names = list(inspect.signature(real).parameters)[:7]
    assert names == list(inspect.signature(played).parameters)
    with torch.device("meta"):
        qkv = torch.empty(49, 3 * HEADS * DIM, dtype=torch.bfloat16, requires_grad=True)
    out = varlen.attend_all(qkv, SHAPES[:2], HEADS)
    out.sum().backward()
    assert (out.shape, out.dtype) == ((49, HEADS * DIM), torch.bfloat16)
    assert qkv.grad.shape == qkv.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shapes", [SHAPES, [(2, 257), (8, 50)]])
def test_on_a_gpu(shapes):
    """The kernel itself, in bfloat16, against one call a group in float32."""
    tokens = sum(batch * length for batch, length in shapes)
    qkv = torch.randn(tokens, 3 * 4 * 64, device="cuda").bfloat16()
    assert varlen.serves(qkv, shapes, 4)

    def apart(given):
        groups = given.float().split([batch * length for batch, length in shapes])
        return torch.cat([attention.fused(one, *shape, 4) for one, shape in zip(groups, shapes, strict=True)])

    found = with_gradient(lambda given: attention.attend_groups(given, shapes, 4), qkv.clone())
    for one, expected in zip(found, with_gradient(apart, qkv), strict=True):
        torch.testing.assert_close(one.float(), expected.float(), rtol=0, atol=3e-2)
