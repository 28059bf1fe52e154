"""Weights in and out: official DINOv2 names, Hugging Face Dinov2 (with and without registers), grey folding."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from raddino.errors import RaddinoError
from raddino.files import read_json
from raddino.vit.block import NORM_EPS
from raddino.vit.embedding import position_embedding
from raddino.vit.model import VisionTransformer, VitConfig
from raddino.vit.pickles import check_pickles

State = dict[str, Tensor]
OFFICIAL_HEAD_DIM = 64
PREPROCESSOR = "preprocessor_config.json"
HEADER = "preprocessor"

_TO_HUGGINGFACE = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "register_tokens": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
    "norm.": "layernorm.",
}
_BLOCK_TO_HUGGINGFACE = {
    "attn.proj.": "attention.output.dense.",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
    "mlp.w12.": "mlp.weights_in.",
    "mlp.w3.": "mlp.weights_out.",
}


_MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What names and shapes that are not DINOv2's lead to."""
_COMPUTED = {"hidden_act": "gelu", "layer_norm_eps": NORM_EPS, "qkv_bias": True}
"""Values of a Hugging Face config that have no place in :class:`VitConfig`; they are what Transformers assumes."""
_ANCHOR = "patch_embed.proj.weight"
_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
"""Parts of names that ``torch.compile``, FSDP and activation checkpointing put in."""
_HEADS = ("dino_head.", "ibot_head.")
_DEEPEST_STATE = 4
"""Dictionaries within dictionaries of a training state."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and SD per channel that network input in [0, 1] is normalised with."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What DINOv2's released weights take, which say nothing themselves."""


@dataclass(frozen=True)
class Backbone:
    """A network's shape, its weights under official names, and the normalisation its input needs if known."""

    config: VitConfig
    state: State
    normalisation: Normalisation | None

    def check(self) -> None:
        """Compare the shape with the weights, in no memory worth the name however large the shape is.

        Raises:
            RaddinoError: the weights do not fit the shape.
        """
        found = len({match[1] for name in self.state if (match := re.match(r"blocks\.(\d+)\.", name))})
        if self.config.depth != found:
            raise RaddinoError(f"weights do not fit the network: it has {self.config.depth} blocks, they {found}")
        try:
            with torch.device("meta"):
                VisionTransformer(self.config).load_state_dict(self.state, assign=True)
        except (RuntimeError, OverflowError, TypeError) as error:
            raise RaddinoError(f"weights do not fit the network: {' '.join(str(error).split())[:300]}") from None

    def build(self) -> VisionTransformer:
        """The network with these weights.

        Raises:
            RaddinoError: the weights do not fit the shape.
        """
        self.check()
        model = VisionTransformer(self.config)
        model.load_state_dict(self.state)
        return model


def load_backbone(path: Path) -> Backbone:
    """Read a backbone from a Hugging Face folder or an official DINOv2 file (.pth, .pt or .safetensors).

    Files other than safetensors are read with ``weights_only=True``; nothing in them is executed. A three-channel
    file that does not say its normalisation (:func:`told_normalisation`) has ImageNet's, as DINOv2's own have.

    Raises:
        RaddinoError: nothing readable there, not the weights of a DINOv2 vision transformer, or numbers among them
            that are not finite.
    """
    path = Path(path)
    if path.is_dir():
        backbone = _from_huggingface_folder(path)
    else:
        content = read_weights(path)
        try:
            found = from_official(content)
        except _MISFITS as error:
            raise RaddinoError(f"{path.name} does not hold DINOv2 weights ({type(error).__name__})") from None
        assumed = IMAGENET if found.config.in_channels == 3 else None
        backbone = Backbone(found.config, found.state, told_normalisation(path) or assumed)
    backbone.check()
    check_finite(path.name, backbone.state.items())
    return backbone


def told_normalisation(file: Path) -> Normalisation | None:
    """What a weights file says about its input: in its header, as our exports do, or in a processor's file beside it.

    Raises:
        RaddinoError: what it says is damaged.
    """
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as held:
            header = held.metadata() or {}
        if HEADER in header:
            return _normalisation(file, _parsed(file, header[HEADER]))
    beside = file.parent / PREPROCESSOR
    return _normalisation(beside, read_json(beside, "save the image processor again")) if beside.is_file() else None


def normalisation_header(normalisation: Normalisation) -> dict[str, str]:
    """The entry of a safetensors header from which :func:`told_normalisation` reads it back.

    It is one, for safetensors writes several in any order, and equal weights are to be equal files.
    """
    return {HEADER: json.dumps({"image_mean": normalisation.mean, "image_std": normalisation.std})}


