"""What an analysis beside the main table is: a function of everything the main table was computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raddino.benchmark.cases import CaseScores
from raddino.benchmark.measure import Scores
from raddino.benchmark.suite import Suite
from raddino.encoders.base import Encoder
from raddino.features.cache import FeatureSet
from raddino.registry import Registry
from raddino.tasks.base import Examples

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

Row = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What was judged, with what came of it. Encoders that failed are in none of the mappings.

    Attributes:
        corpus: the evaluated corpus.
        encoders: by display name, in the order of the request.
        features: by display name, of every image that some task uses (see :meth:`FeatureSet.take`).
        scores: by display name and task name; a task whose probe failed is missing for that encoder.
        examples: of the measured tasks, in the order of the suite.
        suite: what was asked for; analyses read the probe's settings from it.
        fingerprints: of the encoders, by display name.
        seed: of probes and resamples.
        resamples: of the patient bootstrap.
        batch_size: images in one pass of an encoder.
        precision: of the embedding.
        cache: folder of :func:`~raddino.features.extract.embed`, None for its default.
        scope: see :class:`~raddino.metrics.signature.Signature`.
        cases: as ``scores``, of segmentation and findings; without variants.
        case_examples: as ``examples``, of segmentation and findings.
        sites: what the same probes met at each other site, by its name: test images alone are those of the site.
    """

    corpus: Corpus
    encoders: Mapping[str, Encoder]
    features: Mapping[str, FeatureSet]
    scores: Mapping[str, Mapping[str, Scores]]
    examples: Sequence[Examples]
    suite: Suite
    fingerprints: Mapping[str, str]
    seed: int
    resamples: int
    batch_size: int
    precision: str
    cache: Path | None
    scope: str = ""
    cases: Mapping[str, Mapping[str, CaseScores]] = field(default_factory=dict)
    case_examples: Sequence[Examples] = ()
    sites: Mapping[str, Context] = field(default_factory=dict)

    def places(self) -> dict[str | None, Context]:
        """This under None, the inside, then each other site."""
        found: dict[str | None, Context] = {None: self}
        found.update(self.sites)
        return found


Analysis = Callable[[Context], list[Row]]
"""Flat JSON-ready rows with encoder, task, metric, value, low, high, n and signature; raises RaddinoError for a
reason that the report may print."""

ANALYSES: Registry[Analysis] = Registry("analysis")
"""By name: what ``analyses: [...]`` of a suite lists, and the key in ``metrics.json``."""
READS_CASES = ("subgroups",)
"""Analyses that look at segmentation and findings too; all others look at probes alone."""
