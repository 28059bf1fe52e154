"""Our own encoders: any DINOv2-shaped vision transformer in a Hugging Face folder, read and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

import raddino
from raddino.device import resolve_device
from raddino.encoders.base import ENCODERS, Encoder, Family, Features, Provenance, fingerprint
from raddino.encoders.card import model_card
from raddino.encoders.preparation import Preparation
from raddino.encoders.seen_images import SeenImages
from raddino.encoders.weights import Weights
from raddino.errors import RaddinoError
from raddino.files import draft_folder, read_json, sha256, write_json
from raddino.vit import VisionTransformer
from raddino.vit.linear import has_onednn
from raddino.vit.packed import images_a_pass, packed
from raddino.vit.weights import Backbone, Normalisation, fold_grey, load_backbone, to_huggingface, told_normalisation

SHIPPED = Path(__file__).parent / "shipped"
FORMAT = 1
BICUBIC = 3
SETTINGS = ("config.json", "preprocessor_config.json")


class VitEncoder:
    """A frozen vision transformer on grey images: shorter side resized, centre cropped, normalised.

    Attributes:
        seen_images: those that it was trained on, as far as they are on record beside its weights.

    Args:
        model: one input channel.
        size: pixels, side of the square input.
        mean, std: of grey values in [0, 1].
        name: shown in tables.
        provenance: what is on record about the weights.
        device: see :func:`raddino.device.resolve_device`.
        preparation: one-channel steps, where they are other than a resize and crop to ``size``.
    """

    def __init__(
        self,
        model: VisionTransformer,
        *,
        size: int,
        mean: float,
        std: float,
        name: str,
        provenance: Provenance,
        device: str = "auto",
        preparation: Preparation | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.size, self.mean, self.std = size, mean, std
        self.preparation = preparation or Preparation(size, size, (mean,), (std,), crop_start="down")
        self.name, self.provenance = name, provenance
        self.dim = model.config.embed_dim
        self.seen_images: SeenImages | None = None
        side = size // model.config.patch_size
        self.grid: tuple[int, int] | None = (side, side)

    @classmethod
    def load(cls, folder: Path, device: str = "auto", name: str | None = None) -> VitEncoder:
        """Read a folder written by :func:`save_encoder`, or any Dinov2Model folder with its preprocessor.

        Raises:
            RaddinoError: no readable weights, a damaged record, or a checksum that is not the one recorded there.
        """
        folder = Path(folder)
        about = _json(folder / "raddino.json")
        if not about:
            known = Provenance(sources=None, supervision="self-supervised", note="no record")
            return load_dinov2(Weights(folder), name=name or folder.resolve().name, known=known, device=device)
        backbone = load_backbone(folder)
        if "sha256" in about and about["sha256"] != _sha256(folder / "model.safetensors"):
            raise RaddinoError(
                f"{folder}: model.safetensors is not the file that raddino.json describes; save it again"
            )
        settings = about.get("settings")
        for file, digest in settings.items() if isinstance(settings, dict) else ():
            if file not in SETTINGS or digest != _sha256(folder / file):
                raise RaddinoError(f"{folder}: {file[:40]} is not the file that raddino.json describes; save it again")
        record = _recorded(folder / "raddino.json", about)
        told = name or about.get("name") or folder.resolve().name
        encoder = cls.of(backbone, _own_preparation(folder, backbone), told, record, device)
        encoder.seen_images = SeenImages.load(folder)
        return encoder

    @classmethod
    def of(
        cls, backbone: Backbone, preparation: Preparation, name: str, provenance: Provenance, device: str
    ) -> VitEncoder:
        """From a backbone whose input was prepared per channel, which is folded into one grey channel.

        Raises:
            RaddinoError: the prepared image is not square, or smaller than one patch.
        """
        mean, std = float(np.mean(preparation.mean)), float(np.mean(preparation.std))
        patch, (height, width) = backbone.config.patch_size, preparation.size
        if height != width or height < patch:
            raise RaddinoError(f"{name} takes squares of {patch} px or more, its preprocessor makes {height} x {width}")
        folded = fold_grey(
            Backbone(backbone.config, backbone.state, Normalisation(preparation.mean, preparation.std)), mean, std
        )
        return cls(
            folded.build(),
            size=height // patch * patch,
            mean=mean,
            std=std,
            name=name,
            provenance=provenance,
            device=device,
            preparation=replace(preparation, mean=(mean,), std=(std,)),
        )

    @property
    def shorter_side(self) -> int:
        """Pixels that the shorter side is resized to; the square's where the aspect ratio is given up."""
        return self.preparation.resize if isinstance(self.preparation.resize, int) else self.preparation.resize[0]

    @property
    def backbone(self) -> Backbone:
        """Shape, weights and normalisation of the one-channel network, for what trains it further."""
        maximum = self.preparation.maximum
        told = Normalisation((self.mean / maximum,), (self.std / maximum,))
        return Backbone(self.model.config, self.model.state_dict(), told)

    @property
    def covered(self) -> tuple[int, int]:
        """(rows, columns) of pixels from the top left of a prepared image that the patch grid lies on."""
        return self.size, self.size

    @property
    def blocks(self) -> int:
        """Blocks of the network; :meth:`read`, :meth:`encode` and :meth:`fast_encode` take ``depths`` in 1..blocks."""
        return self.model.config.depth

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over weights and preprocessing."""
        return fingerprint(self.model, self.preparation, self.model.config)

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """Grey images (H, W), uint8 or uint16, to (B, 1, S, S), as Transformers' image processor does it.

        8-bit images are resized in 8 bits, as there; 16-bit ones in float32. Rows and columns that fill no patch
        are cut, as a convolution over patches would.
        """
        return self.preparation(self.name, images)[..., : self.size, : self.size]

    def read(self, batch: Tensor, depths: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """What :meth:`encode` gives of a preprocessed batch, unchecked, on the device, and open to gradients."""
        tokens = self.model(batch.to(self.device), None, depths)
        return tokens.cls, tokens.patches.unflatten(1, tokens.grid)

    @torch.inference_mode()
    def encode(self, batch: Tensor, depths: tuple[int, ...] = ()) -> Features:
        """Class token (B, D) and patch tokens (B, S/P, S/P, D) after the final norm, float32.

        Args:
            batch: of :meth:`preprocess`.
            depths: take both after so many blocks each, see :class:`raddino.encoders.depths.AtDepths`.

        Raises:
            RaddinoError: a batch that :meth:`preprocess` cannot have made.
        """
        self.preparation.check(self.name, batch)
        cls, patches = self.read(batch, depths)
        return Features(cls.float().cpu(), patches.float().cpu())

    def fast_encode(
        self, dtype: torch.dtype, compile: bool = False, depths: tuple[int, ...] = ()
    ) -> Callable[[Tensor], Features]:
        """:meth:`encode` in ``dtype`` with a network made ready for many batches; its features stay on the device.

        Args:
            dtype: float32 or bfloat16.
            compile: pass the network through ``torch.compile``; else, on a CPU, lay its weights out for the products.
            depths: as for :meth:`encode`.
        """
        on_cpu, model = self.device.type == "cpu", self.model
        if on_cpu and not compile and has_onednn(dtype):
            model = packed(model, dtype)
        elif dtype != torch.float32:
            model = deepcopy(model).to(dtype)
        tokens = (self.size // model.config.patch_size) ** 2 + model.leading
        size = images_a_pass(model, tokens, dtype) if on_cpu else None
        network = torch.compile(model) if compile else model

        @torch.inference_mode()
        def encode(batch: Tensor) -> Features:
            self.preparation.check(self.name, batch)
            parts = batch.split(size or len(batch))
            passes = [network(part.to(self.device, dtype, non_blocking=True), None, depths) for part in parts]
            patches = torch.cat([one.patches for one in passes])
            return Features(torch.cat([one.cls for one in passes]), patches.unflatten(1, passes[0].grid))

        return encode

    @torch.inference_mode()
    def attention(self, batch: Tensor) -> Tensor:
        """Class token's attention to the patches in the last block, (B, heads, S/P, S/P)."""
        return self.model.cls_attention(batch.to(self.device)).float().cpu()


