"""DINOv2 (Oquab et al. 2024, arXiv 2304.07193), with and without registers (Darcet et al. 2024, arXiv 2309.16588)."""

from __future__ import annotations

from functools import partial

from raddino.encoders.base import Provenance
from raddino.encoders.huggingface import IMAGENET, register
from raddino.encoders.ours import load_dinov2
from raddino.encoders.preparation import Preparation

PUBLISHED = Preparation(256, 224, *IMAGENET, crop_start="down")
KNOWN = Provenance(
    sources=["lvd-142m"],
    supervision="self-supervised",
    licence="Apache-2.0",
    synthetic=False,
    reference="Oquab et al., arXiv 2304.07193, section 3",
    note="natural images from the web",
)
SIZES = {"small": ("S", 384), "base": ("B", 768), "large": ("L", 1024), "giant": ("g", 1536)}

load = partial(load_dinov2, published=PUBLISHED)

for _size, (_letter, _dim) in SIZES.items():
    for _name, _hub, _also in (
        (f"dinov2-{_size}", f"facebook/dinov2-{_size}", ""),
        (f"dinov2-{_size}-registers", f"facebook/dinov2-with-registers-{_size}", " with registers"),
    ):
        _summary = f"DINOv2 ViT-{_letter}/14{_also}, natural images"
        register(_name, _hub, load, _summary, KNOWN, dim=_dim, side=224)