def check_finite(name: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse weights with NaN or infinity among them; one pass over the numbers, in no memory.

    Args:
        name: of the file or encoder, for the error.
        tensors: names and tensors of any type.

    Raises:
        RaddinoError: names the first such tensor.
    """
    for key, tensor in tensors:
        if tensor.is_floating_point() and tensor.numel() and not all(map(math.isfinite, _extremes(tensor))):
            raise RaddinoError(
                f"{name}: {key[:200]} holds numbers that are not finite: fetch or save the weights again"
            )


def _extremes(tensor: Tensor) -> tuple[float, float]:
    """Smallest and largest number, both NaN where any is."""
    small = tensor if tensor.element_size() > 1 else tensor.float()
    low, high = small.detach().aminmax()
    return low.item(), high.item()


def read_weights(path: Path) -> Any:
    """What a weights file holds, usually a dictionary of tensors: ``.safetensors``, else what ``torch.save`` wrote.

    Files other than safetensors are read with ``weights_only=True``; nothing in them is executed, and pickles that
    would end or hold up the process are refused before (:mod:`raddino.vit.pickles`).

    Raises:
        RaddinoError: no such file, damaged, holding more than the safe loader takes, or a tensor whose shape promises
            more numbers than the file stores.
    """
    if not path.is_file():
        raise RaddinoError(f"no weights at {path}: give a Hugging Face folder or a .safetensors / .pth file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        check_pickles(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise RaddinoError(f"{path.name} is not a readable weights file ({type(error).__name__})") from None
    except Exception as error:  # pickle raises many kinds; weights_only refuses code with UnpicklingError
        raise RaddinoError(f"{path.name} was refused by the safe loader ({type(error).__name__})") from None
    for tensor in _tensors_in(content):
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise RaddinoError(f"{path.name} holds a tensor {tuple(tensor.shape)} with fewer numbers than its shape")
    return content


def _tensors_in(content: Any) -> Iterator[Tensor]:
    """Every tensor in nested dictionaries, lists, tuples and attributes, each once."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple | set):
            waiting += one
        waiting += getattr(one, "__dict__", {}).values()


def from_official(state: dict[str, Any]) -> Backbone:
    """Shape and weights from official names, anywhere in what a training script saved.

    Nested dictionaries are read as dotted names (``{"teacher": {"backbone.norm.bias": ...}}``). Whatever stands before
    a backbone's names (``teacher.backbone.``, ``module.``, ``model.state_dict.``) is taken off, and so is what
    ``torch.compile`` and FSDP put in between; heads are left out. Of several backbones the teacher's is taken. Heads of
    attention are 64 wide, as in every published DINOv2 model.

    Raises:
        RaddinoError: no backbone, or several of which none or more than one is a teacher's.
    """
    if not isinstance(state, dict):
        raise RaddinoError(
            f"not DINOv2 weights: a mapping of names to tensors is expected, found a {type(state).__name__}"
        )
    named = _backbone_in(dict(_named_tensors(state)))
    flat = {re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", name): tensor for name, tensor in named.items()}
    for name in ("cls_token", "pos_embed", "blocks.0.norm1.weight"):
        if name not in flat:
            raise RaddinoError(f"not DINOv2 weights: {name!r} is missing")
    dim, channels, patch, _ = flat["patch_embed.proj.weight"].shape
    registers = flat["register_tokens"].shape[1] if "register_tokens" in flat else 0
    swiglu = "blocks.0.mlp.w12.weight" in flat
    config = VitConfig(
        embed_dim=dim,
        depth=1 + max(int(m[1]) for name in flat if (m := re.match(r"blocks\.(\d+)\.", name))),
        num_heads=1 if dim % OFFICIAL_HEAD_DIM else dim // OFFICIAL_HEAD_DIM,
        patch_size=patch,
        image_size=round((flat["pos_embed"].shape[1] - 1) ** 0.5) * patch,
        mlp_ratio=4.0 if swiglu else flat["blocks.0.mlp.fc1.weight"].shape[0] / dim,
        in_channels=channels,
        num_register_tokens=registers,
        ffn="swiglu" if swiglu else "mlp",
        interpolate_offset=0.0 if registers else 0.1,
        interpolate_antialias=bool(registers),
    )
    return Backbone(config, {k: v.float() for k, v in flat.items()}, None)


def _named_tensors(state: dict[Any, Any], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested dictionaries under dotted names."""
    for key, value in state.items():
        name = f"{prefix}{key}"
        if isinstance(value, Tensor):
            yield _WRAPPERS.sub("", name).removeprefix("."), value
        elif isinstance(value, dict) and depth < _DEEPEST_STATE:
            yield from _named_tensors(value, f"{name}.", depth + 1)


def _backbone_in(named: State) -> State:
    """The one backbone, or the teacher's, with nothing before its names."""
    found = [name.removesuffix(_ANCHOR) for name in named if f".{name}".endswith(f".{_ANCHOR}")]
    if not found:
        raise RaddinoError(f"not DINOv2 weights: {_ANCHOR!r} is missing")
    chosen = [prefix for prefix in found if re.search(r"(^|\.)teacher", prefix)] or found
    if len(chosen) > 1:
        listed = ", ".join(repr(prefix[:50]) for prefix in chosen[:4])
        raise RaddinoError(f"several DINOv2 backbones, under {listed}: save the one that is meant by itself")
    inside = {name.removeprefix(chosen[0]): one for name, one in named.items() if name.startswith(chosen[0])}
    return {name: tensor for name, tensor in inside.items() if not name.startswith(_HEADS)}


def from_huggingface(config: dict[str, Any], state: State) -> Backbone:
    """Shape and weights from a Dinov2Model's or Dinov2WithRegistersModel's config and state."""
    kind = config.get("model_type")
    if kind not in ("dinov2", "dinov2_with_registers"):
        raise RaddinoError(f"model_type {kind!r} is not dinov2 or dinov2_with_registers")
    for key, needed in _COMPUTED.items():
        if config.get(key, needed) != needed:
            raise RaddinoError(f"{key} {config[key]!r} in config.json is not computed here: it must be {needed!r}")
    state = {re.sub(r"^(dinov2(_with_registers)?)\.", "", name): t.float() for name, t in state.items()}
    shape = VitConfig(
        embed_dim=config["hidden_size"],
        depth=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        patch_size=config["patch_size"],
        image_size=config["image_size"],
        mlp_ratio=config.get("mlp_ratio", 4),
        in_channels=config.get("num_channels", 3),
        num_register_tokens=config.get("num_register_tokens", 4) if kind == "dinov2_with_registers" else 0,
        ffn="swiglu" if config.get("use_swiglu_ffn") else "mlp",
        interpolate_offset=0.0,
        interpolate_antialias=kind == "dinov2_with_registers",
    )
    ours: State = {}
    for name, tensor in state.items():
        if match := re.match(r"encoder\.layer\.(\d+)\.(.+)", name):
            rest = match[2]
            for our, theirs in _BLOCK_TO_HUGGINGFACE.items():
                rest = rest.replace(theirs, our)
            ours[f"blocks.{match[1]}.{rest}"] = tensor
            continue
        for our, theirs in _TO_HUGGINGFACE.items():
            if name.startswith(theirs):
                ours[our + name.removeprefix(theirs)] = tensor
    for name in [n for n in ours if ".attention.attention.query." in n]:
        parts = [ours.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        ours[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    ours.setdefault("mask_token", torch.zeros_like(ours["cls_token"][0]))
    return Backbone(shape, ours, None)


def to_huggingface(model: VisionTransformer) -> tuple[dict[str, Any], State]:
    """Config and state of the equal three-channel Dinov2Model (or Dinov2WithRegistersModel).

    Raises:
        RaddinoError: positions are interpolated in a way that Transformers does not offer.
    """
    config = model.config
    registers = config.num_register_tokens > 0
    if config.interpolate_offset or config.interpolate_antialias != registers:
        raise RaddinoError(
            "Transformers interpolates positions by size (antialiased only with registers): train with "
            f"interpolate_offset=0 and interpolate_antialias={str(registers).lower()} to export"
        )
    state: State = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().float().cpu().clone()
        if name == "patch_embed.proj.weight":
            tensor = unfold_grey(tensor)
        if match := re.match(r"blocks\.(\d+)\.(.+)", name):
            layer, rest = f"encoder.layer.{match[1]}.", match[2]
            if rest.startswith("attn.qkv."):
                for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    state[f"{layer}attention.attention.{part}.{rest.split('.')[-1]}"] = piece.contiguous()
                continue
            for our, theirs in _BLOCK_TO_HUGGINGFACE.items():
                rest = rest.replace(our, theirs)
            state[layer + rest] = tensor
            continue
        for our, theirs in _TO_HUGGINGFACE.items():
            if name.startswith(our):
                state[theirs + name.removeprefix(our)] = tensor
    kind = "dinov2_with_registers" if registers else "dinov2"
    described: dict[str, Any] = {
        "architectures": ["Dinov2WithRegistersModel" if registers else "Dinov2Model"],
        "model_type": kind,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "patch_size": config.patch_size,
        "image_size": config.image_size,
        "mlp_ratio": int(config.mlp_ratio) if config.mlp_ratio == int(config.mlp_ratio) else config.mlp_ratio,
        "num_channels": 3,
        "layer_norm_eps": 1e-6,
        "layerscale_value": config.layerscale_init,
        "use_swiglu_ffn": config.ffn == "swiglu",
        "qkv_bias": True,
        "hidden_act": "gelu",
        "dtype": "float32",
    }
    if registers:
        described["num_register_tokens"] = config.num_register_tokens
    return described, state


def fold_grey(backbone: Backbone, mean: float, std: float) -> Backbone:
    """The one-channel backbone that gives the same tokens from grey input normalised by ``mean`` and ``std``.

    Summing the three channels' weights is exact because a grey image repeats its channel; the difference
    between the normalisation per channel that the weights were trained with and the new one goes into weights and bias.

    Raises:
        RaddinoError: the weights' own normalisation is not known, or is of another number of channels.
    """
    theirs = backbone.normalisation
    if theirs is None:
        raise RaddinoError(
            f"the weights do not say how their input is normalised ({PREPROCESSOR} beside them would): "
            "name their family, as in dinov2-base:PLACE or rad-dino:PLACE"
        )
    channels = backbone.config.in_channels
    if len(theirs.mean) != channels:
        raise RaddinoError(f"the weights take {channels} channels, and their normalisation is of {len(theirs.mean)}")
    if theirs == Normalisation((mean,), (std,)):
        return backbone
    weight = backbone.state["patch_embed.proj.weight"].double()
    their_mean, their_std = torch.tensor(theirs.mean).double(), torch.tensor(theirs.std).double()
    gain = (std / their_std).view(1, -1, 1, 1)
    shift = ((mean - their_mean) / their_std).view(1, -1, 1, 1)
    state = dict(backbone.state)
    state["patch_embed.proj.weight"] = (weight * gain).sum(1, keepdim=True).float()
    state["patch_embed.proj.bias"] = (
        backbone.state["patch_embed.proj.bias"].double() + (weight * shift).sum((1, 2, 3))
    ).float()
    return Backbone(backbone.config.model_copy(update={"in_channels": 1}), state, Normalisation((mean,), (std,)))


def unfold_grey(weight: Tensor) -> Tensor:
    """Three-channel patch weights (D, 3, P, P) that give a grey RGB image what (D, 1, P, P) give one channel."""
    return weight if weight.shape[1] == 3 else weight.expand(-1, 3, -1, -1) / 3


def resize_positions(backbone: Backbone, image_size: int) -> Backbone:
    """The backbone with its position embeddings interpolated once to another native image size in pixels."""
    config = backbone.config.model_copy(update={"image_size": image_size})
    grid = image_size // config.patch_size
    state = dict(backbone.state)
    state["pos_embed"] = position_embedding(
        state["pos_embed"], (grid, grid), config.interpolate_offset, config.interpolate_antialias
    )
    return Backbone(config, state, backbone.normalisation)


def _from_huggingface_folder(folder: Path) -> Backbone:
    if not (folder / "config.json").is_file():
        raise RaddinoError(f"{folder} has no config.json: a Hugging Face model folder is expected")
    files = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    if not files:
        raise RaddinoError(f"{folder} has no .safetensors file: convert the weights with save_pretrained()")
    config = read_json(folder / "config.json", "it does not describe these weights; save the model again")
    try:
        state = {name: tensor for file in files for name, tensor in load_file(file).items()}
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise RaddinoError(f"{folder} cannot be read: {' '.join(str(error).split())[:200]}") from None
    try:
        backbone = from_huggingface(config, state)
    except _MISFITS as error:
        raise RaddinoError(
            f"{folder}/config.json does not describe these weights ({type(error).__name__}): save the model again"
        ) from None
    file = folder / PREPROCESSOR
    told = _normalisation(file, read_json(file, "save the image processor again")) if file.is_file() else None
    return Backbone(backbone.config, backbone.state, told)


def _parsed(file: Path, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (RecursionError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise RaddinoError(f"{file} is damaged: its header entry {HEADER!r} is no image processor's settings")
    return values


def _normalisation(file: Path, values: dict[str, Any]) -> Normalisation | None:
    """Mean and SD of input in [0, 1] that an image processor's settings come to, None where they hold none."""
    told: list[tuple[float, ...]]
    try:
        if not values.get("do_normalize", True):
            told = [(0.0,) * 3, (1.0,) * 3]
        elif "image_mean" not in values or "image_std" not in values:
            return None
        else:
            told = [tuple(float(part) for part in values[key]) for key in ("image_mean", "image_std")]
        maximum = 255 * float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 255.0
        mean, std = (tuple(part / maximum for part in parts) for parts in told)
        if len(mean) != len(std) or not all(map(math.isfinite, mean)) or not 0 < min(std) <= max(std) < 1e9:
            raise ValueError
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        raise RaddinoError(f"{file} is damaged: save the image processor again") from None
    return Normalisation(mean, std)
