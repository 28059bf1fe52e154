"""CheXzero (Tiu et al., Nature Biomedical Engineering 2022): OpenAI's CLIP ViT-B/32, trained on with MIMIC-CXR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from raddino.encoders.base import ENCODERS, Family, Provenance, check_batch
from raddino.encoders.network import NetworkEncoder, check_prompts, fill, grid_of, optional, read_state
from raddino.encoders.preparation import Preparation, check_grey
from raddino.encoders.weights import find_weights

NAME = "chexzero"
ARCHITECTURE = "ViT-B-32-quickgelu"
FILES = ("best_64_5e-05_original_22000_0.864.pt", "checkpoint.pt", "chexzero.pt", "model.safetensors")
GRID = (7, 7)
CANVAS = 320
OVERSHOOT = 0.45
"""Most that torch's bicubic kernel (sharpness -0.75) leaves 0..1 in two dimensions: 2 * 1.1875 * 0.1875."""
KNOWN = Provenance(
    sources=["wit-400m", "mimic-cxr"],
    supervision="text",
    licence="MIT",
    synthetic=False,
    reference="Tiu et al., Nature Biomedical Engineering 2022, doi 10.1038/s41551-022-00936-9",
    note="started from OpenAI's CLIP",
)


class _Preparation(Preparation):
    """Letterboxed to 320 x 320 with black, as the training data was stored, then bicubic without antialiasing to 224.

    Bicubic values overshoot and are not clipped, as there.
    """

    def _one(self, name: str, image: np.ndarray) -> Tensor:
        check_grey(name, image)
        scale = float(np.iinfo(image.dtype).max)
        whole = Image.fromarray(image if image.dtype == np.uint8 else image.astype(np.float32))
        ratio = CANVAS / max(whole.size)
        width, height = (max(1, int(length * ratio)) for length in whole.size)
        small = np.array(whole.resize((width, height), Image.Resampling.LANCZOS), np.float32)
        canvas = torch.zeros(1, 1, CANVAS, CANVAS)
        top, left = (CANVAS - height) // 2, (CANVAS - width) // 2
        canvas[0, 0, top : top + height, left : left + width] = torch.from_numpy(small / scale).clamp(0, 1)
        return interpolate(canvas, size=self.size, mode="bicubic", align_corners=False)[0]

    def check(self, name: str, batch: Tensor) -> None:
        """As every check, with room for the overshoot of the bicubic kernel."""
        bounds = (-OVERSHOOT * self.maximum, (1 + OVERSHOOT) * self.maximum)
        low, high = ((value - self.mean[0]) / self.std[0] for value in bounds)
        check_batch(name, batch, len(self.mean), low, high)


PREPARATION = _Preparation(resize=224, crop=224, mean=(101.48761,) * 3, std=(83.43944,) * 3, maximum=255.0)


class CheXzero(NetworkEncoder):
    """The image tower as any other encoder's; text tower and projection for zero-shot classification."""

    logit_scale: float
    projection: Tensor
    network: Any

    @torch.inference_mode()
    def project(self, cls: Tensor) -> Tensor:
        """Class tokens (N, 768) to unit vectors (N, 512)."""
        return normalize(cls.float().cpu() @ self.projection, dim=-1)

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors (N, 512) of N prompts; what is longer than 77 tokens is cut.

        Raises:
            RaddinoError: no prompt.
        """
        tokens = optional(NAME, "open_clip").SimpleTokenizer()(check_prompts(NAME, prompts))
        return normalize(self.network.encode_text(tokens.to(self.device)), dim=-1).cpu()


def load(place: str | None, device: str) -> CheXzero:
    """Read a checkpoint, a state dict in the names of OpenAI's CLIP.

    Embedding and patches are the tokens after the last norm, before the projection.

    Raises:
        RaddinoError: no weights there, or not those of a CLIP ViT-B/32.
    """
    open_clip = optional(NAME, "open_clip")
    weights = find_weights(NAME, place)
    file = weights.file(*FILES)
    state = read_state(NAME, file)
    network: Any = open_clip.CLIP(**open_clip.get_model_config(ARCHITECTURE))
    fill(NAME, network, state)
    visual = network.visual
    projection = visual.proj.detach().float().clone()
    visual.proj, visual.output_tokens = None, True

    def forward(batch: Tensor) -> tuple[Tensor, Tensor]:
        cls, patches = visual(batch)
        return cls, grid_of(patches, GRID)

    encoder = CheXzero(
        NAME, network, forward, PREPARATION,
        dim=projection.shape[0], grid=GRID, provenance=weights.record(KNOWN, file), device=device,
    )  # fmt: skip
    encoder.projection, encoder.logit_scale = projection, float(network.logit_scale.exp())
    return encoder


ENCODERS.register(NAME)(
    Family(
        load,
        "CheXzero: CLIP ViT-B/32 trained on with the reports of MIMIC-CXR; has text",
        KNOWN,
        home="https://github.com/rajpurkarlab/CheXzero",
        extra="baselines",
        dim=768,
        side=224,
    )
)
