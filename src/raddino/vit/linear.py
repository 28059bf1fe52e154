"""Products of tokens with weights: on a CPU by oneDNN, bias, gain and GELU inside; elsewhere by torch's ``linear``."""

from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

Activation = Literal["none", "gelu"]


def linear(x: Tensor, layer: nn.Module, gain: Tensor | None = None, activation: Activation = "none") -> Tensor:
    """``activation(gain * layer(x))`` of tokens (T, in): (T, out), in the type of autocast where that is on.

    The gain (out,) is put into the weights, which are smaller than the tokens. A layer other than ``nn.Linear`` holds
    gain and activation already (:mod:`raddino.vit.packed`).
    """
    if not isinstance(layer, nn.Linear):
        return layer(x)
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    if device == "cpu" and not torch.compiler.is_compiling() and has_onednn(dtype) and len(x):
        return _OneDnnLinear.apply(x, layer.weight, layer.bias, gain, activation, dtype)
    weight, bias = (layer.weight, layer.bias) if gain is None else (layer.weight * gain[:, None], layer.bias * gain)
    out = functional.linear(x, weight, bias)
    return functional.gelu(out) if activation == "gelu" else out


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether torch has oneDNN's products of ``dtype`` on this machine."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def onednn_product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation = "none") -> Tensor:
    """``activation(x weight^T + bias)`` of (T, in) and (out, in), which may be in oneDNN's own layout; no gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")


if hasattr(torch.ops.mkldnn, "_linear_pointwise"):

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _flops(x: torch.Size, weight: torch.Size, *_: Any, out_shape: Any = None, **__: Any) -> int:
        """For torch's FLOP counter, which knows the other ways."""
        return 2 * x[0] * x[1] * weight[0]


class _OneDnnLinear(torch.autograd.Function):
    """:func:`linear` with its gradient; what it keeps is in the compute type."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        gain: Tensor | None,
        activation: Activation,
        dtype: torch.dtype,
    ) -> Tensor:
        scaled, shift = (weight, bias) if gain is None else (weight * gain[:, None], bias * gain)
        x, scaled, shift = x.to(dtype), scaled.to(dtype), shift.to(dtype)
        if activation == "gelu" and any(ctx.needs_input_grad):
            before = onednn_product(x, scaled, shift)
            ctx.save_for_backward(x, scaled, weight, bias, gain, before)
            return functional.gelu(before)
        ctx.save_for_backward(x, scaled, weight, bias, gain, None)
        return onednn_product(x, scaled, shift, activation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scaled, weight, bias, gain, before = ctx.saved_tensors
        grad = grads[0].contiguous()
        if before is not None:
            grad = torch.ops.aten.gelu_backward(grad, before)
        to_x = onednn_product(grad, scaled.t(), None) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[1:4]):
            return to_x, None, None, None, None, None
        to_weight = (grad.t() @ x).to(weight.dtype)
        to_bias = grad.sum(0).to(bias.dtype)
        if gain is None:
            return to_x, to_weight, to_bias, None, None, None
        to_gain = (to_weight * weight).sum(1) + to_bias * bias
        return to_x, to_weight * gain[:, None], to_bias * gain, to_gain, None, None