def load_dinov2(
    weights: Weights, *, name: str, known: Provenance, device: str, published: Preparation | None = None
) -> VitEncoder:
    """A DINOv2-shaped encoder from a Transformers folder, or from a file with official names.

    Args:
        weights: where.
        name: shown in tables.
        known: what is on record about the family.
        device: see :func:`raddino.device.resolve_device`.
        published: preparation for weights that come without an image processor; a file that says its normalisation
            (:func:`raddino.vit.weights.told_normalisation`) has its own.

    Raises:
        RaddinoError: not DINOv2 weights, or how their input is prepared is not known.
    """
    from raddino.encoders.huggingface import read_config, read_preparation, weight_files

    if not weights.path.is_dir():
        if published is None:
            raise RaddinoError(f"{name}: a weights file does not say how images are prepared; give a folder")
        backbone, told = load_backbone(weights.path), told_normalisation(weights.path)
        steps = replace(published, mean=told.mean, std=told.std) if told else published
        return VitEncoder.of(backbone, steps, name, weights.record(known, weights.path), device)
    read_config(name, weights, ("dinov2", "dinov2_with_registers"))
    backbone = load_backbone(weights.path)
    record = weights.record(known, *weight_files(weights))
    encoder = VitEncoder.of(backbone, read_preparation(name, weights, published), name, record, device)
    encoder.seen_images = SeenImages.load(weights.path)
    return encoder


