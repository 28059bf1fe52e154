"""What a training step costs: the step itself, run once on tensors that have shapes and no contents."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import layer_norm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from raddino.dist import alone
from raddino.ssl import SelfDistillation, SslConfig, Views, losses
from raddino.training.blocks import fixed_rows, recompute_blocks
from raddino.training.schedule import Schedule, ScheduleConfig
from raddino.training.settings import PretrainConfig
from raddino.training.step import compute_gradients
from raddino.views import ViewsConfig
from raddino.views.masks import batch_masks
from raddino.vit import VitConfig, attention, linear

MOMENTS = 2
"""Of AdamW, each of the student's size."""
MASKS_DRAWN = 128
"""Of larger micro-batches the share of masked patches is that of so many views."""


@dataclass(frozen=True)
class StepCost:
    """Of one micro-batch.

    Attributes:
        parameters: of the student; the teacher has as many.
        state_bytes: student, teacher, AdamW's moments and centres: what a checkpoint holds.
        peak_bytes: of all tensors that are alive at the same time: the state, gradients, views and activations.
        flops: of products, convolutions and attention, a multiplication and an addition counted as two; what
            activation checkpointing computes again counts again.
    """

    parameters: int
    state_bytes: int
    peak_bytes: int
    flops: int


def step_cost(config: PretrainConfig, images: int, gpu: bool) -> StepCost:
    """Cost of one rank's ``images`` of a micro-batch, in almost no memory and, on one core, in a second or a few.

    The step is the last one of the run, in which patches are anchored if they ever are.

    Args:
        config: with ``precision`` and ``compile`` decided; ``"auto"`` counts as fp32 and as false. What is compiled
            counts as if it were not, but with :func:`~raddino.training.blocks.fixed_rows`.
        images: at least 1.
        gpu: whether as on a GPU, with fused attention and float32 norms, or as on this processor.
    """
    with alone():
        return _rehearse(
            config.vit, config.ssl, config.views, config.precision == "bf16", config.accumulate > 1,
            config.activation_checkpointing, config.ssl.gram.begun(config.steps - 1), images, gpu,
            fixed_rows(config, images),
        )  # fmt: skip


def count_weights(vit: VitConfig, ssl: SslConfig) -> tuple[int, int]:
    """Weights of a student, and all that training holds: gradients, moments and teachers too. In no memory.

    Raises:
        OverflowError, RuntimeError, TypeError: a size beyond 64 bits.
    """
    with torch.device("meta"):
        task = SelfDistillation(vit, ssl)
    student, all_ = (sum(weight.numel() for weight in part.parameters()) for part in (task.student, task))
    return student, all_ + (1 + MOMENTS) * student


@lru_cache(maxsize=64)
def _rehearse(
    vit: VitConfig, ssl: SslConfig, views: ViewsConfig, bf16: bool, accumulated: bool, recompute: bool, anchored: bool,
    images: int, gpu: bool, fixed: int | None,
) -> StepCost:  # fmt: skip
    from torch._subclasses import FakeTensorMode

    side = views.global_size // vit.patch_size
    drawn, rows = min(2 * images, MASKS_DRAWN), 0
    if ssl.ibot_weight:
        masks = torch.from_numpy(batch_masks(0, 0, drawn, (side, side), views.masks))
        rows = len(Views.build(torch.empty(1), None, masks).masked_rows) * 2 * images // drawn
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        stack.enter_context(_gpu_ways() if gpu else _quick_attention())
        stack.enter_context(_few_chunks())
        counted = stack.enter_context(_Counter())
        task = SelfDistillation(vit, ssl).train()
        if recompute:
            recompute_blocks(task)
        weights = list(task.student.parameters())
        parameters = sum(weight.numel() for weight in weights)
        moments = MOMENTS * parameters * torch.float32.itemsize
        state = counted.alive + moments
        if accumulated:
            for weight in weights:
                weight.grad = torch.zeros_like(weight)
        made = Views(
            torch.empty(2 * images, 1, views.global_size, views.global_size),
            torch.empty(views.local_views * images, 1, *[views.local_size] * 2) if views.local_views else None,
            torch.empty(2 * images, side * side, dtype=torch.bool),
            torch.empty(rows if fixed is None else fixed, dtype=torch.int64),
            torch.empty(rows),
            torch.empty(2 * images, 1, ssl.gram.size, ssl.gram.size) if anchored and ssl.gram.size else None,
        )
        generator, values = torch.Generator().manual_seed(0), Schedule(ScheduleConfig(), 1)[0]
        values = replace(values, step=ssl.gram.start if anchored else 0)
        compute_gradients(task, [made], 1, values, "bf16" if bf16 else "fp32", generator)
    return StepCost(parameters, state, counted.peak + moments, counted.flops)


class _Counter(TorchDispatchMode):
    """Bytes of tensors that are ``alive`` now and at the ``peak`` (views share theirs), and ``flops`` done.

    torch's FlopCounterMode counts by the same formulas, but keeps alive what activation checkpointing lets go.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = self.flops = 0
        self._storages: dict[int, tuple[int, Any]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        if function.overloadpacket in _FLOPS:
            self.flops += _FLOPS[function.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._storages:
            self._storages[key] = storage.nbytes(), weakref.ref(storage, lambda _: self._drop(key))
            self.alive += storage.nbytes()
            self.peak = max(self.peak, self.alive)

    def _drop(self, key: int) -> None:
        self.alive -= self._storages.pop(key)[0]


def _full_norm(tokens: Tensor, *rest: Any, **options: Any) -> Tensor:
    """``layer_norm``, under autocast in float32, as CUDA's has it."""
    full = tokens.float() if torch.is_autocast_enabled("cpu") else tokens
    return layer_norm(full, *rest, **options)


@contextmanager
def _gpu_ways() -> Iterator[None]:
    """Fused attention, torch's products and float32 norms: what differs on CUDA from tensors said to be on the CPU.

    Tensors without contents that say they are on CUDA cannot be differentiated where there is none.
    """
    with (
        mock.patch.object(attention, "attend", attention.fused),
        mock.patch.object(linear, "has_onednn", return_value=False),
        mock.patch.object(functional, "layer_norm", _full_norm),
    ):
        yield


@contextmanager
def _quick_attention() -> Iterator[None]:
    """Attention for all heads at once: hundreds of slabs a block take longer to count than to compute."""
    with mock.patch.object(attention, "SLAB", 2**62):
        yield


def _few_chunks() -> AbstractContextManager[Any]:
    """The losses' chunks as on a GPU, for the same reason."""
    return mock.patch.object(losses, "CACHED_CHUNK", losses.CHUNK)


def _attention_flops(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_backward_flops(grad: Tensor, *rest: Any, **options: Any) -> int:
    """Four products; the scores that a fused kernel computes again are not counted."""
    return 2 * _attention_flops(*rest)


_FLOPS: dict[Any, Any] = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
