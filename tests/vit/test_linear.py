"""oneDNN's products and torch's, with bias, gain and GELU, against a plain formula in float64."""

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from raddino.vit.linear import _OneDnnLinear, has_onednn, linear

CASES = [(False, "none"), (True, "none"), (False, "gelu"), (True, "gelu")]


def written_out(x, weight, bias, gain, activation):
    out = x @ weight.T + bias
    out = out if gain is None else out * gain
    return gelu(out) if activation == "gelu" else out


def everything(function, tensors) -> list[torch.Tensor]:
    """Output and gradients of a function of tensors (some None), in float64."""
    given = [one if one is None else one.detach().clone().requires_grad_() for one in tensors]
    out = function(*given)
    (out.double() * torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)).sum().backward()
    return [out.detach().double(), *(one.grad.double() for one in given if one is not None)]


def tensors(gained: bool, dtype: torch.dtype = torch.float32) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in ((7, 24), (16, 24), (16,), (16,))]
    return [*made[:3], made[3] if gained else None]


@pytest.mark.parametrize(("gained", "activation"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_equal_to_the_formula(gained, activation, dtype, tolerance):
    given = tensors(gained, dtype)

    def ours(x, weight, bias, gain):
        layer = nn.Linear(24, 16).to(dtype)
        del layer.weight, layer.bias
        layer.weight, layer.bias = weight, bias
        return linear(x, layer, gain, activation)

    expected = everything(lambda *some: written_out(*some, activation), [t if t is None else t.double() for t in given])
    for one, other in zip(everything(ours, given), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("gained", "activation"), CASES)
def test_bfloat16_under_autocast(gained, activation):
    if not has_onednn(torch.bfloat16):
        pytest.skip("this processor has no bfloat16 products in oneDNN")
    x, weight, bias, gain = tensors(gained)
    given = [x.bfloat16(), weight, bias, gain]
    found = everything(lambda *some: _OneDnnLinear.apply(*some, activation, torch.bfloat16), given)
    expected = everything(lambda *some: written_out(*some, activation), [t if t is None else t.double() for t in given])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0.03, atol=0.03 * float(other.abs().max()))
    layer = nn.Linear(24, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, layer).dtype == torch.bfloat16
    assert linear(x, layer).dtype == torch.float32


def test_what_needs_no_gradient_gets_none():
    layer = nn.Linear(24, 16).requires_grad_(False)
    x = torch.randn(5, 24, requires_grad=True)
    linear(x, layer, activation="gelu").sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None
    assert not linear(x.detach(), layer).requires_grad


def test_no_tokens():
    assert linear(torch.zeros(0, 24), nn.Linear(24, 16), activation="gelu").shape == (0, 16)
