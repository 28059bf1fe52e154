"""What a study asks, as one strict model: arms, budget, tasks, seeds; read from a shipped name or a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from raddino.benchmark.results import spec_word
from raddino.config import Config, read_yaml, validate
from raddino.errors import ConfigError, did_you_mean

SHIPPED = Path(__file__).parent / "shipped"
LEADING = (
    *("auroc", "auroc_macro_ovr", "mae", "dice"),
    *("chexbert_f1_14_micro", "rules_f1_14_micro", "rouge_l"),
)
SIZES = "sizes"
KEPT_WHOLE = "vary"
"""A size's factors take the place of the study's; other sections are merged key by key."""
DERIVED = ("flops", "images", "parameters", "sources")
"""What an axis can be besides a factor."""
Changes = dict[str, Any]
Factor = Annotated[list[Any], Field(min_length=1)] | Annotated[dict[str | int | float, Changes], Field(min_length=1)]


class Sample(Config):
    """Synthetic radiographs that stand in where no corpus is given; everything made from them says so.

    Attributes:
        images: how many.
        side: pixels.
        sources: that the patients are dealt out to, ``"synthetic-a"`` and so on.
        detectors: 2 for images that one of two manufacturers' detectors left its fingerprint in.
        seed: of the drawing.
    """

    images: int = Field(240, ge=20, le=10**6)
    side: int = Field(112, ge=32, le=2048)
    sources: int = Field(1, ge=1, le=26)
    detectors: int = Field(1, ge=1, le=2)
    seed: int = Field(0, ge=0)


class Budget(Config):
    """How long arms train.

    Attributes:
        steps: of the first trained arm, or of each where ``compute`` is free; None for its preset's.
        compute: ``"equal"`` gives every arm the steps that come closest to the first arm's FLOPs.
        tolerance: share by which FLOPs may differ from the first arm's.
        unequal: what is done with an arm beyond it: refuse the study, or say it on the report. Asked of ``"equal"``.
    """

    steps: int | None = Field(None, gt=0, le=10**7)
    compute: Literal["free", "equal"] = "free"
    tolerance: float = Field(0.01, gt=0, lt=1)
    unequal: Literal["refuse", "say"] = "refuse"


class Series(Config):
    """Arms that one question compares: encoders by name, or trainings that differ in the factors of ``vary``.

    Attributes:
        title: for the report; empty for the series' name.
        encoders: by label, specs of :func:`~raddino.encoders.load.load_encoder`; a list has its specs as labels,
            without folders.
        preset: of the trainings; None for the study's.
        set: changes over preset and study, dotted or nested keys of
            :class:`~raddino.training.settings.PretrainConfig`; lengths in steps are those of the preset's own steps.
        sources: that are trained on: names, or how many, those with the most training images first; None for all.
        vary: by factor, a list of values of a setting (``fraction``, ``seed``, ``init``, ``sources``, ``preset``, or a
            dotted key), or a mapping of labels to changes. Factors are crossed; arms that differ in ``seed`` alone are
            repetitions of one condition.
        equal_images: give each arm the fraction of patients that leaves as many images as the smallest has.
        axis: what curves and power laws are drawn against: a factor with numbers for labels, or one of
            ``flops``, ``images``, ``parameters``, ``sources``.
        against: label of the condition that the others are tested against; empty for the first.
        budget: instead of the study's.
    """

    title: str = ""
    encoders: dict[str, str] = Field(default_factory=dict)
    preset: str | None = None
    set: Changes = Field(default_factory=dict)
    sources: int | tuple[str, ...] | None = None
    vary: dict[str, Factor] = Field(default_factory=dict)
    equal_images: bool = False
    axis: str | None = None
    against: str = ""
    budget: Budget | None = None

    @field_validator("encoders", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return given
        named = {spec_word(str(one)): one for one in given}
        if len(named) < len(given):
            raise ValueError("two encoders have one label: give them as LABEL: SPEC")
        return named

    @model_validator(mode="after")
    def _sound(self) -> Series:
        if self.encoders and (self.vary or self.set or self.sources or self.preset or self.equal_images):
            raise ValueError("encoders by name are not trained: put what is trained into a series of its own")
        if self.axis is not None and self.axis not in (*DERIVED, *self.vary):
            known = [*self.vary, *DERIVED]
            raise ValueError(f"axis {self.axis!r} is no factor.{did_you_mean(self.axis, known)} Known: "
                             f"{', '.join(known)}")  # fmt: skip
        return self


class Judged(Config):
    """One evaluation that every arm gets; see :func:`raddino.benchmark.evaluate.evaluate`.

    Attributes:
        suite: shipped name or YAML file; None for ``targets``, or for everything the corpus has labels for.
        targets: manifest columns instead of a suite.
        probe: settings instead of the suite's.
        options: by kind of task (segmentation, findings), settings over the suite's.
        analyses: instead of the suite's.
        where: pandas query; no other image is seen.
        train_on, test_on: sources, for external validation.
        leave_one_out: once for each source of the corpus, probes trained on all others and tested on it.
    """

    suite: str | None = None
    targets: tuple[str, ...] | None = None
    probe: Changes | str | None = None
    options: dict[str, Changes] = Field(default_factory=dict)
    analyses: tuple[str, ...] | None = None
    where: str | None = None
    train_on: tuple[str, ...] | None = None
    test_on: tuple[str, ...] | None = None
    leave_one_out: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Judged:
        if self.suite is not None and self.targets is not None:
            raise ValueError("give a suite or targets, not both")
        if self.leave_one_out and (self.train_on or self.test_on):
            raise ValueError("leave_one_out names the sites itself: leave train_on and test_on out")
        return self


class Study(Config):
    """A study.

    Attributes:
        question: one sentence for the report.
        description: what is done about it.
        corpus: folders or URLs to pre-train on; ``--corpus`` takes their place.
        evaluate_on: folder to judge on; None for the corpora themselves.
        sample: drawn where no corpus is given; None where one has to be.
        preset, set: of all trainings.
        budget: of all trainings.
        arms: series by name.
        tasks: evaluations by name.
        metrics: the first of these that a task has is shown, tested and fitted.
        seed: of probes and resamples.
        resamples: of patients, and of the power laws' residuals.
    """

    question: str
    description: str = ""
    corpus: tuple[str, ...] = ()
    evaluate_on: str | None = None
    sample: Sample | None = None
    preset: str = "small-batch"
    set: Changes = Field(default_factory=dict)
    budget: Budget = Budget()
    arms: Annotated[dict[str, Series], Field(min_length=1)]
    tasks: Annotated[dict[str, Judged], Field(min_length=1)]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = LEADING
    seed: int = Field(0, ge=0)
    resamples: int = Field(1000, ge=1)


def study_names() -> list[str]:
    """Names of the shipped studies."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_study(name: str, size: str | None = None) -> tuple[str, Study]:
    """A study's short name and itself, at one of its sizes.

    Args:
        name: shipped name or path of a YAML file.
        size: name of an entry of the file's ``sizes``, whose values are merged over the rest: mappings key by key, a
            ``null`` takes a key out, factors of ``vary`` and lists take the place of the others.

    Raises:
        ConfigError: unknown name, size, key or value.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SHIPPED / f"{name}.yaml"
    if not path.is_file() and path.parent == SHIPPED:
        known = study_names()
        raise ConfigError(
            f"unknown study {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}, or a .yaml file."
        )
    values = read_yaml(path)
    sizes = values.pop(SIZES, None) or {}
    if not isinstance(sizes, dict) or not all(isinstance(one, dict) for one in sizes.values()):
        raise ConfigError(f"{path.name}: sizes holds 'name: changes', for example smoke: {{preset: cpu-smoke}}")
    if size is not None and size not in sizes:
        known = [str(one) for one in sizes]
        raise ConfigError(
            f"study {path.stem} has no size {size!r}.{did_you_mean(size, known)} Known: {', '.join(known) or 'none'}."
        )
    for changes in sizes.values():
        validate(Study, merged(values, changes))
    return path.stem, validate(Study, merged(values, sizes[size] if size is not None else {}))


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``values`` with ``changes`` over them, see :func:`load_study`."""
    found = dict(values)
    for key, value in changes.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = found[key] | value if key == KEPT_WHOLE else merged(found[key], value)
        else:
            found[key] = value
    return found
