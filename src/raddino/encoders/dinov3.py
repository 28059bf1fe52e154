"""DINOv3 vision transformers (Simeoni et al. 2025, arXiv 2508.10104), self-supervised on natural images."""

from __future__ import annotations

from torch import Tensor

from raddino.encoders.base import Provenance
from raddino.encoders.huggingface import (
    IMAGENET,
    HubEncoder,
    load_model,
    patch_grid,
    read_config,
    read_preparation,
    register,
    weight_files,
)
from raddino.encoders.preparation import Preparation
from raddino.encoders.weights import Weights

KINDS = ("dinov3_vit",)
PUBLISHED = Preparation((224, 224), None, *IMAGENET, interpolation="bilinear", crop_start="down", float_resize=True)
KNOWN = Provenance(
    sources=["lvd-1689m"],
    supervision="self-supervised",
    licence="DINOv3 License",
    gated=True,
    synthetic=False,
    reference="Siméoni et al., arXiv 2508.10104",
    note="natural images from the web",
)
SIZES = {"small": ("vits16", 384), "base": ("vitb16", 768), "large": ("vitl16", 1024)}


class Dinov3(HubEncoder):
    """Class token and patch tokens after the final norm; register tokens are left out."""

    def _read(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.model(pixel_values=batch).last_hidden_state
        return tokens[:, 0], tokens[:, 1 + self.model.config.num_register_tokens :]


def load(weights: Weights, *, name: str, known: Provenance, device: str) -> Dinov3:
    """From a folder with model_type ``dinov3_vit``.

    Raises:
        RaddinoError: the folder is of another kind, or not whole.
    """
    from transformers import DINOv3ViTModel

    read_config(name, weights, KINDS)
    model = load_model(name, DINOv3ViTModel, weights)
    preparation = read_preparation(name, weights, PUBLISHED)
    return Dinov3(
        model,
        preparation,
        name=name,
        dim=model.config.hidden_size,
        grid=patch_grid(preparation, model.config.patch_size),
        provenance=weights.record(known, *weight_files(weights)),
        device=device,
    )


for _size, (_code, _dim) in SIZES.items():
    register(
        f"dinov3-{_size}",
        f"facebook/dinov3-{_code}-pretrain-lvd1689m",
        load,
        f"DINOv3 ViT-{_size[0].upper()}/16, natural images",
        KNOWN,
        dim=_dim,
        side=224,
    )
