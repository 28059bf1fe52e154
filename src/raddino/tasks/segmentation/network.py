"""What is trained, behind one face: a head on an encoder's patches, an encoder with its head, or the U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raddino.device import resolve_device
from raddino.encoders.base import Encoder
from raddino.encoders.depths import AtDepths
from raddino.errors import RaddinoError
from raddino.features.forward import device_of, make_encode, resolve_precision
from raddino.progress import subject
from raddino.tasks.learning import module_of
from raddino.tasks.segmentation.frame import Squared, square
from raddino.tasks.segmentation.heads import build_head
from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.tasks.segmentation.unet import build_unet, named_weights, unet_preparation
from raddino.views.randomness import integer

FINER = 4
"""Side of square targets in units of the patch grid, where the settings do not say."""


def is_supervised(encoder: Encoder) -> bool:
    """Whether the encoder stands for the U-Net, which a task trains whole."""
    return bool(getattr(encoder, "supervised", False))


def framed(encoder: Encoder, options: SegmentationConfig) -> Squared:
    """The encoder as a segmentation task reads it: whole images in a square, features of the asked depths.

    Raises:
        RaddinoError: four depths of an encoder that has not as many blocks, see :class:`AtDepths`.
    """
    return Squared(encoder if options.depths == 1 else AtDepths(encoder, options.depths))


def public(options: SegmentationConfig) -> dict[str, Any]:
    """The settings, JSON-ready, without a place of this machine; see :func:`named_weights`."""
    return options.model_dump(mode="json") | {"unet_weights": named_weights(options.unet_weights)}


MOMENTUM = 0.1
"""Of the U-Net's batch norms; EfficientNet's own 0.01 follows its weights too slowly for some hundred steps."""


class PatchNetwork(nn.Module):
    """A head on patch features; its state is the head's, and the encoder's too where that is trained.

    Attributes:
        head: patch features (B, H, W, K * D) to logits (B, C, h, w).
        encoder: see :func:`framed`.
        trunk: the encoder's network, a copy of its own that is trained; None where the encoder is frozen.
        margin: for :func:`~raddino.tasks.segmentation.frame.unsquare`.
        side: pixels of the square targets.
        picture: pixels of the square images that augmentation works on.
    """

    def __init__(
        self, encoder: Encoder, options: SegmentationConfig, channels: int, *, seed: int, precision: str = "fp32"
    ) -> None:
        super().__init__()
        tuned = deepcopy(encoder) if options.finetune else encoder
        self.trunk = module_of(tuned) if options.finetune else None
        if options.finetune and self.trunk is None:
            raise RaddinoError(f"{subject(encoder.name)} cannot be fine-tuned: leave finetune out")
        self.encoder = framed(tuned, options)
        rows, columns = self.encoder.grid
        self.margin = self.encoder.margin
        self.side = options.side or FINER * max(rows, columns)
        self.picture = int(self.encoder.preprocess([np.zeros((8, 8), np.uint8)]).shape[-1])
        self.precision = resolve_precision(precision, encoder)
        self.device = device_of(encoder)
        width = self.encoder.dim // options.depths
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer(seed, "weights"))
            self.head = build_head(options.head, width, channels, options.depths)
        self.head.to(self.device)
        if self.trunk is not None:
            self.trunk.requires_grad_(True)
        self._encode: Any = None

    def prepare(self, images: Sequence[np.ndarray]) -> Tensor:
        """Grey images (H, W), sizes may differ, to a batch (B, C, S, S)."""
        return self.encoder.preprocess(images)

    def forward(self, batch: Tensor) -> Tensor:
        """Logits (B, C, h, w) of a prepared batch."""
        if self.trunk is not None:
            kind, low = self.device.type, self.precision == "bf16"
            with torch.autocast(kind, torch.bfloat16, enabled=low):
                patches = self.encoder.read(batch)[1]
            return self.head(patches.float())
        if self._encode is None:
            self._encode = make_encode(self.encoder, self.precision, compile=False)
        patches = self._encode(batch).patches
        return self.head(patches.to(self.device, torch.float32, copy=True))  # a copy can be saved for backward

    def train(self, mode: bool = True) -> PatchNetwork:
        """Train the head; the encoder stays in evaluation, without dropout, also where it is fine-tuned."""
        super().train(mode)
        if self.trunk is not None:
            self.trunk.eval()
        return self


class UnetNetwork(nn.Module):
    """The supervised reference on square grey images; attributes as of :class:`PatchNetwork`."""

    margin = (0.0, 0.0)

    def __init__(self, options: SegmentationConfig, channels: int, *, seed: int, device: str = "auto") -> None:
        super().__init__()
        self.side = self.picture = options.unet_side
        self.preparation = unet_preparation(options.unet_side)
        self.device = resolve_device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer(seed, "weights"))
            self.unet = build_unet(channels, options.unet_encoder, options.unet_weights)
        for module in self.unet.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM
        self.unet.to(self.device)

    def prepare(self, images: Sequence[np.ndarray]) -> Tensor:
        """Grey images (H, W), sizes may differ, to a batch (B, 1, S, S)."""
        return self.preparation("unet", [square(image) for image in images])

    def forward(self, batch: Tensor) -> Tensor:
        """Logits (B, C, S, S) of a prepared batch."""
        return self.unet(batch)


Network = PatchNetwork | UnetNetwork


def build_network(
    encoder: Encoder, options: SegmentationConfig, *, seed: int = 0, precision: str = "fp32", device: str = "auto"
) -> Network:
    """The network of a task, with weights that follow from the seed.

    Args:
        encoder: its own device is where a head on it is trained.
        options: of the task.
        seed: of the random weights.
        precision: of the encoder, see :func:`~raddino.features.extract.embed`.
        device: of the U-Net.

    Raises:
        RaddinoError: the encoder does not fit the options.
    """
    channels = len(options.classes) + options.exclusive
    if is_supervised(encoder):
        return UnetNetwork(options, channels, seed=seed, device=device)
    return PatchNetwork(encoder, options, channels, seed=seed, precision=precision)