def _own_preparation(folder: Path, backbone: Backbone) -> Preparation:
    """Preparation of a folder that :func:`save_encoder` wrote."""
    file = folder / "preprocessor_config.json"
    values = _json(file)
    patch = backbone.config.patch_size
    crop = values.get("crop_size", {})
    side = crop.get("height", backbone.config.image_size) if isinstance(crop, dict) else crop
    if not isinstance(side, int) or isinstance(side, bool) or side < patch:
        raise RaddinoError(f"{file}: crop_size must be {patch} or more, got {side!r}")
    if backbone.normalisation is None:
        raise RaddinoError(f"{file} lacks image_mean and image_std; save the encoder again")
    size = values.get("size", side)
    shorter = size.get("shortest_edge", side) if isinstance(size, dict) else size
    try:
        return Preparation(shorter, side, backbone.normalisation.mean, backbone.normalisation.std, crop_start="down")
    except RaddinoError as error:
        raise RaddinoError(f"{file}: {error}; save the encoder again") from None


def _recorded(file: Path, about: dict[str, Any]) -> Provenance:
    """The provenance in ``raddino.json``, with the digest of the weights."""
    try:
        record = Provenance.from_dict(about.get("provenance"))
    except RaddinoError as error:
        raise RaddinoError(f"{file}: {error}; save the encoder again") from None
    for field in ("name", "sha256"):
        if not isinstance(about.get(field, ""), str):
            raise RaddinoError(f"{file}: {field} must be text; save the encoder again")
    return replace(record, sha256=about.get("sha256"))


def save_encoder(
    folder: Path,
    model: VisionTransformer,
    *,
    size: int,
    mean: float,
    std: float,
    name: str,
    provenance: Provenance,
    shorter_side: int | None = None,
    seen: SeenImages | None = None,
) -> Path:
    """Write an encoder folder that ``transformers.AutoModel.from_pretrained`` loads without raddino.

    Args:
        folder: made or replaced; a reader never sees it half written.
        model: backbone with one or three input channels.
        size: pixels, side of the square input.
        mean, std: of grey values in [0, 1].
        name: shown in tables.
        provenance: what was seen; goes into ``raddino.json`` and the model card.
        shorter_side: pixels that it is resized to before the crop; None for ``size``.
        seen_images: those that it was trained on; goes into a file of its own.
    """
    config, state = to_huggingface(model)
    preprocessor = {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": shorter_side or size},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [mean] * 3,
        "image_std": [std] * 3,
    }
    with draft_folder(folder) as draft:
        save_file(state, draft / "model.safetensors", metadata={"format": "pt"})
        digest = _sha256(draft / "model.safetensors")
        for file, content in zip(SETTINGS, (config, preprocessor), strict=True):
            (draft / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        about = {
            "format": FORMAT,
            "raddino": raddino.__version__,
            "name": name,
            "normalisation": {"mean": mean, "std": std},
            "sha256": digest,
            "settings": {file: sha256(draft / file) for file in SETTINGS},
            "provenance": provenance.to_dict() | {"sha256": digest},
        }
        write_json(draft / "raddino.json", about)
        if seen:
            seen.save(draft)
        preparation = Preparation(size, size, (mean,), (std,), crop_start="down")
        card = model_card(name, model, preparation, replace(provenance, sha256=digest))
        (draft / "README.md").write_text(card, encoding="utf-8")
    return folder


def _sha256(file: Path) -> str:
    if not file.is_file():
        raise RaddinoError(f"{file.parent} lacks {file.name}")
    return sha256(file)


def _json(file: Path) -> dict[str, Any]:
    return read_json(file, "save the encoder again") if file.is_file() else {}


def _register_shipped(folder: Path) -> None:
    def load(place: str | None, device: str) -> Encoder:
        return VitEncoder.load(folder if place is None else Path(place), device, name=folder.name)

    record = Provenance.from_dict(_json(folder / "raddino.json").get("provenance"))
    config = _json(folder / "config.json")
    ENCODERS.register(folder.name)(
        Family(load, "ours, small, inside this package", record, dim=config["hidden_size"], side=config["image_size"])
    )


for _file in sorted(SHIPPED.glob("*/raddino.json")):
    _register_shipped(_file.parent)
