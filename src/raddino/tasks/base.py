"""What a task is: a target column, the images that have it, and the statistics of predictions for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt
from scipy.stats import rankdata

from raddino.config import Config
from raddino.errors import RaddinoError, counted, did_you_mean
from raddino.metrics.ranking import Floats
from raddino.registry import Registry
from raddino.tasks.probes.base import Loss

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

SPLITS = ("train", "val", "test")
MIN_TEST_PATIENTS = 10
MAX_CLASSES = 50
PLACES = ("id", "shard", "offset", "length", "patient", "study", "split", "sha256", "sha256_source", "sha256_masks")
TEXTS = ("report", "impression", "indication", "comparison")


TaskName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Absent(RaddinoError):
    """The corpus holds too little of a target to measure it; the message is the reason a report prints."""


class TaskConfig(Config):
    """One task of a suite.

    Attributes:
        name: how results call it.
        target: column of the corpus manifest.
        kind: ``"binary"``, ``"multiclass"`` (one of several values, text or numbers) or ``"regression"``, which a probe
            reads; ``"segmentation"`` or ``"findings"``, which train more (:mod:`raddino.tasks.cases`).
        where: pandas query that restricts the images, for example ``"source == 'nih'"``.
        positive: for text columns, the value that counts as 1; every other value counts as 0.
        classes: of a multiclass task, the values that count; by default all that training images have.
        min_positives: least number of test images in either class of a binary task. Classes with fewer stay out
            of the averages of a multiclass task; two have to have them.
        options: settings of a segmentation or findings task, see their ``settings`` modules.
    """

    name: TaskName
    target: str
    kind: Literal["binary", "multiclass", "regression", "segmentation", "findings"]
    where: str | None = None
    positive: str | float | None = None
    classes: tuple[str | float, ...] = ()
    min_positives: PositiveInt = 10
    options: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Examples:
    """The labelled images of a task.

    Attributes:
        config: the task.
        rows: (N,) row numbers in the corpus, ascending.
        target: (N,) 0 and 1, positions in ``classes``, or numbers.
        split: (N,) train, val or test.
        ids: (N,) of the corpus manifest.
        patients: (N,) of the corpus manifest; an image without one is a patient of its own.
        excluded: images left out, by reason.
        classes: names of the classes of a multiclass task.
    """

    config: TaskConfig
    rows: np.ndarray
    target: Floats
    split: np.ndarray
    ids: np.ndarray
    patients: np.ndarray
    excluded: dict[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        corpus: Corpus,
        config: TaskConfig,
        rows: np.ndarray,
        target: Floats,
        excluded: dict[str, int],
        classes: tuple[str, ...] = (),
    ) -> Examples:
        """Examples of corpus ``rows`` (N,) with their ``target`` (N,); reasons that exclude no image are dropped."""
        kept = corpus.manifest.iloc[rows]
        return cls(
            config=config,
            rows=rows,
            target=target,
            split=kept["split"].astype(str).to_numpy(),
            ids=kept["id"].astype(str).to_numpy(),
            patients=kept["patient"].fillna(kept["id"]).astype(str).to_numpy(),
            excluded={reason: count for reason, count in excluded.items() if count},
            classes=classes,
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what a probe puts out for the task: its classes, or itself."""
        return self.classes or (self.config.name,)

    @property
    def columns(self) -> Floats:
        """(N, T) targets of the :attr:`outputs`; classes one-hot."""
        return np.eye(len(self.classes))[self.target.astype(int)] if self.classes else self.target[:, None]

    @cached_property
    def at(self) -> dict[str, np.ndarray]:
        """Positions of each split's images among the examples."""
        return {split: np.flatnonzero(self.split == split) for split in SPLITS}

    def describe(self) -> dict[str, Any]:
        """The task and its counts per split, JSON-ready."""
        binary = self.config.kind == "binary"
        positives = {split: int(self.target[at].sum()) for split, at in self.at.items()}
        prevalence = {split: positives[split] / len(at) for split, at in self.at.items() if len(at)}
        classes = {
            name: {split: int((self.target[at] == code).sum()) for split, at in self.at.items()}
            for code, name in enumerate(self.classes)
        }
        return {
            **self.config.model_dump(include={"name", "target", "kind", "where", "positive"}),
            **({"classes": classes} if classes else {}),
            "n": {split: len(at) for split, at in self.at.items()},
            "patients": {split: len(set(self.patients[at])) for split, at in self.at.items()},
            "positives": positives if binary else None,
            "prevalence": prevalence if binary else None,
            "excluded": self.excluded,
        }


