"""Folders as the hub publishes them, tiny and with random weights, and what Transformers itself makes of them."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from published import shaken

SHAPES = [(64, 64), (150, 131), (91, 200), (40, 51)]


def radiograph(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Grey noise (H, W) uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def publish(folder: Path, model: torch.nn.Module, processor: dict | None) -> torch.nn.Module:
    """Save a shaken model and the text of its ``preprocessor_config.json``."""
    shaken(model).save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return model


def prepared(folder: Path, image: np.ndarray) -> torch.Tensor:
    """What the folder's image processor makes of the image as RGB, (1, 3, H, W)."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder)
    return processor(Image.fromarray(image).convert("RGB"), return_tensors="pt")["pixel_values"]


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Equal shapes and values."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def has_names(folder: Path, *published: str) -> bool:
    """Whether the saved file uses the parameter names of the hub's own files."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(published) <= set(file.keys())
