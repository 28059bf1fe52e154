"""BioViL-T (Bannur et al., CVPR 2023): a ResNet-50 trained with MIMIC-CXR reports and prior images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raddino.encoders.base import ENCODERS, Encoder, Family, Provenance
from raddino.encoders.network import NetworkEncoder, fill, read_state
from raddino.encoders.preparation import Preparation
from raddino.encoders.weights import find_weights

NAME = "biovil-t"
HUB = "microsoft/BiomedVLP-BioViL-T"
FILE = "biovil_t_image_model_proj_size_128.pt"
KNOWN = Provenance(
    sources=["mimic-cxr"],
    supervision="text",
    licence="MIT",
    synthetic=False,
    reference="Bannur et al., CVPR 2023, arXiv 2301.04558; model card of microsoft/BiomedVLP-BioViL-T",
)
GRID = (14, 14)
UNUSED = ("encoder.vit_pooler.", "projector.")
"""The pooler compares with a prior image; the projector maps patch by patch into the space of the text model."""


class _Preparation(Preparation):
    """Values are first stretched to the full 8 bits of each image, as hi-ml-multimodal does."""

    def _one(self, name: str, image: np.ndarray) -> Tensor:
        if image.dtype in (np.uint8, np.uint16) and image.ndim == 2:
            values = image.astype(float) - float(image.min())
            image = (values / max(values.max(), 1) * 255).astype(np.uint8)
        return super()._one(name, image)


PREPARATION = _Preparation(
    resize=512, crop=448, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear", backend="pil"
)


class BioViLT(nn.Module):
    """The part of the image model that a single image passes, under published names (Bannur et al., sec. 3.1)."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet50

        self.encoder: Any = nn.Module()
        self.encoder.encoder = resnet50()
        self.encoder.backbone_to_vit = nn.Conv2d(2048, 256, 1, bias=False)
        self.encoder.missing_previous_emb = nn.Parameter(torch.zeros(1, 256, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) to (B, h / 32, w / 32, 512): the static half, then the learned stand-in for "no prior image"."""
        resnet = self.encoder.encoder
        layers = (
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool,
            resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4, self.encoder.backbone_to_vit,
        )  # fmt: skip
        for layer in layers:
            images = layer(images)
        return torch.cat([images, self.encoder.missing_previous_emb.expand_as(images)], 1).permute(0, 2, 3, 1)


def load(place: str | None, device: str) -> Encoder:
    """Read the published image model.

    Without a prior image the second half of all 512 numbers is one learned vector, the same for every image. There
    is no text side: the projection into the space of the reports is not a function of the pooled embedding.

    Raises:
        RaddinoError: no weights there, or not BioViL-T's.
    """
    weights = find_weights(NAME, place, HUB, (FILE,))
    file = weights.file(FILE, "model.safetensors")
    state = {name: tensor for name, tensor in read_state(NAME, file).items() if not name.startswith(UNUSED)}
    network = BioViLT()
    fill(NAME, network, state)

    def forward(batch: Tensor) -> tuple[Tensor, Tensor]:
        patches = network(batch)
        return patches.mean((1, 2)), patches

    return NetworkEncoder(
        NAME, network, forward, PREPARATION,
        dim=512, grid=GRID, provenance=weights.record(KNOWN, file), device=device,
    )  # fmt: skip


ENCODERS.register(NAME)(
    Family(
        load,
        "BioViL-T: ResNet-50 with the reports and prior images of MIMIC-CXR",
        KNOWN,
        home=f"https://huggingface.co/{HUB}",
        dim=512,
        side=448,
    )
)