def joined(examples: Sequence[Examples]) -> list[list[Examples]]:
    """Tasks that one fit serves: of one kind and the same images; the classes of a label stand alone."""
    groups: dict[tuple[str, bytes], list[Examples]] = {}
    for one in examples:
        alone = one.config.name if one.classes else ""
        groups.setdefault((one.config.kind + alone, one.rows.tobytes()), []).append(one)
    return list(groups.values())


@dataclass(frozen=True)
class Statistic:
    """One number of a task's test predictions.

    Attributes:
        compute: from image weights (..., N), or None for ones, to values (...).
        detail: what was fixed on training or validation images, for example a threshold.
        outputs: (N,) or (N, K) what two systems exchange in a randomisation test; None where there is no such test.
        metric: of target (N,), outputs and ``weights`` (..., N).
        target: (N,).
    """

    compute: Callable[[Floats | None], Floats]
    detail: dict[str, Any] = field(default_factory=dict)
    outputs: Floats | None = None
    metric: Callable[..., Floats] | None = None
    target: Floats | None = None

    @classmethod
    def of(
        cls,
        metric: Callable[..., Floats],
        target: Floats,
        outputs: Floats,
        detail: dict[str, Any] | None = None,
        ranks: bool = False,
    ) -> Statistic:
        """A metric of outputs; ``ranks`` where their order is all that it reads, whatever their scale."""
        compute = partial(_weighted, metric, target, outputs)
        return cls(compute, detail or {}, rankdata(outputs, axis=0) if ranks else outputs, metric, target)

    def beside(self, other: Statistic) -> Callable[[Floats | None], Floats]:
        """The metric of weights (..., 2 N) of the images with these outputs, then with the other's.

        Raises:
            ValueError: either has no outputs.
        """
        if self.metric is None or self.target is None or self.outputs is None or other.outputs is None:
            raise ValueError("a statistic without outputs has nothing to exchange")
        target, outputs = np.concatenate([self.target] * 2), np.concatenate([self.outputs, other.outputs])
        return partial(_weighted, self.metric, target, outputs)


def _weighted(metric: Callable[..., Floats], target: Floats, outputs: Floats, weights: Floats | None) -> Floats:
    return metric(target, outputs, weights=weights)


class Task(Protocol):
    """How one kind of task is trained and measured. Register instances in :data:`TASKS` under the kind."""

    loss: Loss

    def score(self, output: Floats) -> Floats:
        """Probe output (N,), or (N, T) of T classes, to what a person reads (N,): a probability, a class's
        position, or a number in the target's unit."""
        ...

    def statistics(self, examples: Examples, val: Floats, test: Floats) -> dict[str, Statistic]:
        """Statistics by metric name of probe outputs ``val`` (N_val,) and ``test`` (N_test,), or (N, T)."""
        ...


TASKS: Registry[Task] = Registry("kind of task")


def target_columns(manifest: pd.DataFrame) -> list[str]:
    """Columns that a probe can be asked for: all but places, digests, texts and masks."""
    return [str(name) for name in manifest if name not in PLACES + TEXTS and not str(name).startswith("mask_")]


def select_examples(corpus: Corpus, config: TaskConfig, whole: bool = False) -> Examples:
    """The images of ``corpus`` that carry the target, with missing and unusable values excluded and counted.

    ``whole`` where the test images are those of a site, of whatever split, so that reasons speak of no split.

    Raises:
        Absent: the column is missing, or a split has too little of it to train, select or measure.
    """
    examples = _select(corpus, config, pooled=False)
    _require_enough(examples, whole)
    return examples


def select_pool(corpus: Corpus, config: TaskConfig, folds: int) -> Examples:
    """As :func:`select_examples`, whatever split an image stands in, for cross-validation in ``folds``.

    Raises:
        Absent: the column is missing, or a class has fewer patients than ``folds`` or fewer images than
            ``min_positives``.
    """
    examples = _select(corpus, config, pooled=True)
    patients = len(set(examples.patients))
    if patients < max(MIN_TEST_PATIENTS, folds):
        raise Absent(
            f"{counted(patients, 'patient', 'have')} a value; at least {max(MIN_TEST_PATIENTS, folds)} are needed"
        )
    if config.kind == "regression":
        return examples
    for code, name in enumerate(examples.classes or ("0", "1")):
        own = examples.patients[examples.target == code]
        if len(own) < config.min_positives or len(set(own)) < folds:
            raise Absent(
                f"class {name} has {counted(len(own), 'image')} of {counted(len(set(own)), 'patient')}; at least "
                f"{config.min_positives} images and a patient for each of the {folds} folds are needed"
            )
    return examples


