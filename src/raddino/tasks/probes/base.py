"""What every probe shares: its configuration, its face, the check of its input, and selection on validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import numpy as np
import torch
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from raddino.config import Config, validate
from raddino.errors import ConfigError, RaddinoError
from raddino.metrics import ranking
from raddino.registry import Registry

if TYPE_CHECKING:
    from raddino.encoders.base import Encoder

Loss = Literal["logistic", "softmax", "squared"]
"""Binary labels side by side, the classes of one label, or numbers."""
Criterion = Literal["loss", "auroc", "auprc", "mae"]
APPLIES: dict[Loss, tuple[Criterion, ...]] = {
    "logistic": ("loss", "auroc", "auprc"),
    "softmax": ("loss", "auroc", "auprc"),
    "squared": ("loss", "mae"),
}
CHUNK = 4096


class ProbeConfig(Config):
    """What the settings of all kinds of probe have in common; ``kind`` names one of :data:`PROBES`.

    Attributes:
        kind: of the probe.
        features: what of the encoder is read: the CLS embedding, the mean of the patch tokens, both, means of the
            patch tokens in 4 x 4 places (:class:`raddino.encoders.laid_out.LaidOut`), or all patches.
        flips: whether features are the average over an image and its mirror image (see
            :class:`raddino.encoders.flipped.Flipped`).
        criterion: what chooses on validation images. A criterion that a loss does not know (``"mae"`` of a
            binary label) gives way to that loss; rows name the one that was used.
    """

    kind: str
    features: Literal["cls", "mean_patch", "both", "grid", "patches"] = "cls"
    flips: bool = False
    criterion: Criterion = "loss"

    def rule(self, loss: Loss) -> Criterion:
        """The criterion that chooses for ``loss``."""
        return self.criterion if self.criterion in APPLIES[loss] else "loss"

    def record(self, loss: Loss, **chosen: Any) -> dict[str, Any]:
        """What a row of results says of the probe: kind, input and the ``chosen`` hyperparameters."""
        shared = {"probe": self.kind, "features": self.features, "criterion": self.rule(loss)}
        return shared | ({"flips": True} if self.flips else {}) | chosen


class Probe(Protocol):
    """A fitted probe of T outputs.

    Attributes:
        chosen: per output what :meth:`ProbeConfig.record` gives.
    """

    @property
    def chosen(self) -> list[dict[str, Any]]: ...

    def predict(self, features: Any) -> np.ndarray:
        """(N, D) features, or (N, H, W, D) patches, to (S, N, T) float64: logits or numbers of S seeds."""
        ...


@dataclass(frozen=True)
class Request:
    """What a probe is asked beside the data.

    Attributes:
        loss: see :data:`Loss`.
        labels: names of the T outputs: findings, or the classes of one label.
        seed: of initial weights and batch order.
        device: where it is trained.
        encoder: whose features are probed; zero-shot asks it for text.
    """

    loss: Loss
    labels: tuple[str, ...] = ()
    seed: int = 0
    device: str = "auto"
    encoder: Encoder | None = None

    def name(self, output: int) -> str:
        """How errors call an output."""
        return self.labels[output] if output < len(self.labels) else f"label {output}"


Split = tuple[Any, np.ndarray]
"""Features (N, D) or patches (N, H, W, D), and targets (N, T): 0 and 1, one-hot rows, or numbers."""


@dataclass(frozen=True)
class Method:
    """A kind of probe. ``fit(train, val, config, request)`` never sees a test image."""

    config: type[ProbeConfig]
    fit: Callable[[Split, Split, Any, Request], Probe]


PROBES: Registry[Method] = Registry("probe")


def parse_probe(value: Any) -> ProbeConfig:
    """A config from itself, from a kind (``"knn"``) or from a mapping with ``kind`` (``"linear"`` by default).

    Raises:
        RaddinoError: unknown kind, key or value; one line, with the nearest known name.
    """
    if isinstance(value, ProbeConfig):
        return value
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"a probe is a kind ({', '.join(PROBES)}) or settings with a kind, got {value!r}")
    kind = value.get("kind", "linear")
    return validate(PROBES[str(kind)].config, dict(value))


ProbeSetting = Annotated[SerializeAsAny[ProbeConfig], BeforeValidator(parse_probe)]
"""Type of a config field that takes any kind of probe."""


def check(part: str, split: Split, request: Request) -> None:
    """Refuse what would spoil a fit.

    Raises:
        RaddinoError: no images, counts that differ, or features or targets that are not finite or not 0 and 1.
    """
    x, y = split
    if not len(y) or len(x) != len(y) or y.ndim != 2:
        raise RaddinoError(f"{part} images of the probe: {len(x)} features and targets of shape {y.shape}")
    check_finite(x, part)
    for output, column in enumerate(y.T):
        if not np.isfinite(column).all():
            raise RaddinoError(f"{request.name(output)}: a {part} target is missing; leave the image out")
        if request.loss != "squared" and not np.isin(column, (0, 1)).all():
            raise RaddinoError(f"{request.name(output)}: a {part} target is neither 0 nor 1")
    if request.loss == "softmax" and not (y.sum(1) == 1).all():
        raise RaddinoError(f"{request.name(0)}: a {part} image has not exactly one class")


def check_finite(x: Any, part: str) -> None:
    """Raise RaddinoError where features (N, ...) hold NaN or infinity."""
    for start in range(0, len(x), CHUNK):
        if not np.isfinite(x[start : start + CHUNK]).all():
            raise RaddinoError(f"{part} features hold NaN or infinity: embed again, or leave the encoder out")


def loss_of(output: Tensor, target: Tensor, loss: Loss) -> Tensor:
    """(..., T) losses of outputs (..., T); softmax has one for all its classes, (..., 1)."""
    if loss == "squared":
        return (output - target).square()
    if loss == "softmax":
        return output.logsumexp(-1, keepdim=True) - (target * output).sum(-1, keepdim=True)
    return torch.nn.functional.softplus(output) - target * output


def choose(outputs: Iterable[Tensor], target: Tensor, loss: Loss, criterion: Criterion) -> list[int]:
    """Per output the best of C settings on validation images, the criterion averaged over seeds.

    Args:
        outputs: of each seed (N, C, T).
        target: (N, T).
        loss: the classes of a softmax share their setting.
        criterion: one of ``APPLIES[loss]``.

    Raises:
        RaddinoError: no setting has a finite value.
    """
    values = [badness_of(output, target, loss, criterion) for output in outputs]
    badness = torch.stack(values).mean(0).nan_to_num(nan=torch.inf)  # (C, T)
    if badness.amin(0).isinf().any():
        reason = "every setting diverged; lower the learning rates"
        raise RaddinoError(reason if criterion == "loss" else f"{criterion} is not defined on validation, or {reason}")
    return badness.argmin(0).expand(target.shape[1]).tolist()


def badness_of(output: Tensor, target: Tensor, loss: Loss, criterion: Criterion) -> Tensor:
    """(C, T) of one seed, or (C, 1) for softmax; lower is better."""
    if criterion == "loss":
        return loss_of(output, target.unsqueeze(1), loss).mean(0)
    if criterion == "mae":
        return (output - target.unsqueeze(1)).abs().mean(0)
    metric = {"auroc": ranking.auroc, "auprc": ranking.auprc}[criterion]
    score = (output.softmax(-1) if loss == "softmax" else output).double().cpu().numpy()
    y = target.double().cpu().numpy()
    finite = np.isfinite(score).all(0)
    values = [
        [float(metric(y[:, t], score[:, c, t])) if finite[c, t] else np.nan for t in range(y.shape[1])]
        for c in range(score.shape[1])
    ]
    badness = -torch.tensor(values, dtype=torch.float64, device=output.device)
    return badness.nanmean(1, keepdim=True) if loss == "softmax" else badness


def standardise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, D) at mean 0 and SD 1, with the mean and the SD (D,), infinite for constant features."""
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 1e-5 * mean.abs(), scale, torch.inf)
    return (x - mean) / scale, mean, scale


@dataclass(frozen=True)
class LinearMap:
    """A fitted linear probe: outputs = features @ weight + bias.

    Attributes:
        weight: (S, D, T) float64, acting on features as the encoder gives them.
        bias: (S, 1, T) float64.
        chosen: see :class:`Probe`.
    """

    weight: np.ndarray
    bias: np.ndarray
    chosen: list[dict[str, Any]]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(N, D) to (S, N, T). Raises RaddinoError for another D or values that are not finite."""
        seeds, width, outputs = self.weight.shape
        if features.ndim != 2 or features.shape[1] != width:
            raise RaddinoError(f"the probe was fitted on {width} features, got an array of shape {features.shape}")
        check_finite(features, "predicted")
        flat = self.weight.transpose(1, 0, 2).reshape(width, -1)
        parts = [features[at : at + CHUNK].astype(np.float64) @ flat for at in range(0, max(1, len(features)), CHUNK)]
        return np.concatenate(parts).reshape(-1, seeds, outputs).transpose(1, 0, 2) + self.bias
