"""Nearest neighbours by cosine similarity: what features say before anything is trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from raddino.device import resolve_device
from raddino.errors import RaddinoError
from raddino.tasks.probes.base import PROBES, Loss, Method, ProbeConfig, Request, Split, check, check_finite, choose

QUERIES = 512


class KNNConfig(ProbeConfig):
    """Weighted vote of the k most similar training images (Wu et al. 2018, section 3.4).

    Attributes:
        neighbours: grid of k; larger than the training set means all of it.
        temperatures: grid of T in the weight exp(cosine / T).
    """

    kind: Literal["knn"] = "knn"
    features: Literal["cls", "mean_patch", "both", "grid"] = "cls"
    neighbours: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 5, 10, 20, 50, 100, 200)
    temperatures: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.02, 0.07, 0.2, 1.0)

    @property
    def grid(self) -> list[tuple[int, float]]:
        """All (k, temperature) pairs in the order of the votes."""
        return [(k, temperature) for temperature in self.temperatures for k in self.neighbours]


@dataclass(frozen=True)
class Neighbours:
    """Training images that vote.

    Numbers are the weighted mean of the neighbours' numbers. Of labels, one pseudo-neighbour votes beside them:
    as near as the nearest and of the training prevalence, so that no probability is 0 or 1.

    Attributes:
        bank: (N, D) unit vectors.
        target: (N, T).
        prior: (T,) training prevalence, (positives + 1/2) / (N + 1); (n + 1/T) / (N + 1) of T classes.
        loss: which outputs are made of the votes: logits, log-probabilities or numbers.
        settings: per output (k, temperature).
        chosen: see :class:`~raddino.tasks.probes.base.Probe`.
    """

    bank: Tensor
    target: Tensor
    prior: Tensor
    loss: Loss
    settings: list[tuple[int, float]]
    chosen: list[dict[str, Any]]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(N, D) to (1, N, T). Raises RaddinoError for another D or values that are not finite."""
        if features.ndim != 2 or features.shape[1] != self.bank.shape[1]:
            raise RaddinoError(
                f"the probe was fitted on {self.bank.shape[1]} features, got an array of shape {features.shape}"
            )
        check_finite(features, "predicted")
        distinct = sorted(set(self.settings))
        votes = self.vote(features, distinct)
        index = [distinct.index(one) for one in self.settings]
        return votes[:, index, torch.arange(len(index))].double().cpu().numpy()[None]

    def vote(self, features: np.ndarray, settings: list[tuple[int, float]]) -> Tensor:
        """Outputs (N, C, T) of C settings."""
        parts = []
        most = min(max(k for k, _ in settings), len(self.bank))
        for start in range(0, len(features), QUERIES):
            near = (_unit(features[start : start + QUERIES], self.bank.device) @ self.bank.T).topk(most)
            targets, votes = self.target[near.indices], {}  # (n, K, T)
            for temperature in {one for _, one in settings}:
                weight = ((near.values - near.values[:, :1]) / temperature).exp()
                votes[temperature] = weight.cumsum(1), (weight[..., None] * targets).cumsum(1)
            for k, temperature in settings:
                total, agreed = (one[:, min(k, most) - 1] for one in votes[temperature])
                parts.append(self._output(total[:, None], agreed))
        blocks = [torch.stack(parts[i : i + len(settings)], 1) for i in range(0, len(parts), len(settings))]
        return torch.cat(blocks) if blocks else self.target.new_empty(0, len(settings), self.target.shape[1])

    def _output(self, total: Tensor, agreed: Tensor) -> Tensor:
        if self.loss == "squared":
            return agreed / total
        share = (agreed + self.prior) / (total + 1)
        return share.log() if self.loss == "softmax" else torch.logit(share)


def _unit(features: np.ndarray, device: torch.device) -> Tensor:
    return torch.nn.functional.normalize(torch.as_tensor(features, dtype=torch.float64, device=device), dim=1)


def fit_knn(train: Split, val: Split, config: KNNConfig, request: Request) -> Neighbours:
    """Keep the training images and choose k and temperature on validation.

    Raises:
        RaddinoError: features or targets that are not finite.
    """
    for part, split in (("training", train), ("validation", val)):
        check(part, split, request)
    device = resolve_device(request.device)
    y = torch.as_tensor(train[1], dtype=torch.float64, device=device)
    pseudo = 1 / y.shape[1] if request.loss == "softmax" else 0.5
    prior = (y.sum(0) + pseudo) / (len(y) + 1)
    probe = Neighbours(_unit(train[0], device), y, prior, request.loss, [], [])
    val_y = torch.as_tensor(val[1], dtype=torch.float64, device=device)
    best = choose([probe.vote(val[0], config.grid)], val_y, request.loss, config.rule(request.loss))
    settings = [config.grid[index] for index in best]
    chosen = [config.record(request.loss, k=min(k, len(y)), temperature=temperature) for k, temperature in settings]
    return Neighbours(probe.bank, y, prior, request.loss, settings, chosen)


PROBES.register("knn")(Method(KNNConfig, fit_knn))
