"""An encoder's weights under other libraries' names: Transformers, DINOv2's own code, timm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from raddino.encoders.card import pil_usage
from raddino.encoders.ours import VitEncoder, save_encoder
from raddino.errors import RaddinoError
from raddino.files import write_text
from raddino.vit import VisionTransformer, VitConfig
from raddino.vit.weights import (
    Backbone,
    Normalisation,
    from_official,
    load_backbone,
    normalisation_header,
    resize_positions,
    unfold_grey,
)

WEIGHTS = "model.safetensors"
TIMM_NAMES = {(384, 12): "small", (768, 12): "base", (1024, 24): "large", (1536, 40): "giant"}


def at_input_size(encoder: VitEncoder) -> VisionTransformer:
    """The network with its position embeddings at the encoder's own input size, where nobody interpolates."""
    state = {name: tensor.cpu() for name, tensor in encoder.model.state_dict().items()}
    resized = resize_positions(Backbone(encoder.model.config, state, None), encoder.size)
    rule = {
        "interpolate_offset": 0.0,
        "interpolate_antialias": resized.config.num_register_tokens > 0,
        "drop_path": 0.0,
    }
    shape = resized.config.model_copy(update=rule)
    return Backbone(shape, resized.state, None).build().eval().requires_grad_(False)


def _check_preparation(encoder: VitEncoder, library: str) -> None:
    """Refuse steps that ``library``'s config beside the weights cannot say."""
    steps = encoder.preparation
    plain = isinstance(steps.resize, int) and steps.crop == encoder.size and steps.interpolation == "bicubic"
    if not plain or steps.float_resize or steps.maximum != 1:
        raise RaddinoError(
            f"{encoder.name}: its images are not resized by the shorter side, bicubic, and cropped to whole patches, "
            f"which {library}'s config needs; export it as official, torch-export or onnx, whose card has the steps"
        )


def write_huggingface(encoder: VitEncoder, folder: Path, precision: str) -> dict[str, str]:
    """A Dinov2Model (or Dinov2WithRegistersModel) with its image processor, see :func:`save_encoder`."""
    _check_preparation(encoder, "transformers")
    save_encoder(
        folder, at_input_size(encoder), size=encoder.size, mean=encoder.mean, std=encoder.std, name=encoder.name,
        provenance=encoder.provenance, shorter_side=encoder.shorter_side,
    )  # fmt: skip
    kind = "Dinov2WithRegistersModel" if encoder.model.config.num_register_tokens else "Dinov2Model"
    return {"Class": f"transformers.{kind}"}


def run_huggingface(folder: Path, encoder: VitEncoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Class tokens and patches that Transformers computes, as for every format: see ``Format.run``."""
    from transformers import AutoModel
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    model = AutoModel.from_pretrained(folder).eval()
    if shown:
        logging.enable_progress_bar()
    tokens = model(_rgb(encoder, images)).last_hidden_state
    return tokens[:, 0], tokens[:, encoder.model.leading :]


def write_official(encoder: VitEncoder, folder: Path, precision: str) -> dict[str, str]:
    """Weights under the names of DINOv2's released checkpoints, three input channels; the header has mean and SD.

    Raises:
        RaddinoError: a shape that these names cannot tell, as heads that are not 64 wide.
    """
    model = at_input_size(encoder)
    state = _three_channels(model)
    shape, told = model.config, from_official(state).config
    for field in ("num_heads", "mlp_ratio"):
        if getattr(shape, field) != getattr(told, field):
            raise RaddinoError(
                f"{encoder.name} has {field} {getattr(shape, field)}, and official DINOv2 weights with these shapes "
                f"mean {getattr(told, field)}: export it as huggingface or timm, which write it down"
            )
    normalisation = Normalisation((encoder.mean,) * 3, (encoder.std,) * 3)
    save_file(state, folder / WEIGHTS, metadata=normalisation_header(normalisation))
    return {"Names": "dinov2.models.vision_transformer.DinoVisionTransformer, block_chunks=0"}


def run_official(folder: Path, encoder: VitEncoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features after :func:`load_backbone` has read the file back."""
    tokens = load_backbone(folder / WEIGHTS).build().eval()(_rgb(encoder, images))
    return tokens.cls, tokens.patches


def official_usage(shape: VitConfig) -> str:
    """Python that loads the weights into the code of github.com/facebookresearch/dinov2."""
    registers = f", num_register_tokens={shape.num_register_tokens}" if shape.num_register_tokens else ""
    return f"""from dinov2.models.vision_transformer import DinoVisionTransformer  # github.com/facebookresearch/dinov2
from safetensors.torch import load_file

model = DinoVisionTransformer(
    img_size={shape.image_size}, patch_size={shape.patch_size}, embed_dim={shape.embed_dim}, depth={shape.depth},
    num_heads={shape.num_heads}, mlp_ratio={shape.mlp_ratio:g}, init_values=1.0, block_chunks=0,
    ffn_layer="{"swiglufused" if shape.ffn == "swiglu" else "mlp"}"{registers},
)
model.load_state_dict(load_file("{WEIGHTS}"))
features = model.eval().forward_features(pixels)  # x_norm_clstoken, x_norm_patchtokens"""


def write_timm(encoder: VitEncoder, folder: Path, precision: str) -> dict[str, str]:
    """Weights under timm's own names, with a hub-style config.json that holds every argument of the model."""
    _check_preparation(encoder, "timm")
    model = at_input_size(encoder)
    architecture, arguments = timm_model(model.config)
    save_file(timm_state(model), folder / WEIGHTS, metadata={"format": "pt"})
    # timm resizes to floor(size / crop_pct); the half keeps the floor away from rounding
    exact = encoder.shorter_side == encoder.size
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": model.config.embed_dim,
        "global_pool": "token",
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, encoder.size, encoder.size],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 1.0 if exact else encoder.size / (encoder.shorter_side + 0.5),
            "crop_mode": "center",
            "mean": [encoder.mean] * 3,
            "std": [encoder.std] * 3,
            "num_classes": 0,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "license": encoder.provenance.licence or "not recorded",
        },
    }
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    return {
        "Model": f"`{architecture}` with the arguments in config.json",
        "timm's transform": "resizes with PIL, a grey level or so from the steps above; where the border is odd it may "
        "cut one pixel beside them",
    }


