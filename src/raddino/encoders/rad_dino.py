"""RAD-DINO (Pérez-García et al. 2025, arXiv 2401.10815) and the variant that MAIRA-2 (arXiv 2406.04449) builds on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from raddino.encoders import dinov2
from raddino.encoders.base import Provenance
from raddino.encoders.huggingface import register
from raddino.encoders.ours import load_dinov2
from raddino.encoders.preparation import Preparation

PUBLISHED = Preparation(518, 518, (0.5307,) * 3, (0.2583,) * 3, crop_start="down")
KNOWN = Provenance(
    sources=["brax", "chexpert", "mimic-cxr", "nih", "padchest"],
    supervision="self-supervised",
    licence="MIT",
    synthetic=False,
    reference="model card of microsoft/rad-dino, Training data",
    note="882,775 images without labels, test splits among them; started from DINOv2 ViT-B/14",
    before=[dinov2.KNOWN],
)
KNOWN_MAIRA_2 = replace(
    KNOWN,
    sources=[*(KNOWN.sources or []), "private"],
    licence="MSRLA (Microsoft Research licence agreement, research only)",
    reference="model card of microsoft/rad-dino-maira-2, Training data; that its five public sets are RAD-DINO's is "
    "taken from 'relative to RAD-DINO, it was trained on more data'",
    note="five public and one private data set, without labels; started from DINOv2 ViT-B/14",
)

load = partial(load_dinov2, published=PUBLISHED)

register(
    "rad-dino", "microsoft/rad-dino", load, "RAD-DINO ViT-B/14, 883 k chest X-rays", KNOWN,
    dim=768, side=518, needed=("config.json", "preprocessor_config.json", "model.safetensors"),
)  # fmt: skip
register(
    "rad-dino-maira-2", "microsoft/rad-dino-maira-2", load, "RAD-DINO of MAIRA-2, more chest X-rays", KNOWN_MAIRA_2,
    dim=768, side=518,
)  # fmt: skip
