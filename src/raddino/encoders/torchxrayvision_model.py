"""TorchXRayVision's DenseNet-121 classifiers (Cohen et al., MIDL 2022), read without running what is in the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raddino.encoders.base import ENCODERS, Encoder, Family, Provenance
from raddino.encoders.network import NetworkEncoder, fill, read_state
from raddino.encoders.pickled_module import read_pickled_module
from raddino.encoders.preparation import Preparation, check_grey
from raddino.encoders.weights import find_weights

RELEASE = "https://github.com/mlmed/torchxrayvision/releases/download/v1/"
CACHE = "~/.torchxrayvision/models_data"
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "all": (
        "nih-pc-chex-mimic_ch-google-openi-kaggle",
        ["nih", "padchest", "chexpert", "mimic-cxr", "openi", "rsna-pneumonia"],
    ),
    "nih": ("nih", ["nih"]),
    "pc": ("pc", ["padchest"]),
    "chex": ("chex", ["chexpert"]),
    "mimic_ch": ("mimic_ch", ["mimic-cxr"]),
    "mimic_nb": ("mimic_nb", ["mimic-cxr"]),
    "rsna": ("kaggle", ["rsna-pneumonia"]),
}
"""First part of the published file's name, and data sets."""


class _Preparation(Preparation):
    """Square centre crop, then scikit-image's resize with mid-grey around, values in [-1024, 1024]."""

    def _one(self, name: str, image: np.ndarray) -> Tensor:
        from skimage.transform import resize

        check_grey(name, image)
        side = min(image.shape)
        top, left = (length // 2 - side // 2 for length in image.shape)
        square = image[None, top : top + side, left : left + side].astype(np.float32) / np.iinfo(image.dtype).max
        small = resize(square, (1, *self.size), mode="constant", cval=0.5, preserve_range=True)
        return torch.from_numpy(small.astype(np.float32))


PREPARATION = _Preparation(resize=224, crop=224, mean=(0.5,), std=(1 / 2048,))


CLASSES = [
    *(f"torchxrayvision.models.{name}" for name in ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")),
    *(
        f"torch.nn.modules.{name}"
        for name in (
            "container.Sequential", "conv.Conv2d", "batchnorm.BatchNorm2d", "activation.ReLU",
            "pooling.MaxPool2d", "pooling.AvgPool2d", "linear.Linear",
        )
    ),
    "torch.nn.backends.thnn._get_thnn_function_backend",
]  # fmt: skip
"""What the released pickles name, besides tensors."""


def load(variant: str, place: str | None, device: str) -> Encoder:
    """Read a file as ``torchxrayvision`` downloads it (from its cache where it is there), or a state dict.

    The released files are whole pickled modules, which ``torchxrayvision`` itself loads with code allowed; here
    :func:`read_pickled_module` takes the tensors out of them.

    The embedding is what the classifier reads: the average of the rectified last 7 x 7 map.

    Raises:
        RaddinoError: no weights there, or not this DenseNet-121's.
    """
    from torchvision.models import densenet121

    name = f"densenet121-res224-{variant}"
    published = f"{VARIANTS[variant][0]}-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
    cached = Path(CACHE).expanduser() / published
    weights = find_weights(name, str(cached) if place is None and cached.is_file() else place, url=RELEASE + published)
    file = weights.file(published, "model.pt", "model.safetensors")
    state = read_pickled_module(file, CLASSES) or read_state(name, file)
    trunk: Any = densenet121().features
    trunk.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    kept = {key.removeprefix("features."): tensor for key, tensor in state.items() if key.startswith("features.")}
    fill(name, trunk, kept)

    def forward(batch: Tensor) -> tuple[Tensor, Tensor]:
        patches = trunk(batch).relu().permute(0, 2, 3, 1)
        return patches.mean((1, 2)), patches

    return NetworkEncoder(
        name, trunk, forward, PREPARATION,
        dim=1024, grid=(7, 7), provenance=weights.record(_known(variant), file), device=device,
    )  # fmt: skip


def _known(variant: str) -> Provenance:
    return Provenance(
        sources=VARIANTS[variant][1],
        supervision="labels",
        licence="Apache-2.0",
        synthetic=False,
        reference="model cards of torchxrayvision/densenet121-res224-*; Cohen et al., MIDL 2022, arXiv 2111.00595",
    )


def _register(variant: str) -> None:
    known = _known(variant)
    ENCODERS.register(f"densenet121-res224-{variant}")(
        Family(
            lambda place, device: load(variant, place, device),
            f"TorchXRayVision: DenseNet-121, findings of {', '.join(known.sources or [])}",
            known,
            home="https://github.com/mlmed/torchxrayvision",
            dim=1024,
            side=224,
        )
    )


for _variant in VARIANTS:
    _register(_variant)
