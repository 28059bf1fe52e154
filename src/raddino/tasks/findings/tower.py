"""An encoder as LLaVA sees it: which tokens it reads, and the vision tower that a saved model carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from raddino.encoders.base import Encoder, Features
from raddino.encoders.huggingface import quiet, refuse_lost
from raddino.encoders.ours import VitEncoder
from raddino.errors import RaddinoError
from raddino.progress import subject
from raddino.vit.weights import to_huggingface

if TYPE_CHECKING:
    import numpy as np


class BeforeNorm:
    """A DINOv2-shaped encoder whose patches are the last block's output, before the final norm.

    That is ``hidden_states[-1]`` of Transformers' ``Dinov2Model``, which LLaVA reads with ``vision_feature_layer=-1``.

    Args:
        encoder: its fingerprint with ``+before-norm`` is this one's.
    """

    def __init__(self, encoder: VitEncoder) -> None:
        self.encoder = encoder
        self.name, self.dim, self.grid, self.device = encoder.name, encoder.dim, encoder.grid, encoder.device
        self.provenance = encoder.provenance

    @property
    def fingerprint(self) -> str:
        """Of weights, preprocessing and layer."""
        return f"{self.encoder.fingerprint}+before-norm"

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """As the encoder's own."""
        return self.encoder.preprocess(images)

    @torch.inference_mode()
    def encode(self, batch: Tensor) -> Features:
        """Class token (B, D) after the final norm, patches (B, H, W, D) before it."""
        self.encoder.preparation.check(self.name, batch)
        model = self.encoder.model
        tokens, shapes, grids = model.token_list([batch.to(self.device)], [None])
        sequence = tokens.view(*shapes[0], -1)
        cls = model.norm(sequence[:, 0])
        return Features(cls.float().cpu(), sequence[:, model.leading :].unflatten(1, grids[0]).float().cpu())


def reader(encoder: Encoder, final_norm: bool) -> Encoder:
    """The encoder whose patches become image tokens.

    Args:
        encoder: DINOv2-shaped ones are read before their final norm, as LLaVA reads a tower; others as they are.
        final_norm: read every encoder as it is.

    Raises:
        RaddinoError: it has no patches.
    """
    if encoder.grid is None:
        raise RaddinoError(f"encoder {subject(encoder.name)!r} has no patch features, which findings generation reads")
    return BeforeNorm(encoder) if isinstance(encoder, VitEncoder) and not final_norm else encoder


def has_tower(encoder: Encoder) -> bool:
    """Whether the encoder is a network of Transformers' that a saved model can carry: DINOv2-shaped ones are."""
    return isinstance(encoder, VitEncoder)


def vision_tower(encoder: Encoder) -> Any:
    """The equal ``Dinov2Model`` (or ``Dinov2WithRegistersModel``) on three equal channels, float32, on the CPU.

    Raises:
        RaddinoError: the encoder is not DINOv2-shaped.
    """
    from transformers import AutoConfig, Dinov2Model, Dinov2WithRegistersModel

    if not isinstance(encoder, VitEncoder):
        raise RaddinoError(f"encoder {subject(encoder.name)!r} is not DINOv2-shaped: its model cannot carry it")
    values, state = to_huggingface(encoder.model)
    config = AutoConfig.for_model(**values)
    factory: Any = Dinov2WithRegistersModel if encoder.model.config.num_register_tokens else Dinov2Model
    with quiet():
        tower, report = factory.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    tower.config.name_or_path = ""
    refuse_lost(encoder.name, sorted(report["missing_keys"]))
    return tower.eval().requires_grad_(False)


def image_processor(encoder: VitEncoder) -> Any:
    """Transformers' image processor that prepares images as the encoder does."""
    from transformers import BitImageProcessor

    steps = encoder.preparation
    resize = steps.resize
    height, width = steps.size
    return BitImageProcessor(
        do_convert_rgb=True,
        do_resize=True,
        size={"shortest_edge": resize} if isinstance(resize, int) else {"height": resize[0], "width": resize[1]},
        resample={"bilinear": 2, "bicubic": 3}[steps.interpolation],
        do_center_crop=steps.crop is not None,
        crop_size={"height": height, "width": width},
        do_rescale=True,
        rescale_factor=steps.maximum / 255,
        do_normalize=True,
        image_mean=list(steps.mean) * 3,
        image_std=list(steps.std) * 3,
    )
