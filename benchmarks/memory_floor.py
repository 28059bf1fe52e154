"""The least that a training step moves through memory beside its products, in bytes by what it is for.

Products read their operands and write their results at the rate of plain products. They may do to a result, before
it is written, what concerns one value at a time: bias, gain, GELU and its derivative, the residual sum. Scores and
probabilities of attention never leave the cache, and sums of rows (bias gradients) ride on products. What no product
can do is counted:

* another tensor that a product reads or writes meanwhile, once;
* each pass that needs whole rows or columns (norms, losses, targets): its inputs read once, its outputs written once;
* what is kept for the backward pass alone, written once and read once;
* the weights and the optimiser's state, read once and written once.

A step whose tensors fit the cache can be faster than memory, and so than this floor.
"""

from __future__ import annotations

import torch

from raddino.ssl.centering import SinkhornKnopp
from raddino.ssl.head import HeadConfig
from raddino.training.settings import PretrainConfig
from raddino.vit import VitConfig

FULL = torch.float32.itemsize
TRIAD = 64 << 20
"""Values of each of the triad's three tensors, 256 MiB: more than any processor's cache."""


def least_bytes(config: PretrainConfig, images: int, masked: int, parameters: int) -> dict[str, int]:
    """Bytes of one micro-batch and its optimiser step.

    Args:
        config: with ``precision`` decided: ``"bf16"``, else activations count four bytes a value.
        images: of the micro-batch, B.
        masked: patches that the student sees masked, M.
        parameters: of the student.
    """
    vit, views = config.vit, config.views
    size = torch.bfloat16.itemsize if config.precision == "bf16" else FULL
    groups = [(2 * images, _length(vit, views.global_size))]
    if views.local_views:
        groups.append((views.local_views * images, _length(vit, views.local_size)))
    branches, seen = 2 * vit.depth, groups[0][0] * groups[0][1]
    kept = sum(max(1, int(batch * (1 - vit.drop_path))) * length for batch, length in groups)
    tokens = branches * vit.embed_dim * size
    hidden = int(vit.embed_dim * vit.mlp_ratio)
    wide = hidden if vit.ffn == "mlp" else 2 * ((int(hidden * 2 / 3) + 7) // 8 * 8)
    classes, crops = groups[0][0], sum(batch for batch, _ in groups)
    found = {
        "norms: tokens read, normed ones written": 2 * (seen + kept) * tokens,
        "residual sums: tokens read": (seen + kept) * tokens,
        "norms, backward: tokens and gradient read": 2 * kept * tokens,
        "residual gradients: read and written": 2 * kept * tokens,
        "feed-forward: inputs of GELU or gate written, read going back": 2 * kept * vit.depth * wide * size,
        "final norm": (2 * (classes + masked) + 5 * (crops + masked)) * vit.embed_dim * size,
        "clipping: gradients read": parameters * FULL,
        "AdamW: weights, gradients, moments read; weights, moments written": 7 * parameters * FULL,
        "moving average: teacher read and written": 2 * parameters * FULL,
    }
    if size != FULL:
        found["weights of student and teacher written in the type of products"] = 2 * parameters * size
    shared = config.ssl.ibot_head is None
    heads = [(config.ssl.head, classes + masked * shared, crops + masked * shared)]
    if config.ssl.ibot_head is not None:
        heads.append((config.ssl.ibot_head, masked, masked))
    found["heads: inputs of GELU, unit lengths, prototypes"] = sum(_of_head(*one, size) for one in heads)
    of_image, of_patch = config.ssl.head.prototypes, (config.ssl.ibot_head or config.ssl.head).prototypes
    logits, targets = classes * of_image + masked * of_patch, (classes + images) * of_image + masked * of_patch
    sinkhorn = SinkhornKnopp().iterations if config.ssl.centering == "sinkhorn_knopp" else 0
    found["targets: logits read, targets written"] = logits * (size + FULL + bool(sinkhorn) * (sinkhorn + 1) * FULL)
    found["losses: logits and targets read, twice; gradients written"] = (
        3 * size * (crops * of_image + masked * of_patch) + 2 * FULL * targets
    )
    return found


def _length(vit: VitConfig, side: int) -> int:
    return (side // vit.patch_size) ** 2 + 1 + vit.num_register_tokens


def _of_head(head: HeadConfig, seen: int, rows: int, size: int) -> int:
    """Of ``seen`` rows by the teacher and ``rows`` by the student."""
    gelu = 2 * rows * head.hidden * (head.layers - 1)
    unit = (2 * seen + 5 * rows) * head.bottleneck
    normed = head.prototypes * head.bottleneck * (2 * (FULL + size) + 3 * FULL)
    return (gelu + unit) * size + normed


class Triad:
    """``a + s b`` of tensors larger than the caches, on the threads that torch uses: the measure of bandwidth."""

    moved = 3 * TRIAD * FULL
    """Bytes of a call: two tensors read, one written."""

    def __init__(self, device: torch.device) -> None:
        self._a, self._b, self._out = (torch.ones(TRIAD, device=device) for _ in range(3))

    def __call__(self) -> None:
        torch.add(self._a, self._b, alpha=0.5, out=self._out)
