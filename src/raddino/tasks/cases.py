"""Tasks that train more than a probe and judge every test image by itself: segmentation, findings generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from raddino.config import Config
from raddino.encoders.base import Encoder
from raddino.metrics.ranking import Floats
from raddino.registry import Registry
from raddino.tasks.base import Examples, TaskConfig

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

Compute = Callable[[Floats | None], Floats]
"""From image weights (..., N), or None for ones, to values (...); NaN where not defined."""


@dataclass(frozen=True)
class Job:
    """One encoder on one task.

    Attributes:
        corpus: the evaluated corpus.
        examples: of :meth:`CaseTask.select`.
        encoder: frozen unless the options say otherwise.
        spec: that is kept beside what is trained, see :func:`~raddino.encoders.kept_spec.kept_spec`.
        options: the task's own settings, an instance of :attr:`CaseTask.options`.
        folder: for what is trained; the same job on it continues, or finds the work done.
        seed: of training.
        batch_size, precision, device, cache: of the embedding, see :func:`~raddino.features.extract.embed`.
    """

    corpus: Corpus
    examples: Examples
    encoder: Encoder
    spec: str | None
    options: Any
    folder: Path
    seed: int = 0
    batch_size: int = 32
    precision: str = "fp32"
    device: str = "auto"
    cache: Path | None = None


@dataclass(frozen=True)
class Cases:
    """What came of a job on the test images.

    Attributes:
        records: one row a test image, in the order of ``examples.at["test"]``: numbers that metrics are sums of.
        chosen: settings, JSON-ready, that stand beside every number.
        variant: what differs from the job itself, for example ``"shuffled images"``; empty for the job itself.
        alone: the variant does not depend on the encoder and is listed once, under its own name.
        notes: JSON-ready, what results say once of the task, for example ``signatures`` of its metrics and, under
            ``absent``, metrics that could not be computed, with the reason.
    """

    records: pd.DataFrame
    chosen: dict[str, Any] = field(default_factory=dict)
    variant: str = ""
    alone: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


class CaseTask(Protocol):
    """One kind of such a task. Register instances in :data:`CASE_TASKS` under the kind."""

    options: type[Config]

    def select(self, corpus: Corpus, config: TaskConfig) -> Examples:
        """The images that can be trained and measured on; their ``target`` (N,) is a finite number a person reads.

        Raises:
            Absent: there is too little of it, with the reason that a report prints.
        """
        ...

    def needs(self, encoder: Encoder, options: Any) -> str:
        """Why an encoder cannot serve, known before anything is computed; empty when it can."""
        ...

    def run(self, job: Job) -> Sequence[Cases]:
        """Train (or continue, or find the work done) and judge the test images; the job itself first."""
        ...

    def statistics(self, records: pd.DataFrame) -> dict[str, Compute]:
        """Every metric by name, the primary one first, as a function of image weights."""
        ...


CASE_TASKS: Registry[CaseTask] = Registry("kind of case task")
