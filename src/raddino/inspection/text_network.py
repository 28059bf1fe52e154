"""The two small networks of the built-in text detector, in NumPy: which strokes are text, and what a word says.

Trained by ``benchmarks/text_train.py``; weights and training record ship as ``text_networks.npz``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from raddino.inspection.text_strokes import Strokes

ROWS, COLUMNS = 16, 64
DILATIONS = (1, 2, 4)


@cache
def weights() -> dict[str, np.ndarray]:
    """The arrays of ``text_networks.npz`` as float32, keyed ``cells.*`` and ``words.*``."""
    with (files("raddino.inspection") / "text_networks.npz").open("rb") as stream, np.load(stream) as arrays:
        return {k: arrays[k].astype(np.float32) for k in arrays.files if k != "record"}


@cache
def record() -> dict[str, Any]:
    """What the networks were trained on, and how."""
    with (files("raddino.inspection") / "text_networks.npz").open("rb") as stream, np.load(stream) as arrays:
        return json.loads(bytes(arrays["record"]).decode())


def _convolved(x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: int) -> np.ndarray:
    """ReLU of a convolution of (N, H, W, C) by (k, k, C, D), padded by k // 2, as one product."""
    k = w.shape[0]
    wide = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    n, rows, columns = x.shape[0], -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    parts = [
        wide[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
        for i in range(k)
        for j in range(k)
    ]
    flat = np.concatenate(parts, axis=3).reshape(n * rows * columns, -1)
    return np.maximum(flat @ w.reshape(-1, w.shape[3]) + b, 0).reshape(n, rows, columns, -1)


def _halving(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """As :func:`_convolved` with stride 2, for one image as planes: (C, H, W) of even sides to (D, H / 2, W / 2)."""
    k, reach = w.shape[0], w.shape[0] // 2
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    wide = np.pad(x, ((0, 0), (reach, reach + 1), (reach, reach + 1)))
    phases = [[np.ascontiguousarray(wide[:, i::2, j::2]) for j in range(2)] for i in range(2)]
    taps = np.empty((k, k, len(x), rows, columns), dtype=np.float32)
    for i in range(k):
        for j in range(k):
            taps[i, j] = phases[i % 2][j % 2][:, i // 2 : i // 2 + rows, j // 2 : j // 2 + columns]
    out = w.reshape(-1, w.shape[3]).T @ taps.reshape(-1, rows * columns)
    out += b[:, None]
    return np.maximum(out, 0, out=out).reshape(-1, rows, columns)


def text_cells(strokes: Strokes) -> np.ndarray:
    """Logit of being text for each cell of 4 by 4 pixels, (H / 4, W / 4) float32; ``-inf`` without a stroke.

    Past the first two layers only cells with strokes are computed; the others are zero.
    """
    w = weights()
    active = strokes.cells
    out = np.full(active.shape, -np.inf, dtype=np.float32)
    if not active.any():
        return out
    x = np.stack([strokes.bright, strokes.dark])
    x = _halving(_halving(x, w["cells.0.w"], w["cells.0.b"]), w["cells.1.w"], w["cells.1.b"])
    edge = max(DILATIONS)
    across = active.shape[1] + 2 * edge
    rows, columns = np.nonzero(active)
    at = (rows + edge) * across + columns + edge
    grid = np.zeros(((active.shape[0] + 2 * edge) * across, len(x)), dtype=np.float32)
    grid[at] = x[:, rows, columns].T
    for layer, d in enumerate(DILATIONS, start=2):
        near = np.concatenate([grid[at + (i * across + j) * d] for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=1)
        kernel = w[f"cells.{layer}.w"]
        values = np.maximum(near @ kernel.reshape(-1, kernel.shape[3]) + w[f"cells.{layer}.b"], 0)
        grid = np.zeros((len(grid), values.shape[1]), dtype=np.float32)
        grid[at] = values
    out[active] = grid[at] @ w["cells.5.w"] + w["cells.5.b"]
    return out


def word_probabilities(patches: np.ndarray, aspects: np.ndarray) -> np.ndarray:
    """Softmax over the classes of ``record()["classes"]`` for (N, 16, 64, 2) patches, (N, classes) float32.

    ``aspects`` (N,) is width by height before the patch was made 16 by 64.
    """
    w = weights()
    x = patches.astype(np.float32)
    for layer in range(3):
        x = _convolved(x, w[f"words.{layer}.w"], w[f"words.{layer}.b"], 2)
    flat = np.concatenate([x.reshape(len(x), -1), np.log(aspects)[:, None].astype(np.float32)], axis=1)
    hidden = np.maximum(flat @ w["words.3.w"] + w["words.3.b"], 0)
    logits = hidden @ w["words.4.w"] + w["words.4.b"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
