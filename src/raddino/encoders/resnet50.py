"""ResNet-50 trained on ImageNet labels (torchvision's second recipe): the reference that has seen no radiograph."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from raddino.encoders.base import ENCODERS, Encoder, Family, Provenance
from raddino.encoders.network import NetworkEncoder, fill, read_state
from raddino.encoders.preparation import Preparation
from raddino.encoders.weights import find_weights

NAME = "resnet50"
URL = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
KNOWN = Provenance(
    sources=["imagenet-1k"],
    supervision="labels",
    licence="BSD-3-Clause",
    synthetic=False,
    reference="torchvision's documentation of ResNet50_Weights.IMAGENET1K_V2",
)
PREPARATION = Preparation(
    resize=232, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    interpolation="bilinear", backend="pil",
)  # fmt: skip


def load(place: str | None, device: str) -> Encoder:
    """Read ``resnet50-11ad3fa6.pth`` (IMAGENET1K_V2), from torch's cache where it is there.

    The embedding is the average of the last 7 x 7 map.

    Raises:
        RaddinoError: no weights there, or not a ResNet-50's.
    """
    from torchvision.models import resnet50

    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL).name
    weights = find_weights(NAME, str(cached) if place is None and cached.is_file() else place, url=URL)
    file = weights.file(Path(URL).name, "model.safetensors")
    state = read_state(NAME, file)
    network = resnet50()
    fill(NAME, network, state)
    trunk = nn.Sequential(*list(network.children())[:-2])

    def forward(batch: Tensor) -> tuple[Tensor, Tensor]:
        patches = trunk(batch).permute(0, 2, 3, 1)
        return patches.mean((1, 2)), patches

    return NetworkEncoder(
        NAME, trunk, forward, PREPARATION,
        dim=2048, grid=(7, 7), provenance=weights.record(KNOWN, file), device=device,
    )  # fmt: skip


ENCODERS.register(NAME)(
    Family(
        load,
        "ResNet-50 trained on ImageNet labels",
        KNOWN,
        home=URL,
        dim=2048,
        side=224,
    )
)
