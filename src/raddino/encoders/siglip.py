"""SigLIP (Zhai et al. 2023, arXiv 2303.15343) and its medical descendants MedSigLIP and XraySigLIP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from raddino.encoders.base import Provenance
from raddino.encoders.huggingface import (
    HubEncoder,
    TwoTower,
    load_model,
    patch_grid,
    read_config,
    read_preparation,
    register,
    weight_files,
)
from raddino.encoders.preparation import Preparation
from raddino.encoders.weights import Weights
from raddino.errors import RaddinoError

KINDS = ("siglip", "siglip_vision_model")
PUBLISHED = Preparation((224, 224), None, (0.5,) * 3, (0.5,) * 3, crop_start="down")
WEB = Provenance(
    sources=["webli"],
    supervision="text",
    licence="Apache-2.0",
    synthetic=False,
    reference="model cards of google/siglip-*; Zhai et al., ICCV 2023, arXiv 2303.15343",
    note="image-text pairs from the web that were not disclosed",
)
MEDICAL = Provenance(
    sources=None,
    supervision="text",
    licence="Health AI Developer Foundations terms of use",
    gated=True,
    synthetic=False,
    note="public and private medical images with text, chest X-rays among them",
)
XRAY = Provenance(
    sources=None,
    supervision="text",
    licence="CC-BY-NC-4.0",
    synthetic=False,
    note="chest X-rays with reports, for CheXagent (arXiv 2401.12208); its card names no data sets",
)


class SiglipVision(HubEncoder):
    """The vision tower: the attention-pooled embedding, and patch tokens after the final norm."""

    @property
    def _vision(self) -> Any:
        return self.model

    def _read(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        found = self._vision(pixel_values=batch)
        return found.pooler_output, found.last_hidden_state


class Siglip(TwoTower, SiglipVision):
    """Both towers; the embedding itself lies in the shared space."""

    @property
    def _vision(self) -> Any:
        return self.model.vision_model

    def _project(self, cls: Tensor) -> Tensor:
        return cls

    def _tokenize(self, prompts: list[str]) -> dict[str, Tensor]:
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return {"input_ids": tokens["input_ids"]}  # trained on padded text without a mask

    def _text(self, tokens: dict[str, Tensor]) -> Tensor:
        return self.model.text_model(**tokens).pooler_output


def load(weights: Weights, *, name: str, known: Provenance, device: str) -> SiglipVision:
    """From a folder with model_type ``siglip``, or ``siglip_vision_model`` (no text then).

    Raises:
        RaddinoError: the folder is of another kind or not whole, or its vision tower has no pooling head.
    """
    from transformers import SiglipModel, SiglipVisionModel

    both = read_config(name, weights, KINDS)["model_type"] == "siglip"
    model = load_model(name, SiglipModel if both else SiglipVisionModel, weights)
    vision = model.config.vision_config if both else model.config
    if not getattr(vision, "vision_use_head", True):
        raise RaddinoError(f"{name}: its vision tower has no pooling head, so there is no image embedding to read")
    side = vision.image_size
    preparation = read_preparation(name, weights, replace(PUBLISHED, resize=(side, side)))
    face: dict[str, Any] = {
        "name": name,
        "dim": vision.hidden_size,
        "grid": patch_grid(preparation, vision.patch_size),
        "provenance": weights.record(known, *weight_files(weights)),
        "device": device,
    }
    return Siglip(model, preparation, folder=weights.path, **face) if both else SiglipVision(model, preparation, **face)


register(
    "siglip-base", "google/siglip-base-patch16-224", load, "SigLIP ViT-B/16, web images and their text", WEB,
    dim=768, side=224, extra="baselines",
)  # fmt: skip
register(
    "siglip-so400m", "google/siglip-so400m-patch14-384", load, "SigLIP So400m/14, web images and their text", WEB,
    dim=1152, side=384, extra="baselines",
)  # fmt: skip
register(
    "medsiglip", "google/medsiglip-448", load, "MedSigLIP So400m/14, medical images and text", MEDICAL,
    dim=1152, side=448, extra="baselines",
)  # fmt: skip
register(
    "xraysiglip", "StanfordAIMI/XraySigLIP__vit-l-16-siglip-384__webli", load,
    "XraySigLIP ViT-L/16, chest X-rays and reports", XRAY, dim=1024, side=384, extra="baselines",
)  # fmt: skip
