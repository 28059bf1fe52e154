"""From series to arms: factors crossed, settings resolved, images counted, and a digest of all that decides them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import Any

import numpy as np

from raddino.benchmark.results import spec_word
from raddino.config import load_config, validate
from raddino.corpus.dataset import Corpus
from raddino.encoders.kept_spec import weights_digest
from raddino.errors import ConfigError, RaddinoError
from raddino.study.data import largest_sources
from raddino.study.settings import Changes, Series, Study
from raddino.training.pretrain import training_rows
from raddino.training.settings import PretrainConfig

FORMAT = 1
"""Of digests; a change of what an arm's folder holds makes it another."""
SEED, FRACTION, SOURCES, PRESET, INIT = "seed", "fraction", "sources", "preset", "init"
DIGITS = 12
LENGTHS = (
    *("warmup_steps", "freeze_last_layer_steps", "freeze_backbone_steps"),
    *("backbone_ramp_steps", "teacher_temperature_steps"),
)
"""Of a schedule, counted in steps."""


@dataclass(frozen=True)
class Arm:
    """One encoder of a study: known by name, or to be trained.

    Attributes:
        series: its name.
        factors: by name of a factor, the label of this arm's value.
        numbers: by name of a factor, the value where it is a number.
        encoder: spec; empty for a training.
        config: of the training; None for an encoder by name.
        sources: that are trained on, see :class:`~raddino.study.settings.Series`.
        images, patients: that are trained on, once counted.
        parameters, flops: of the student, and of the whole training, once counted.
        reason: why it cannot run, in words; empty where it can.
        digest: of all that decides the encoder; arms that share one are one.
    """

    series: str
    factors: dict[str, str]
    numbers: dict[str, float] = field(default_factory=dict)
    encoder: str = ""
    config: PretrainConfig | None = None
    sources: int | tuple[str, ...] | None = None
    images: int = 0
    patients: int = 0
    parameters: int = 0
    flops: float = 0.0
    reason: str = ""
    digest: str = ""

    @property
    def condition(self) -> str:
        """What the arm is a repetition of: its factors without the seed."""
        said = [words(name, label) for name, label in self.factors.items() if name != SEED]
        return ", ".join(said) or self.series

    @property
    def label(self) -> str:
        """The condition, and the seed where it varies."""
        return self.condition + (f", seed {self.factors[SEED]}" if SEED in self.factors else "")

    def at(self, axis: str) -> float | None:
        """Where the arm stands on an axis; None where it has no place on it."""
        own = {"flops": self.flops, "images": self.images, "parameters": self.parameters}
        value = self.numbers.get(axis, own.get(axis))
        return float(value) if value else None


def words(factor: str, label: str) -> str:
    """``fraction 10 %``, ``koleo_weight 0.1``; a label that is no number stands for itself."""
    numeric = label.rstrip(" %").replace(".", "", 1).replace("e-", "", 1).isdigit()
    return f"{factor.rpartition('.')[2]} {label}" if numeric else label


def expand(study: Study) -> list[Arm]:
    """Every arm of every series, in their order, without budget and corpus.

    Raises:
        ConfigError: an unknown setting or value, or two arms of one label in a series.
    """
    arms = [arm for name, series in study.arms.items() for arm in _arms(study, name, series)]
    for name in study.arms:
        labels = [arm.label for arm in arms if arm.series == name]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ConfigError(f"arms.{name}: two arms are called {twice[0]!r}: give factors as LABEL: {{KEY: VALUE}}")
        known = [arm.condition for arm in arms if arm.series == name]
        if study.arms[name].against not in ("", *known):
            raise ConfigError(f"arms.{name}: against {study.arms[name].against!r} is none of {', '.join(known)}")
    return arms


def _arms(study: Study, name: str, series: Series) -> Iterator[Arm]:
    if series.encoders:
        for label, spec in series.encoders.items():
            yield Arm(name, {"encoder": label}, encoder=spec)
        return
    for chosen in product(*(_levels(factor, levels) for factor, levels in series.vary.items())):
        changes: Changes = _flat(study.set) | _flat(series.set)
        for _, _, own in chosen:
            changes |= _flat(own)
        preset = changes.pop(PRESET, series.preset or study.preset)
        sources = changes.pop(SOURCES, series.sources)
        config = load_config(PretrainConfig, preset, [f"{key}={json.dumps(value)}" for key, value in changes.items()])
        yield Arm(
            name, {factor: label for factor, label, _ in chosen},
            {factor: number for factor, label, _ in chosen if (number := _number(label)) is not None},
            config=config, sources=tuple(sources) if isinstance(sources, list) else sources,
        )  # fmt: skip


def _levels(factor: str, levels: Any) -> list[tuple[str, str, Changes]]:
    """Factor, label and changes of each of its values."""
    if isinstance(levels, dict):
        return [(factor, str(label), changes) for label, changes in levels.items()]
    return [(factor, _label(factor, value), {factor: value}) for value in levels]


