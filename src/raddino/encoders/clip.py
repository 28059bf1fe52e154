"""CLIP ViT-L/14 (Radford et al. 2021, arXiv 2103.00020), trained on image-text pairs from the web."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from raddino.encoders.base import Provenance
from raddino.encoders.huggingface import (
    NEEDED,
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

KINDS = ("clip", "clip_vision_model")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PUBLISHED = Preparation(224, 224, MEAN, STD, crop_start="down")
KNOWN = Provenance(
    sources=["wit-400m"],
    supervision="text",
    licence="MIT",
    synthetic=False,
    reference="Radford et al., ICML 2021, arXiv 2103.00020, section 2.2",
    note="400 million image-text pairs from the web that were not disclosed",
)


class ClipVision(HubEncoder):
    """The vision tower: normalised class token, and patch tokens of the last layer as they leave it."""

    @property
    def _vision(self) -> Any:
        return self.model

    def _read(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        found = self._vision(pixel_values=batch)
        return found.pooler_output, found.last_hidden_state[:, 1:]


class Clip(TwoTower, ClipVision):
    """Both towers; embeddings are taken before the projection, :meth:`project` adds it."""

    @property
    def _vision(self) -> Any:
        return self.model.vision_model

    def _project(self, cls: Tensor) -> Tensor:
        return self.model.visual_projection(cls)

    def _tokenize(self, prompts: list[str]) -> dict[str, Tensor]:
        length = self.model.config.text_config.max_position_embeddings
        return dict(self.tokenizer(prompts, padding=True, truncation=True, max_length=length, return_tensors="pt"))

    def _text(self, tokens: dict[str, Tensor]) -> Tensor:
        return self.model.text_projection(self.model.text_model(**tokens).pooler_output)


def load(weights: Weights, *, name: str, known: Provenance, device: str) -> ClipVision:
    """From a folder with model_type ``clip``, or ``clip_vision_model`` (no text then).

    Raises:
        RaddinoError: the folder is of another kind, or not whole.
    """
    from transformers import CLIPModel, CLIPVisionModel

    both = read_config(name, weights, KINDS)["model_type"] == "clip"
    model = load_model(name, CLIPModel if both else CLIPVisionModel, weights)
    vision = model.config.vision_config if both else model.config
    side = vision.image_size
    preparation = read_preparation(name, weights, replace(PUBLISHED, resize=side, crop=side))
    face: dict[str, Any] = {
        "name": name,
        "dim": vision.hidden_size,
        "grid": patch_grid(preparation, vision.patch_size),
        "provenance": weights.record(known, *weight_files(weights)),
        "device": device,
    }
    return Clip(model, preparation, folder=weights.path, **face) if both else ClipVision(model, preparation, **face)


register(
    "clip-vit-l-14", "openai/clip-vit-large-patch14", load, "CLIP ViT-L/14, web images and their text", KNOWN,
    dim=1024, side=224,
)  # fmt: skip
register(
    "clip-vit-l-14-336", "openai/clip-vit-large-patch14-336", load, "CLIP ViT-L/14 at 336 px", KNOWN,
    dim=1024, side=336, needed=(*NEEDED, "pytorch_model.bin"),
)  # fmt: skip