def run_timm(folder: Path, encoder: VitEncoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features that timm computes."""
    import timm

    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    tokens = model.forward_features(_rgb(encoder, images))
    return tokens[:, 0], tokens[:, model.num_prefix_tokens :]


def timm_usage(shape: VitConfig) -> str:
    """Python that loads the folder, and what it stands for."""
    architecture, arguments = timm_model(shape)
    words = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    code = f"""model = timm.create_model("local-dir:" + folder, pretrained=True).eval()  # folder: this one
# the same: timm.create_model("{architecture}", checkpoint_path="{WEIGHTS}", num_classes=0, {words})
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
tokens = model.forward_features(transform(image.convert("RGB"))[None])
cls, patches = tokens[:, 0], tokens[:, model.num_prefix_tokens:]"""
    return pil_usage("import timm\nfrom PIL import Image", code)


def timm_model(shape: VitConfig) -> tuple[str, dict[str, Any]]:
    """Name of timm's DINOv2 model that is nearest, and the arguments that make it this shape."""
    gated = shape.ffn == "swiglu"
    size = "giant" if gated else TIMM_NAMES.get((shape.embed_dim, shape.depth), "small")
    arguments: dict[str, Any] = {
        "img_size": shape.image_size,
        "patch_size": shape.patch_size,
        "embed_dim": shape.embed_dim,
        "depth": shape.depth,
        "num_heads": shape.num_heads,
        "mlp_ratio": _timm_ratio(shape),
    }
    if shape.num_register_tokens:
        arguments["reg_tokens"] = shape.num_register_tokens
    return f"vit_{size}_patch14_{'reg4_' if shape.num_register_tokens else ''}dinov2", arguments


def timm_state(model: VisionTransformer) -> dict[str, Tensor]:
    """Weights under timm's names; with registers, timm has no position for the class token, so it is added in."""
    state = _three_channels(model)
    del state["mask_token"]
    if "register_tokens" in state:
        state["reg_token"] = state.pop("register_tokens")
        positions = state["pos_embed"]
        state["cls_token"] = state["cls_token"] + positions[:, :1]
        state["pos_embed"] = positions[:, 1:].contiguous()
    return {name.replace(".w12.", ".fc1.").replace(".w3.", ".fc2."): tensor for name, tensor in state.items()}


def _timm_ratio(shape: VitConfig) -> float:
    """Ratio from which timm computes ``int(width * ratio)`` units in the first layer; gates count there too."""
    units = int(shape.embed_dim * shape.mlp_ratio)
    if shape.ffn == "swiglu":
        units = 2 * ((units * 2 // 3 + 7) // 8 * 8)
    ratio = units / shape.embed_dim
    return ratio if int(shape.embed_dim * ratio) == units else (units + 0.5) / shape.embed_dim


def _three_channels(model: VisionTransformer) -> dict[str, Tensor]:
    state = {name: tensor.detach().float().clone() for name, tensor in model.state_dict().items()}
    state["patch_embed.proj.weight"] = unfold_grey(state["patch_embed.proj.weight"]).contiguous()
    return state


def _rgb(encoder: VitEncoder, images: Tensor) -> Tensor:
    """Grey (B, 1, S, S) in [0, 1] to what three-channel networks take."""
    return ((images - encoder.mean) / encoder.std).expand(-1, 3, -1, -1).to(torch.float32)
