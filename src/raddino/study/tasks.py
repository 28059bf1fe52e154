"""What every arm is judged by: the study's evaluations, spelled out site by site, and where their results lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raddino.benchmark.plan import plan_suite
from raddino.corpus.dataset import Corpus
from raddino.errors import ConfigError
from raddino.study.arms import Arm, digest_of
from raddino.study.data import sources_of
from raddino.study.settings import Judged, Study


@dataclass(frozen=True)
class Unit:
    """One evaluation of one arm.

    Attributes:
        name: of the study's entry, with the site that is left out behind it.
        judged: its settings, with sites named.
        digest: of all that decides the numbers beside the encoder.
    """

    name: str
    judged: Judged
    digest: str

    def folder(self, out: Path, arm: Arm) -> Path:
        """Result folder of an arm."""
        return out / "results" / f"{arm.digest}-{self.digest}"

    def is_done(self, out: Path, arm: Arm) -> bool:
        """Whether the arm has been judged; ``metrics.json`` is written last."""
        return bool(arm.digest) and (self.folder(out, arm) / "metrics.json").is_file()


def units(study: Study, corpus: Corpus) -> list[Unit]:
    """The evaluations of a study on the corpus to judge on.

    Raises:
        ConfigError: an unknown suite, target, source or option, or sites to leave out in a corpus of one source.
    """
    found = []
    for name, judged in study.tasks.items():
        for label, one in _sites(name, judged, corpus):
            plan = plan_suite(
                corpus, one.suite, list(one.targets) if one.targets else None, one.probe, one.analyses, one.options,
                one.where, one.train_on, one.test_on,
            )  # fmt: skip
            told = {
                "suite": plan.model_dump(mode="json"), "corpus": corpus.fingerprint, "seed": study.seed,
                "resamples": study.resamples,
            }  # fmt: skip
            found.append(Unit(label, one, digest_of(told)))
    return found


def _sites(name: str, judged: Judged, corpus: Corpus) -> list[tuple[str, Judged]]:
    if not judged.leave_one_out:
        return [(name, judged)]
    sources = sources_of(corpus)
    if len(sources) < 2:
        raise ConfigError(f"tasks.{name}: leave_one_out takes two sources; the corpus holds {sources[0]} alone")
    return [
        (
            f"{name} without {site}",
            judged.model_copy(
                update={
                    "leave_one_out": False, "test_on": (site,),
                    "train_on": tuple(source for source in sources if source != site),
                }
            ),
        )
        for site in sources
    ]  # fmt: skip
