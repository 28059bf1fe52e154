"""MRM, masked record modelling (Zhou et al., ICLR 2023): a ViT-B/16 that restores masked pixels and report words."""

from __future__ import annotations

from torch import Tensor

from raddino.encoders.base import ENCODERS, Encoder, Family, Provenance
from raddino.encoders.network import NetworkEncoder, fill, grid_of, optional, read_state
from raddino.encoders.preparation import Preparation
from raddino.encoders.weights import find_weights

NAME = "mrm"
GRID = (14, 14)
PREPARATION = Preparation(
    resize=224, crop=224, mean=(0.4978,) * 3, std=(0.2449,) * 3, interpolation="bilinear", backend="pil"
)
KNOWN = Provenance(
    sources=["mimic-cxr", "imagenet-1k"],
    supervision="text",
    licence="MIT",
    synthetic=False,
    reference="Zhou et al., ICLR 2023, arXiv 2301.13155",
    note="started from MAE on ImageNet",
)
DECODERS = ("decoder_", "mask_token", "bert_", "head.")
"""Parts of the checkpoint that only pre-training used."""


def load(place: str | None, device: str) -> Encoder:
    """Read ``MRM.pth`` (``{"model": ...}``, names of timm's VisionTransformer).

    The embedding is the mean of the normalised patch tokens, which is what the report decoder read.

    Raises:
        RaddinoError: no weights there, or not MRM's.
    """
    timm = optional(NAME, "timm")
    weights = find_weights(NAME, place)
    file = weights.file("MRM.pth", "model.safetensors")
    state = {name: tensor for name, tensor in read_state(NAME, file).items() if not name.startswith(DECODERS)}
    network = timm.create_model(
        "vit_base_patch16_224", num_classes=0, global_pool="avg", fc_norm=False, weight_init="skip"
    )
    fill(NAME, network, state)

    def forward(batch: Tensor) -> tuple[Tensor, Tensor]:
        patches = network.forward_features(batch)[:, 1:]
        return patches.mean(1), grid_of(patches, GRID)

    return NetworkEncoder(
        NAME, network, forward, PREPARATION,
        dim=network.num_features, grid=GRID, provenance=weights.record(KNOWN, file), device=device,
    )  # fmt: skip


ENCODERS.register(NAME)(
    Family(
        load,
        "MRM: ViT-B/16, masked images and reports of MIMIC-CXR",
        KNOWN,
        home="https://github.com/RL4M/MRM-pytorch",
        extra="baselines",
        dim=768,
        side=224,
    )
)
