"""Our own encoders: any DINOv2-shaped vision transformer in a Hugging Face folder, read and written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, center_crop, resize

import raddino
from raddino.device import resolve_device
from raddino.encoders.base import ENCODERS, Encoder, Features, Provenance
from raddino.errors import RaddinoError
from raddino.vit import VisionTransformer
from raddino.vit.weights import Normalisation, fold_grey, load_backbone, to_huggingface

SHIPPED = Path(__file__).parent / "shipped"
FORMAT = 1
BICUBIC = 3


class VitEncoder:
    """A frozen vision transformer on grey images: shorter side resized, centre cropped, normalised."""

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
        shorter_side: int | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.size, self.mean, self.std = size, mean, std
        self.shorter_side = shorter_side or size
        self.name, self.provenance = name, provenance
        self.dim = model.config.embed_dim
        side = size // model.config.patch_size
        self.grid: tuple[int, int] | None = (side, side)

    @classmethod
    def load(cls, folder: Path, device: str = "auto", name: str | None = None) -> VitEncoder:
        """Read a folder written by :func:`save_encoder`, or any Dinov2Model folder with its preprocessor.

        Raises:
            RaddinoError: no readable weights, or their checksum is not the one recorded beside them.
        """
        folder = Path(folder)
        backbone = load_backbone(folder)
        normalisation = backbone.normalisation or Normalisation((0.5307,) * 3, (0.2583,) * 3)
        mean, std = float(np.mean(normalisation.mean)), float(np.mean(normalisation.std))
        preprocessor = _json(folder / "preprocessor_config.json")
        about = _json(folder / "raddino.json")
        if "sha256" in about and about["sha256"] != _sha256(folder / "model.safetensors"):
            raise RaddinoError(
                f"{folder}: model.safetensors is not the file that raddino.json describes; save it again"
            )
        provenance = about.get("provenance") or {
            "sources": None,
            "supervision": "self-supervised",
            "note": "no record",
        }
        try:
            record = Provenance(**{**provenance, "sha256": about.get("sha256")})
        except TypeError:
            raise RaddinoError(f"{folder}/raddino.json: its provenance is damaged; save the encoder again") from None
        patch = backbone.config.patch_size
        crop = preprocessor.get("crop_size", {})
        side = crop.get("height", backbone.config.image_size) if isinstance(crop, dict) else crop
        if not isinstance(side, int) or side < patch:
            raise RaddinoError(f"{folder}/preprocessor_config.json: crop_size must be {patch} or more, got {side!r}")
        resized = preprocessor.get("size", side)
        return cls(
            fold_grey(backbone, mean, std).build(),
            size=side // patch * patch,
            shorter_side=resized.get("shortest_edge", side) if isinstance(resized, dict) else resized,
            mean=mean,
            std=std,
            name=name or about.get("name") or folder.resolve().name,
            provenance=record,
            device=device,
        )

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights and preprocessing."""
        digest = hashlib.sha256(repr((self.shorter_side, self.size, self.mean, self.std, self.model.config)).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """Grey images (H, W), uint8 or uint16, to (B, 1, S, S), as Transformers' image processor does it.

        8-bit images are resized in 8 bits, as there; 16-bit ones in float32.
        """
        return torch.stack([self._one(image) for image in images])

    @torch.inference_mode()
    def encode(self, batch: Tensor) -> Features:
        """Class token (B, D) and patch tokens (B, S/P, S/P, D) after the final norm, float32."""
        tokens = self.model(batch.to(self.device))
        return Features(tokens.cls.float().cpu(), tokens.patches.unflatten(1, tokens.grid).float().cpu())

    @torch.inference_mode()
    def attention(self, batch: Tensor) -> Tensor:
        """Class token's attention to the patches in the last block, (B, heads, S/P, S/P)."""
        return self.model.cls_attention(batch.to(self.device)).float().cpu()

    def _one(self, image: np.ndarray) -> Tensor:
        if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
            raise RaddinoError(
                f"{self.name} takes grey (H, W) uint8 or uint16 images, got {image.dtype} of shape {image.shape}"
            )
        scale = float(np.iinfo(image.dtype).max)
        pixels = torch.from_numpy(image if image.dtype == np.uint8 else image.astype(np.float32))[None]
        pixels = resize(pixels, [self.shorter_side], interpolation=InterpolationMode.BICUBIC, antialias=True)
        pixels = center_crop(pixels, [self.size, self.size])
        return (pixels.float() / scale - self.mean) / self.std


def save_encoder(
    folder: Path,
    model: VisionTransformer,
    *,
    size: int,
    mean: float,
    std: float,
    name: str,
    provenance: Provenance,
) -> Path:
    """Write an encoder folder that ``transformers.AutoModel.from_pretrained`` loads without raddino.

    Args:
        folder: made or replaced; a reader never sees it half written.
        model: backbone with one or three input channels.
        size: pixels, side of the square input.
        mean, std: of grey values in [0, 1].
        name: shown in tables.
        provenance: what was seen; goes into ``raddino.json`` and the model card.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    config, state = to_huggingface(model)
    save_file(state, partial / "model.safetensors", metadata={"format": "pt"})
    digest = _sha256(partial / "model.safetensors")
    preprocessor = {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [mean] * 3,
        "image_std": [std] * 3,
    }
    about = {
        "format": FORMAT,
        "raddino": raddino.__version__,
        "name": name,
        "normalisation": {"mean": mean, "std": std},
        "sha256": digest,
        "provenance": provenance.to_dict() | {"sha256": digest},
    }
    for file, content in (("config", config), ("preprocessor_config", preprocessor), ("raddino", about)):
        (partial / f"{file}.json").write_text(json.dumps(content, indent=2) + "\n")
    (partial / "README.md").write_text(_card(name, size, model, provenance))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    return folder


def _card(name: str, size: int, model: VisionTransformer, provenance: Provenance) -> str:
    sources = "not recorded" if provenance.sources is None else ", ".join(provenance.sources) or "none"
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    config = model.config
    return f"""---
library_name: transformers
license: {(provenance.licence or "other").lower()}
tags: [chest-x-ray, self-supervised, dinov2, raddino]
---
# {name}

An image-only chest X-ray encoder trained with raddino: ViT of depth {config.depth}, width {config.embed_dim},
patch {config.patch_size}, {parameters:.1f} M parameters, grey images of {size} x {size} px repeated to three channels.

* Images seen in pre-training: {sources}. Synthetic: {provenance.synthetic}.
* Supervision: {provenance.supervision}. {provenance.note}

```python
from transformers import AutoImageProcessor, AutoModel
model, processor = AutoModel.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
features = model(**processor(image, return_tensors="pt")).last_hidden_state  # class token first
```

For research only; not a medical device, not for clinical decisions.
"""


def _sha256(file: Path) -> str:
    if not file.is_file():
        raise RaddinoError(f"{file.parent} lacks {file.name}")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text())
    except ValueError:
        raise RaddinoError(f"{file} is not valid JSON") from None
    if not isinstance(values, dict):
        raise RaddinoError(f"{file} must hold a JSON object, found a {type(values).__name__}")
    return values


def _shipped(name: str) -> Callable[[str], Encoder]:
    return lambda device: VitEncoder.load(SHIPPED / name, device, name=name)


for _folder in sorted(SHIPPED.glob("*/raddino.json")):
    ENCODERS.register(_folder.parent.name)(_shipped(_folder.parent.name))
