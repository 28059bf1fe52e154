"""How sure a small head on ``raddino-tiny`` is that a picture was moved, is tilted, and what view it shows.

One number says how much a picture looks like an upright frontal radiograph. A stored picture is scored after each of
the sixteen moves was undone; a softmax over these scores is the probability of each move. So turning the input turns
the answer, and the head need not learn the moves one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raddino.encoders.base import Encoder
from raddino.inspection.moves import MOVES, VIEWS

SHIPPED = Path(__file__).parent / "shipped" / "geometry" / "head.safetensors"
ENCODER = "raddino-tiny"
POOLED = 4
"""Cells on a side over which patch tokens are averaged."""


@dataclass(frozen=True)
class Seen:
    """What the head says of N pictures.

    Attributes:
        moves: (N, 16) probabilities, in the order of :data:`~raddino.inspection.moves.MOVES`.
        views: (N, 4) probabilities of :data:`VIEWS`, of the picture with its likeliest move undone.
        tilt: (N,) degrees clockwise by which it is turned beyond that move.
    """

    moves: np.ndarray
    views: np.ndarray
    tilt: np.ndarray


class Head(nn.Module):
    """From features (…, D) to how upright, which view, and the tilt in degrees.

    Args:
        width: D.
        hidden: width of the one hidden layer of each part.
    """

    mean: Tensor
    scale: Tensor
    temperature: Tensor

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("temperature", torch.ones(2))
        self.upright, self.view, self.tilt = (_part(width, hidden, outputs) for outputs in (1, len(VIEWS), 1))

    def normalise(self, features: Tensor) -> Tensor:
        """Features of mean 0 and deviation 1 over the training images."""
        return (features - self.mean) / self.scale

    def save(self, path: Path) -> None:
        """Write the weights."""
        save_file({name: weight.contiguous() for name, weight in self.state_dict().items()}, path)

    @classmethod
    def load(cls, path: Path = SHIPPED) -> Head:
        """Read what :meth:`save` wrote."""
        weights = load_file(path)
        head = cls(len(weights["mean"]), len(weights["upright.1.bias"]))
        head.load_state_dict(weights)
        return head.eval()

    @torch.inference_mode()
    def look(self, features: Tensor) -> Seen:
        """What is seen in pictures with ``features`` (N, 16, D), the moves undone one after the other."""
        normal = self.normalise(features.float())
        scores = self.upright(normal).squeeze(-1) / self.temperature[0]
        best = normal[torch.arange(len(normal)), scores.argmax(1)]
        views = (self.view(best) / self.temperature[1]).softmax(1)
        return Seen(scores.softmax(1).numpy(), views.numpy(), self.tilt(best).squeeze(-1).numpy())


def _part(width: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(0.3), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.3), nn.Linear(hidden, outputs)
    )


@cache
def encoder() -> Encoder:
    """The shipped encoder, loaded once a process."""
    from raddino.encoders.load import load_encoder

    return load_encoder(ENCODER, device="cpu")


@cache
def shipped_head() -> Head:
    """The shipped head, loaded once a process."""
    return Head.load()


@torch.inference_mode()
def features(images: Sequence[np.ndarray]) -> Tensor:
    """(N, 16, D) of pictures (H, W) uint8 or uint16 with each move undone: class token and pooled patch tokens."""
    found = []
    for image in images:
        both = encoder().preprocess([image, np.iinfo(image.dtype).max - image])
        turned = [torch.rot90(both[int(move.inverted)], move.quarters, (-2, -1)) for move in MOVES]
        encoded = encoder().encode(
            torch.stack([x.flip(-1) if move.mirrored else x for move, x in zip(MOVES, turned, strict=True)])
        )
        assert encoded.patches is not None
        n, side, _, width = encoded.patches.shape
        cell = side // POOLED
        patches = encoded.patches.reshape(n, POOLED, cell, POOLED, cell, width).mean((2, 4)).reshape(n, -1)
        found.append(torch.cat([encoded.cls, patches], 1))
    return torch.stack(found)


def look(images: Sequence[np.ndarray]) -> Seen:
    """What the shipped head sees in pictures (H, W) uint8 or uint16."""
    return shipped_head().look(features(images))
