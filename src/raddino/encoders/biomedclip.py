"""BiomedCLIP (Zhang et al., NEJM AI 2025): a ViT-B/16 and a PubMedBERT, contrasted on figures of PubMed Central."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from raddino.encoders.base import ENCODERS, Family, Provenance
from raddino.encoders.network import NetworkEncoder, check_prompts, fill, grid_of, optional, read_state
from raddino.encoders.preparation import Preparation
from raddino.encoders.weights import find_weights
from raddino.errors import RaddinoError
from raddino.files import read_json

NAME = "biomedclip"
HUB = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
FILES = ("open_clip_pytorch_model.bin", "open_clip_model.safetensors", "model.safetensors")
PATTERNS = (*FILES, "open_clip_config.json", "tokenizer*", "vocab.txt", "special_tokens_map.json")
BERT_HEAD_DIM = 64
LARGEST = 4096
"""Pixels, width of the shared space, and tokens."""
KNOWN = Provenance(
    sources=["pmc-15m"],
    supervision="text",
    licence="MIT",
    synthetic=False,
    reference="Zhang et al., arXiv 2303.00915",
    note="figures of articles may show images of public data sets",
)


@dataclass(frozen=True)
class Shape:
    """What ``open_clip_config.json`` says; the defaults are the published model."""

    vision: str = "vit_base_patch16_224"
    image_size: int = 224
    embed_dim: int = 512
    context_length: int = 256
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    @classmethod
    def read(cls, file: Path) -> Shape:
        """The shape in a config file; the published one where there is no file.

        Raises:
            RaddinoError: damaged, or a model that is not built like BiomedCLIP.
        """
        if not file.is_file():
            return cls()
        try:
            content = read_json(file, "fetch the weights again")
            model, preparation = content["model_cfg"], content["preprocess_cfg"]
            vision, text = model["vision_cfg"], model["text_cfg"]
            if vision["timm_proj"] != "linear" or vision["timm_pool"] not in ("", "token"):
                raise RaddinoError(f"{NAME}: {file.name} describes another kind of open_clip model")
            mean, std = (tuple(float(part) for part in preparation[key]) for key in ("mean", "std"))
            sides = vision["image_size"], model["embed_dim"], text["context_length"]
            if not isinstance(vision["timm_model_name"], str) or not all(
                type(side) is int and 1 <= side <= LARGEST for side in sides
            ):
                raise ValueError
            return cls(vision["timm_model_name"], *sides, mean, std)
        except (KeyError, TypeError, ValueError) as error:
            raise RaddinoError(
                f"{NAME}: {file.name} is not an open_clip config like BiomedCLIP's ({type(error).__name__})"
            ) from None


class _TextTower(nn.Module):
    """A BERT whose class token is projected by two linear layers; sizes are read off the weights."""

    def __init__(self, state: dict[str, Tensor], embed_dim: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        try:
            vocabulary, width = state["transformer.embeddings.word_embeddings.weight"].shape
            config = BertConfig(
                vocab_size=vocabulary,
                hidden_size=width,
                num_hidden_layers=len([name for name in state if name.endswith("attention.self.query.weight")]),
                num_attention_heads=max(1, width // BERT_HEAD_DIM),
                intermediate_size=state["transformer.encoder.layer.0.intermediate.dense.weight"].shape[0],
                max_position_embeddings=state["transformer.embeddings.position_embeddings.weight"].shape[0],
            )
        except (KeyError, ValueError):
            raise RaddinoError(f"{NAME}: these are the weights of another network: no BERT text tower") from None
        middle = (width + embed_dim) // 2
        self.transformer = BertModel(config, add_pooling_layer=False)
        self.proj = nn.Sequential(
            nn.Linear(width, middle, bias=False), nn.GELU(), nn.Linear(middle, embed_dim, bias=False)
        )

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, L) tokens to (N, P)."""
        return self.proj(self.transformer(input_ids=tokens, attention_mask=mask).last_hidden_state[:, 0])