def _select(corpus: Corpus, config: TaskConfig, pooled: bool) -> Examples:
    """The images that carry the target, of the three splits, or ``pooled`` of all as training images."""
    manifest = corpus.manifest
    if config.target not in manifest:
        hint = did_you_mean(config.target, target_columns(manifest))
        raise Absent(f"the corpus has no column {config.target!r}.{hint}")
    chosen = np.sort(corpus.rows(where=config.where))
    frame = manifest.iloc[chosen]
    values = frame[config.target].replace("", np.nan)
    split = pd.Series("train", frame.index) if pooled else frame["split"].astype(str)
    classes: tuple[str, ...] = ()
    if config.kind == "binary":
        numbers = _binary(values, config)
    elif config.kind == "multiclass":
        numbers, classes = _multiclass(values, split, config)
    else:
        numbers = pd.to_numeric(values, errors="coerce")
    target = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    usable = np.isfinite(target) & np.isin(split, SPLITS)
    missing = int(values.isna().sum())
    excluded = {"no value": missing, "unusable value or split": int((~usable).sum()) - missing}
    return Examples.of(corpus, config, chosen[usable], target[usable], excluded, classes)


def _binary(values: pd.Series, config: TaskConfig) -> pd.Series:
    """0, 1 and NaN. Values that are neither (an uncertain -1, say) become NaN."""
    if config.positive is not None:
        return (values == config.positive).astype(float).where(values.notna())
    numbers = pd.to_numeric(values, errors="coerce")
    if values.notna().any() and not numbers.notna().any():
        found = ", ".join(map(repr, sorted(values.dropna().astype(str).unique())[:4]))
        raise Absent(f"column {config.target!r} holds text ({found}): say which value is positive")
    return numbers.astype(float).where(numbers.isin([0, 1]))


def _multiclass(values: pd.Series, split: pd.Series, config: TaskConfig) -> tuple[pd.Series, tuple[str, ...]]:
    """Positions in the classes, NaN for other values, and the classes that training images have."""
    words = values.map(value_text, na_action="ignore")
    trained = set(words[split == "train"].dropna())
    classes = list(dict.fromkeys(map(value_text, config.classes))) or sorted(trained)
    for name in classes:
        if name not in trained:
            hint = did_you_mean(name, trained)
            raise Absent(f"no training image has {name!r} in column {config.target!r}.{hint}")
    if len(classes) > MAX_CLASSES:
        raise Absent(f"column {config.target!r} holds {len(classes)} values; name up to {MAX_CLASSES} as classes")
    return words.map({name: code for code, name in enumerate(classes)}).astype(float), tuple(classes)


def value_text(value: Any) -> str:
    """A value of a column as classes are called: numbers without needless digits."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _require_enough(examples: Examples, whole: bool) -> None:
    """Refuse what cannot be measured; ``whole`` where the test images are those of a site and not of a split."""
    config = examples.config
    tested = "it" if whole else "test split"
    for split, at in examples.at.items():
        target = examples.target[at]
        if not len(at):
            raise Absent(f"no image of {'it' if whole and split == 'test' else f'the {split} split'} has a value")
        if len(np.unique(target)) < 2:
            value = examples.classes[int(target[0])] if examples.classes else f"{target[0]:g}"
            where = "" if whole and split == "test" else f"{split} split: "
            raise Absent(f"{where}all {len(at)} values are {value}")
    test = examples.target[examples.at["test"]]
    if config.kind == "binary":
        positives, fewest = int(test.sum()), int(min(test.sum(), (1 - test).sum()))
        if fewest < config.min_positives:
            raise Absent(
                f"{tested} has {counted(positives, 'positive')} among {counted(len(test), 'image')}; at least "
                f"{config.min_positives} of either class are needed"
            )
    if config.kind == "multiclass":
        counts = np.bincount(test.astype(int), minlength=len(examples.classes))
        if (counts >= config.min_positives).sum() < 2:
            raise Absent(
                f"{tested} has {', '.join(map(str, counts))} images of its classes; at least two need "
                f"{config.min_positives}"
            )
    patients = len(set(examples.patients[examples.at["test"]]))
    if patients < MIN_TEST_PATIENTS:
        raise Absent(f"{tested} has {counted(patients, 'patient')}; at least {MIN_TEST_PATIENTS} are needed")
