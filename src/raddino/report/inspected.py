"""``raddino inspect``, also as the last step of ``prepare``: every check, what is held, drift; terminal and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raddino.corpus.dataset import Corpus
from raddino.errors import ConfigError
from raddino.inspection.drift import Told, content_of
from raddino.inspection.drift import drift as probe
from raddino.inspection.holdings import Tables, holdings, write_holdings
from raddino.inspection.inspect import Inspection, inspect, summary, write_csv
from raddino.inspection.text import STROKES
from raddino.report.holdings import holdings_text
from raddino.report.inspection import write_page


@dataclass(frozen=True)
class Inspected:
    """What an inspection has to say.

    Attributes:
        found: by the checks.
        held: what the archive holds.
        told: which groups are told apart; None where it was not asked.
    """

    found: Inspection
    held: Tables
    told: list[Told] | None

    @property
    def text(self) -> str:
        """For the terminal."""
        return f"{summary(self.found)}\n{holdings_text(self.held, self.told or [])}"

    def write(self, folder: Path | None = None) -> list[Path]:
        """Write ``inspect.csv``, ``inspection.json`` and ``inspect.html``, by default beside the first's measures."""
        folder = folder or self.found.corpora[0].path / "inspection"
        return [
            write_csv(self.found, folder / "inspect.csv"),
            write_holdings(folder / "inspection.json", self.held, self.told),
            write_page(self.found, folder / "inspect.html", held=self.held, told=self.told or ()),
        ]


def look_into(
    corpora: Sequence[Corpus],
    out: Path | None = None,
    *,
    checks: Sequence[str] | None = None,
    text_engine: str = STROKES,
    drift: bool = True,
    drift_features: bool = False,
    workers: int | None = None,
) -> Inspected:
    """Inspect packed corpora together.

    Args:
        corpora: at least one, each folder once.
        out: where measures are kept of a corpus in which nothing can be written.
        checks, text_engine, workers: see :func:`raddino.inspection.inspect.inspect`.
        drift: ask whether sources, splits and manufacturers are told apart.
        drift_features: ask it of what ``raddino-tiny`` sees, too.

    Raises:
        ConfigError: ``drift_features`` without ``drift``, a corpus twice, or none.
        RaddinoError: see :func:`raddino.inspection.inspect.inspect`.
    """
    if drift_features and not drift:
        raise ConfigError("--drift-features asks what --no-drift leaves out: give one of them")
    found = inspect(corpora, checks=checks, text_engine=text_engine, spare=out, workers=workers)
    content = content_of(list(corpora), found.manifest) if drift_features else None
    told = probe(found.manifest, found.measures, content) if drift else None
    return Inspected(found, holdings(found.manifest, found.measures), told)