class BiomedClip(NetworkEncoder):
    """Image tower as any other encoder's; text tower and projection for zero-shot classification."""

    logit_scale: float
    folder: Path
    context_length: int
    network: Any

    @torch.inference_mode()
    def project(self, cls: Tensor) -> Tensor:
        """Class tokens (N, D) to unit vectors (N, P)."""
        return normalize(self.network["projection"](cls.to(self.device, torch.float32)), dim=-1).cpu()

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors (N, P) of N prompts; longer ones than the context are cut.

        Raises:
            RaddinoError: no prompt, or the tokenizer's files are not beside the weights.
        """
        spaced = [" ".join(prompt.split()) for prompt in check_prompts(NAME, prompts)]
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError):
            raise RaddinoError(f"{NAME}: text needs vocab.txt and tokenizer_config.json beside the weights") from None
        tokens = tokenizer(
            spaced, return_tensors="pt", padding="max_length", truncation=True, max_length=self.context_length
        ).to(self.device)
        mask = (tokens.input_ids != self.network["text"].transformer.config.pad_token_id).long()
        return normalize(self.network["text"](tokens.input_ids, mask), dim=-1).cpu()


def load(place: str | None, device: str) -> BiomedClip:
    """Read open_clip's checkpoint (``visual.trunk.*``, ``visual.head.proj.weight``, ``text.*``, ``logit_scale``).

    Embedding and patches are the vision tower's tokens after its norm, before the projection.

    Raises:
        RaddinoError: no weights there, or not BiomedCLIP's.
    """
    timm = optional(NAME, "timm")
    weights = find_weights(NAME, place, HUB, PATTERNS)
    file = weights.file(*FILES)
    shape = Shape.read(file.parent / "open_clip_config.json")
    state = read_state(NAME, file)
    state = {name: tensor for name, tensor in state.items() if not name.endswith("position_ids")}
    text = {name.removeprefix("text."): tensor for name, tensor in state.items() if name.startswith("text.")}
    if not timm.is_model(shape.vision) or not shape.vision.startswith("vit_"):
        raise RaddinoError(
            f"{NAME}: open_clip_config.json names {shape.vision!r}, which is no vision transformer of timm"
        )
    trunk: Any = timm.create_model(shape.vision, num_classes=0, img_size=shape.image_size, weight_init="skip")
    tower = _TextTower(text, shape.embed_dim)
    projection = nn.Linear(trunk.num_features, shape.embed_dim, bias=False)
    network = nn.ModuleDict({"trunk": trunk, "projection": projection, "text": tower})
    scale = state.pop("logit_scale", None)
    if scale is None:
        raise RaddinoError(f"{NAME}: these are the weights of another network: logit_scale is missing")
    names = {"visual.trunk.": "trunk.", "visual.head.proj.": "projection."}
    fill(NAME, network, {_renamed(name, names): tensor for name, tensor in state.items()})
    grid = trunk.patch_embed.grid_size

    def forward(batch: Tensor) -> tuple[Tensor, Tensor]:
        tokens = trunk.forward_features(batch)
        return tokens[:, 0], grid_of(tokens[:, trunk.num_prefix_tokens :], grid)

    preparation = Preparation(shape.image_size, shape.image_size, shape.mean, shape.std, backend="pil")
    encoder = BiomedClip(
        NAME, network, forward, preparation,
        dim=trunk.num_features, grid=grid, provenance=weights.record(KNOWN, file), device=device,
    )  # fmt: skip
    encoder.logit_scale, encoder.folder = float(scale.exp()), file.parent
    encoder.context_length = shape.context_length
    return encoder


def _renamed(name: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


ENCODERS.register(NAME)(
    Family(
        load,
        "BiomedCLIP: ViT-B/16 with captions of 15 million PubMed Central figures; has text",
        KNOWN,
        home=f"https://huggingface.co/{HUB}",
        extra="baselines",
        dim=768,
        side=224,
    )
)