def _label(factor: str, value: Any) -> str:
    if factor == FRACTION and isinstance(value, int | float):
        return f"{100 * value:g} %"
    if factor in (INIT, PRESET) and isinstance(value, str):
        return spec_word(value)
    return " + ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def _number(label: str) -> float | None:
    share = label.endswith(" %")
    try:
        return float(label.removesuffix(" %")) / (100 if share else 1)
    except ValueError:
        return None


def _flat(changes: Mapping[str, Any], prefix: str = "") -> Changes:
    """``{"views": {"flip": 0}}`` as ``{"views.flip": 0}``."""
    found: Changes = {}
    for key, value in changes.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def stretched(config: PretrainConfig, steps: int) -> PretrainConfig:
    """The same training in other ``steps``: its schedule's lengths are scaled, its stretches of warm-up among them."""
    scale = steps / config.steps
    schedule = config.schedule.model_dump()
    lengths = {key: round(schedule[key] * scale) for key in LENGTHS}
    length = schedule["length"] and max(round(schedule["length"] * scale), steps)
    values = config.model_dump() | {"steps": steps, "schedule": schedule | lengths | {"length": length}}
    return validate(PretrainConfig, values)


def place(arms: Sequence[Arm], study: Study, corpus: Corpus) -> list[Arm]:
    """The arms on a corpus: sources as a condition, images and patients counted, or the reason why not."""
    placed = [_placed(arm, corpus) for arm in arms]
    for name, series in study.arms.items():
        own = [arm for arm in placed if arm.series == name and arm.config and not arm.reason]
        if series.equal_images and own:
            least = min(arm.images for arm in own)
            placed = [_thinned(arm, corpus, least) if arm in own else arm for arm in placed]
    return placed


def rows_of(arm: Arm, corpus: Corpus) -> np.ndarray:
    """Rows of the corpus that a placed arm trains on."""
    assert arm.config is not None
    return training_rows(corpus, arm.config)


def _placed(arm: Arm, corpus: Corpus) -> Arm:
    if arm.config is None:
        return arm
    try:
        config, numbers = arm.config, dict(arm.numbers)
        if arm.sources is not None:
            names = largest_sources(corpus, arm.sources) if isinstance(arm.sources, int) else list(arm.sources)
            if absent := set(names) - {str(one) for one in corpus.manifest["source"].unique()}:
                raise RaddinoError(f"the corpus has no source {min(absent)!r}")
            condition = f"source in {sorted(names)!r}"
            where = condition if config.where is None else f"({condition}) and ({config.where})"
            config, numbers[SOURCES] = config.model_copy(update={"where": where}), len(names)
        return _counted(replace(arm, config=config, numbers=numbers), corpus)
    except RaddinoError as error:
        return replace(arm, reason=str(error))


def _thinned(arm: Arm, corpus: Corpus, images: int) -> Arm:
    """The arm on the fraction of its patients that leaves about so many images."""
    assert arm.config is not None
    fraction = min(1.0, arm.config.fraction * images / arm.images)
    try:
        return _counted(replace(arm, config=arm.config.model_copy(update={FRACTION: fraction})), corpus)
    except RaddinoError as error:
        return replace(arm, reason=str(error))


def _counted(arm: Arm, corpus: Corpus) -> Arm:
    rows = rows_of(arm, corpus)
    return replace(arm, images=len(rows), patients=int(corpus.manifest["patient"].iloc[rows].nunique()))


def check_nested(arms: Sequence[Arm], corpus: Corpus) -> int:
    """See that arms of one series and seed that differ in the fraction of patients hold one another.

    Returns:
        how many pairs were looked at.

    Raises:
        RaddinoError: names two arms that do not.
    """
    groups: dict[tuple[Any, ...], list[Arm]] = {}
    for arm in arms:
        if arm.config is None or arm.reason:
            continue
        others = tuple(sorted((key, label) for key, label in arm.factors.items() if key != FRACTION))
        groups.setdefault((arm.series, others, arm.config.where), []).append(arm)
    pairs = 0
    for group in groups.values():
        ordered = sorted(group, key=lambda arm: arm.config.fraction if arm.config else 0)
        held = [(arm, set(rows_of(arm, corpus).tolist())) for arm in ordered] if len(ordered) > 1 else []
        for (small, inner), (large, outer) in pairwise(held):
            pairs += 1
            if not inner <= outer:
                raise RaddinoError(f"the images of {small.label} do not lie within those of {large.label}")
    return pairs


def digested(arm: Arm, corpus: Corpus) -> Arm:
    """The arm with its digest: of settings, images and initial weights, or of the encoder that is named."""
    if arm.config is None:
        told: dict[str, Any] = {"encoder": arm.encoder, "weights": weights_digest(arm.encoder)}
    else:
        told = {
            "config": arm.config.model_dump(mode="json"),
            "weights": weights_digest(arm.config.init or ""),
            "corpus": corpus.fingerprint,
        }
        if told["weights"]:
            told["config"][INIT] = None
    return replace(arm, digest=digest_of(told))


def digest_of(told: dict[str, Any]) -> str:
    """Digest of JSON-ready facts."""
    text = json.dumps({"format": FORMAT} | told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
