"""Is the encoder learning, or collapsing? Looked at every so often on a fixed set of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from raddino.config import Config
from raddino.corpus.dataset import Corpus
from raddino.dist import all_mean
from raddino.encoders.ours import VitEncoder
from raddino.errors import RaddinoError
from raddino.metrics.ranking import auroc
from raddino.ssl.losses import nearest_other
from raddino.training.step import StepOutcome
from raddino.views.randomness import generator

NEIGHBOURS = 10
EARLY = "too early to tell"
RARE = 8
UNIFORM = 0.995
"""Share of ln K above which a distribution over prototypes carries no information."""
CERTAIN = 0.02
"""Share of ln K below which the mean distribution over prototypes means that all images share one."""
ALIKE = 0.995
"""Mean pairwise cosine above which features no longer tell images apart."""
RANK_LOSS = 0.25
"""Share of the best effective rank so far below which the rank is collapsing."""
LOCALITY_LOSS = 0.5
"""Share of the best patch locality so far below which patch features degrade."""


class MonitorConfig(Config):
    """How often and on what the monitor looks.

    Attributes:
        every: steps between looks; the first look is after the first step.
        images: size of the fixed set, drawn from the images trained on.
        labels: manifest columns that a kNN probe predicts; empty means sex and the commonest labels.
        patience: steps during which an early state is not called a collapse.
    """

    every: int = Field(100, gt=0)
    images: int = Field(256, ge=16)
    labels: tuple[str, ...] = ()
    patience: int = Field(100, ge=0)


@dataclass(frozen=True)
class Probe:
    """One binary target on the monitored images: (N,) of 0, 1 and NaN for unknown."""

    name: str
    target: np.ndarray


class Monitor:
    """Looks at one fixed set of images, always with the teacher."""

    def __init__(self, config: MonitorConfig, corpus: Corpus, rows: np.ndarray, seed: int) -> None:
        self.config = config
        chosen = generator(seed, "probe").permutation(len(rows))[: config.images]
        self.rows = rows[np.sort(chosen)]
        self.images = [corpus.read(int(row)) for row in self.rows]
        table = corpus.manifest.iloc[self.rows]
        patients = table["patient"].to_numpy()
        self.strangers = patients[:, None] != patients[None, :]
        self.probes = _probes(table, config.labels)
        self.best_rank = self.best_locality = 0.0

    def look(self, encoder: VitEncoder, batch_size: int = 64) -> dict[str, float]:
        """Statistics of the class and patch tokens' features of the fixed set.

        Returns:
            ``effective_rank`` (1..D, RankMe: exponential of the entropy of the singular values of the centred
            features), ``mean_cosine`` (-1..1, over pairs of images), ``koleo_distance`` (0..2, mean distance to
            the nearest other unit-length feature), ``cls_patch_cosine`` and ``patch_locality`` (:func:`patch_quality`),
            and ``knn_<label>`` (AUROC of a 10-nearest-neighbour vote among images of other patients).
        """
        parts, quality = [], []
        for start in range(0, len(self.images), batch_size):
            found = encoder.encode(encoder.preprocess(self.images[start : start + batch_size]))
            assert found.patches is not None
            parts.append(found.cls)
            quality.append(patch_quality(found.cls, found.patches))
        features = torch.cat(parts).double()
        if not features.isfinite().all():
            raise RaddinoError("the teacher's features are not finite: lower schedule.lr; the last checkpoint is sound")
        unit = normalize(features, dim=-1)
        cls_patch_cosine, patch_locality = torch.cat(quality, dim=1).mean(1).tolist()
        values = {
            "effective_rank": effective_rank(features),
            "mean_cosine": mean_cosine(unit),
            "koleo_distance": (unit - unit[nearest_other(unit)]).norm(dim=-1).mean().item(),
            "cls_patch_cosine": cls_patch_cosine,
            "patch_locality": patch_locality,
        }
        similarity = np.where(self.strangers, (unit @ unit.T).numpy(), -np.inf)
        for probe in self.probes:
            values[f"knn_{probe.name}"] = knn_auroc(similarity, probe.target)
        return values

    def restore(self, lines: list[dict]) -> None:
        """Take up the best rank and locality of an earlier part of the run from its metrics."""

        def best(name: str) -> float:
            values = [line.get(name) for line in lines if line["step"] >= self.config.patience]
            return max((value for value in values if isinstance(value, int | float)), default=0.0)

        self.best_rank, self.best_locality = best("effective_rank"), best("patch_locality")

    def judge(self, step: int, values: dict[str, float]) -> str:
        """``"healthy"``, what is wrong and what to do (:func:`verdict`), or before ``patience`` :data:`EARLY`."""
        if step < self.config.patience:
            return EARLY
        words = verdict(values, self.best_rank, self.best_locality)
        self.best_rank = max(self.best_rank, values["effective_rank"])
        self.best_locality = max(self.best_locality, values["patch_locality"])
        return words


def assignments(outcome: StepOutcome, student_temperature: float) -> dict[str, float]:
    """Entropies in nats of the distributions over prototypes that one step's global views got, on all ranks.

    Returns:
        ``student_entropy`` and ``teacher_entropy``: of the mean distribution, ln K when all prototypes are used
        alike, 0 when all images share one; ``student_sharpness_entropy`` and ``teacher_sharpness_entropy``: mean
        over images of each one's own, ln K when it says nothing; ``log_prototypes``: ln K.
    """
    student = (outcome.predictions.float() / student_temperature).softmax(-1)
    found = {"log_prototypes": math.log(student.shape[-1])}
    for side, p in (("student", student), ("teacher", outcome.targets.float())):
        found[f"{side}_entropy"] = _entropy(all_mean(p.mean(0))).item()
        found[f"{side}_sharpness_entropy"] = all_mean(_entropy(p).mean()).item()
    return found


def verdict(values: dict[str, float], best_rank: float, best_locality: float) -> str:
    """Name a collapse, or patch features that degrade, by the signs, with the remedy; ``"healthy"`` without one."""
    top = values["log_prototypes"]
    remedy = "use Sinkhorn-Knopp with fewer prototypes (--preset small-batch), a larger batch or a lower learning rate"
    if values["teacher_sharpness_entropy"] > UNIFORM * top:
        return f"collapse: the teacher's targets are uniform and teach nothing (entropy at ln K = {top:.2f}); {remedy}"
    if values["teacher_entropy"] < CERTAIN * top or values["student_entropy"] < CERTAIN * top:
        return f"collapse: all images share one prototype (entropy at 0); {remedy}"
    if values["mean_cosine"] > ALIKE:
        return f"collapse: features of different images are alike (mean cosine {values['mean_cosine']:.3f}); {remedy}"
    if values["effective_rank"] < RANK_LOSS * best_rank:
        return (
            f"collapsing: effective rank fell from {best_rank:.1f} to {values['effective_rank']:.1f}; "
            f"{remedy}, or raise koleo_weight"
        )
    if values["patch_locality"] < LOCALITY_LOSS * best_locality:
        return (
            f"patch features degrade: their locality fell from {best_locality:.3f} to {values['patch_locality']:.3f}; "
            "go on from an earlier checkpoint with ssl.gram.weight=2, or stop earlier"
        )
    return "healthy"


def patch_quality(cls: Tensor, patches: Tensor) -> Tensor:
    """How much each image's patches say of their own places, from cls (B, D) and patches (B, H, W, D).

    Returns:
        (2, B). First the mean cosine of the class token with the patches: DINOv3 (arXiv 2508.10104, section
        4.1) saw it rise while segmentation by patches got worse. Then the patches' locality: the mean cosine of patches
        that touch by a side, less that of all pairs of patches. It is 0 of patches that are all alike or at random.
    """
    unit = normalize(patches, dim=-1)
    with_cls = (unit * normalize(cls, dim=-1)[:, None, None]).sum(-1).mean((1, 2))
    below, beside = (unit[:, 1:] * unit[:, :-1]).sum(-1), (unit[:, :, 1:] * unit[:, :, :-1]).sum(-1)
    touching = torch.cat([below.flatten(1), beside.flatten(1)], dim=1).mean(1)
    count = unit.shape[1] * unit.shape[2]
    pairs = (unit.sum((1, 2)).square().sum(-1) - count) / (count * (count - 1))
    return torch.stack([with_cls, touching - pairs])


def effective_rank(features: Tensor) -> float:
    """RankMe (arXiv 2210.02885) of centred features (N, D): exp of the entropy of the normalised singular values."""
    singular = torch.linalg.svdvals(features - features.mean(0))
    if singular.sum() == 0:
        return 0.0
    return _entropy(singular / singular.sum()).exp().item()


def mean_cosine(unit: Tensor) -> float:
    """Mean cosine over pairs of different rows of unit-length features (N, D)."""
    count = len(unit)
    return ((unit.sum(0) ** 2).sum().item() - count) / (count * (count - 1))


def knn_auroc(similarity: np.ndarray, target: np.ndarray) -> float:
    """AUROC of the similarity-weighted vote of the 10 most similar labelled images, NaN without both classes.

    Args:
        similarity: (N, N) cosines, ``-inf`` where a pair must not vote.
        target: (N,) of 0, 1 and NaN.
    """
    known = ~np.isnan(target)
    labels, near = target[known], similarity[np.ix_(known, known)]
    if len(set(labels)) < 2:
        return float("nan")
    order = np.argsort(-near, axis=1, kind="stable")[:, :NEIGHBOURS]
    weights = np.maximum(np.take_along_axis(near, order, axis=1), 0)
    votes = (weights * labels[order]).sum(1) / np.maximum(weights.sum(1), 1e-12)
    return float(auroc(labels, votes))


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


def _probes(table, wanted: tuple[str, ...]) -> list[Probe]:
    columns = list(wanted) or ["sex", *sorted(c for c in table.columns if c.startswith("label_"))]
    probes = []
    for column in columns:
        values = table[column]
        target = values.map({"F": 1.0, "M": 0.0}) if column == "sex" else values.astype(float)
        array = target.to_numpy(dtype=float)
        if min((array == 1).sum(), (array == 0).sum()) >= RARE:
            probes.append(Probe(column.removeprefix("label_"), array))
    balance = [abs(np.nanmean(p.target) - 0.5) for p in probes]
    return [probes[i] for i in np.argsort(balance, kind="stable")[: None if wanted else 4]]
