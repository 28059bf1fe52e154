"""A linear probe on disk: weights as safetensors, and a sealed JSON file that says what they are for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.special import expit, softmax

from raddino.errors import RaddinoError
from raddino.files import draft_of, read_json, sha256, write_json

FORMAT = 1
ABOUT, WEIGHTS = "probe.json", "probe.safetensors"
AGAIN = "copy the folder again, or run 'raddino evaluate' again"
NOT_CLINICAL = "not for clinical use"


class ProbeRecord(BaseModel):
    """What :data:`ABOUT` says.

    Attributes:
        task, target, kind: of the task.
        positive: the value of ``target`` that counts as 1; None where it holds 0 and 1, or numbers.
        classes: of a multiclass task.
        encoder: its display name; fingerprint: of weights and preprocessing; spec: see
            :func:`~raddino.encoders.kept_spec.kept_spec`, None where nothing is kept.
        features, flips, precision: what is read of the encoder, and how it is computed.
        shorter_side, bits: of the corpus that was trained on; None where that is not known.
        temperature: by which outputs are divided before they become probabilities; 1 for numbers.
        thresholds: by name, probabilities (after the temperature) that validation images chose.
        sources: trained on; scope: see :class:`raddino.metrics.signature.Signature`.
        corpus: its fingerprint.
        images: by split, how many were used.
        signature: of the first number that was measured with it on the test split.
        sha256: of :data:`WEIGHTS`.
        note: :data:`NOT_CLINICAL`.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    task: str
    target: str
    kind: Literal["binary", "multiclass", "regression"]
    positive: str | float | None
    classes: list[str]
    encoder: str
    fingerprint: str
    spec: str | None
    features: Literal["cls", "mean_patch", "both", "grid"]
    flips: bool
    precision: Literal["fp32", "bf16"]
    shorter_side: int | None = Field(ge=1)
    bits: Literal[8, 16]
    temperature: float
    thresholds: dict[str, float]
    sources: list[str]
    scope: str
    corpus: str
    images: dict[str, int]
    signature: str
    sha256: str = ""
    note: str = NOT_CLINICAL


@dataclass(frozen=True)
class KeptProbe:
    """The mean of a linear probe's seeds, which acts on features as the encoder gives them.

    Attributes:
        weight: (D, T) float64; standardisation is folded in.
        bias: (T,) float64.
        record: see :class:`ProbeRecord`.
    """

    weight: np.ndarray
    bias: np.ndarray
    record: ProbeRecord

    def outputs(self, features: np.ndarray) -> np.ndarray:
        """Features (N, D) to logits or numbers (N, T).

        Raises:
            RaddinoError: another D.
        """
        if features.ndim != 2 or features.shape[1] != len(self.weight):
            raise RaddinoError(
                f"the probe {self.record.task!r} reads {len(self.weight)} features, got an array of shape "
                f"{features.shape}"
            )
        return features.astype(np.float64) @ self.weight + self.bias

    def answers(self, features: np.ndarray, *, calibrated: bool = True) -> np.ndarray:
        """Features (N, D) to probabilities (N, T), with or without the temperature, or to numbers (N, 1)."""
        outputs = self.outputs(features)
        if self.record.kind == "regression":
            return outputs
        scaled = outputs / self.record.temperature if calibrated else outputs
        return softmax(scaled, axis=-1) if self.record.kind == "multiclass" else expit(scaled)

    def save(self, folder: Path) -> None:
        """Write weights, then :data:`ABOUT`, which makes the folder a probe."""
        with draft_of(folder / WEIGHTS) as draft:
            save_file({"weight": np.ascontiguousarray(self.weight), "bias": np.ascontiguousarray(self.bias)}, draft)
        record = self.record.model_copy(update={"sha256": sha256(folder / WEIGHTS)})
        write_json(folder / ABOUT, {"format": FORMAT, **record.model_dump()})

    @classmethod
    def load(cls, folder: str | Path) -> KeptProbe:
        """Read a folder that :meth:`save` wrote.

        Raises:
            RaddinoError: no probe, a damaged one, or one of another format.
        """
        folder = Path(folder)
        record = _record(folder)
        file = folder / WEIGHTS
        if not file.is_file():
            raise RaddinoError(f"{folder} lacks {WEIGHTS}: {AGAIN}")
        if sha256(file) != record.sha256:
            raise RaddinoError(f"{file} is damaged or not the file that {ABOUT} describes: {AGAIN}")
        try:
            held = load_file(file)
        except (OSError, SafetensorError):
            raise RaddinoError(f"{file} cannot be read as safetensors: {AGAIN}") from None
        weight, bias = held.get("weight"), held.get("bias")
        outputs = len(record.classes) if record.kind == "multiclass" else 1
        if (
            weight is None
            or bias is None
            or weight.ndim != 2
            or weight.shape[1:] != (outputs,)
            or bias.shape != (outputs,)
        ):
            raise RaddinoError(f"{file} holds no weights of {outputs} outputs: {AGAIN}")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise RaddinoError(f"{file} holds weights that are not finite: {AGAIN}")
        return cls(weight, bias, record)


def _record(folder: Path) -> ProbeRecord:
    file = folder / ABOUT
    if not file.is_file():
        raise RaddinoError(
            f"{folder} holds no probe (no {ABOUT}); 'raddino evaluate' writes linear and logistic ones to "
            "probes/TASK/ENCODER in its results folder"
        )
    said: dict[str, Any] = read_json(file, AGAIN, sealed=True)
    version = said.pop("format", None)
    if version != FORMAT:
        raise RaddinoError(f"{folder} is a probe of format {str(version)[:40]}; this version reads {FORMAT}: {AGAIN}")
    try:
        record = ProbeRecord.model_validate(said)
    except ValidationError as error:
        where = ".".join(str(part)[:40] for part in error.errors()[0]["loc"])
        raise RaddinoError(f"{file} is damaged ({where}: {error.errors()[0]['msg']}): {AGAIN}") from None
    if not record.temperature > 0 or (record.kind == "multiclass") != bool(record.classes):
        raise RaddinoError(f"{file} is damaged (temperature or classes): {AGAIN}")
    return record
