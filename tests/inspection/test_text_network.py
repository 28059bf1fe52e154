"""The networks in NumPy against the same layers in torch."""

import numpy as np
import torch
import torch.nn.functional as F

from burned_text import chestlike, drawn
from raddino.inspection.text_network import DILATIONS, record, text_cells, weights, word_probabilities
from raddino.inspection.text_regions import MARKERS
from raddino.inspection.text_strokes import strokes


def layer(x: torch.Tensor, name: str, stride: int = 1, dilation: int = 1) -> torch.Tensor:
    kernel, bias = (torch.from_numpy(weights()[f"{name}.{part}"]) for part in "wb")
    padding = kernel.shape[0] // 2 * dilation
    return F.relu(F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, stride, padding, dilation))


def test_cells_are_those_of_masked_convolutions():
    image, _ = drawn(chestlike(), "Ann 12", (30, 200))
    s = strokes(image)
    assert 0 < s.cells.mean() < 1
    mask = torch.from_numpy(s.cells.astype(np.float32))
    x = layer(layer(torch.from_numpy(np.stack([s.bright, s.dark]))[None], "cells.0", 2), "cells.1", 2) * mask
    for k, dilation in enumerate(DILATIONS, start=2):
        x = layer(x, f"cells.{k}", dilation=dilation) * mask
    w, b = weights()["cells.5.w"], weights()["cells.5.b"]
    wanted = (x[0].permute(1, 2, 0) @ torch.from_numpy(w) + b.item()).numpy()
    found = text_cells(s)
    np.testing.assert_allclose(found[s.cells], wanted[s.cells], atol=2e-4)
    assert (found[~s.cells] == -np.inf).all()


def test_no_strokes_no_text():
    assert (text_cells(strokes(np.full((32, 32), 9, np.uint8))) == -np.inf).all()


def test_words_are_those_of_torch():
    rng = np.random.default_rng(0)
    patches, aspects = rng.random((5, 16, 64, 2), dtype=np.float32), rng.uniform(0.3, 9, 5)
    x = torch.from_numpy(patches).permute(0, 3, 1, 2)
    for k in range(3):
        x = layer(x, f"words.{k}", 2)
    flat = torch.cat([x.permute(0, 2, 3, 1).flatten(1), torch.from_numpy(np.log(aspects)).float()[:, None]], dim=1)
    arrays = {k: torch.from_numpy(v) for k, v in weights().items() if k.startswith("words")}
    hidden = F.relu(flat @ arrays["words.3.w"] + arrays["words.3.b"])
    wanted = torch.softmax(hidden @ arrays["words.4.w"] + arrays["words.4.b"], dim=1).numpy()
    np.testing.assert_allclose(word_probabilities(patches, aspects), wanted, atol=1e-4)


def test_the_record_names_the_classes_and_what_was_seen():
    classes = record()["classes"]
    assert set(classes) >= MARKERS | {"other", "nothing"}
    assert len(classes) == len(set(classes)) == len(weights()["words.4.b"])
    assert {"images", "fonts", "command"} <= set(record())
