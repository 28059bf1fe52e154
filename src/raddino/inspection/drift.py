"""What tells groups of images apart: the source, the split or the machine, from sizes, grey values or content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raddino.inspection.holdings import OLDEST, THE_REST, UNKNOWN, groups_of, patients_of, present
from raddino.metrics.bootstrap import PatientBootstrap, interval
from raddino.metrics.ranking import Floats, auroc, stratified_auroc
from raddino.metrics.scales import effective_patients, scale_of
from raddino.progress import bar

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

COMPARED = ("source", "corpus", "split", "manufacturer")
FEWEST_PATIENTS = 30
"""Of a group that is compared."""
MOST_COMPARED = 6
"""Groups of one column, the largest: 15 pairs."""
MOST_IMAGES, MOST_EMBEDDED = 2000, 500
"""Of a group, drawn at random: that a probe sees, and of which content is looked at."""
FEWEST_KNOWN = 10
"""Images of either group on which a fact is known, for its own AUROC."""
FOLDS, SEED, RESAMPLES = 5, 0, 1000
WIDER = (1 + FOLDS / (FOLDS - 1)) ** 0.5
"""Standard deviation over that of the resamples: training images of the folds overlap (Nadeau and Bengio 2003)."""
CLEARLY = 0.9
SIZE, GREY, CONTENT, FACTS = "image size", "grey values", "content", "facts"
GREYS = {"intensity": ("mean", "std", "entropy"), "exposure": ("bright", "dark", "contrast", "border")}
QUANTILES = {"dark end (5 %)": 0.05, "middle grey (50 %)": 0.5, "bright end (95 %)": 0.95}
NUMBERS = ("age", "weight", "bmi", "kvp", "exposure_index", "portable")
ENCODER = "raddino-tiny"


@dataclass(frozen=True)
class Told:
    """How well two groups are told apart from one kind of input.

    Attributes:
        by: column that the groups are of.
        one, other: their names.
        kind: ``"image size"``, ``"grey values"`` or ``"content"``.
        images, patients: of both that the probe saw.
        auroc: out of fold, among pairs of images of one fold; 0.5 where the input says nothing.
        low, high: its 95 % interval over patients, widened by :data:`WIDER`.
        inputs: single inputs by falling AUROC, each taken in the direction that tells more; of images on which they
            are known. Those of the kind, and what the manifest says of the image (``"facts"``).
    """

    by: str
    one: str
    other: str
    kind: str
    images: int
    patients: int
    auroc: float
    low: float
    high: float
    inputs: tuple[tuple[str, str, float], ...]

    @property
    def said(self) -> str:
        """The answer in a sentence."""
        spread = f"AUROC {self.auroc:.2f}, 95 % interval {self.low:.2f} to {self.high:.2f}"
        if not self.low > 0.5:
            return f"{self.one} and {self.other} are not told apart from {self.kind} ({spread})"
        own = [(name, value) for kind, name, value in self.inputs if kind == self.kind]
        most = f", most by {own[0][0]} ({own[0][1]:.2f})" if own else ""
        how = "are told apart" if self.auroc >= CLEARLY else "are partly told apart"
        return f"{self.one} and {self.other} {how} from {self.kind} alone ({spread}){most}"

    def row(self) -> dict[str, Any]:
        """For JSON; NaN bounds become null."""
        row = {key: None if isinstance(value, float) and np.isnan(value) else value
               for key, value in asdict(self).items()}  # fmt: skip
        inputs = [{"kind": kind, "input": name, "auroc": value} for kind, name, value in self.inputs]
        return row | {"inputs": inputs, "said": self.said}


def drift(
    manifest: pd.DataFrame, measures: Mapping[str, pd.DataFrame], content: np.ndarray | None = None
) -> list[Told]:
    """Probe every pair of groups of :data:`COMPARED` that have at least :data:`FEWEST_PATIENTS` patients each.

    A logistic regression on standardised inputs, five folds by patient; at most 2,000 images a group.

    Args:
        manifest: as :func:`raddino.inspection.holdings.holdings` takes.
        measures: by check, row by row beside it; those of ``intensity`` and ``exposure`` are used where they are there.
        content: (N, D) features, NaN in rows that were not embedded; None leaves the question out.

    Returns:
        by column, pair and kind; empty where there is nothing to compare.
    """
    frame = manifest.reset_index(drop=True)
    kinds = {kind: table for kind, table in inputs_of(frame, measures).items() if len(table.columns)}
    facts = kinds.pop(FACTS, pd.DataFrame(index=frame.index))
    whose = patients_of(frame)
    pairs = [(by, groups, pair) for by in present(frame, COMPARED) for groups in [groups_of(frame, by)]
             for pair in combinations(compared_groups(groups, whose), 2)]  # fmt: skip
    told = []
    with bar("drift", total=len(pairs), silent=not pairs) as shown:
        for by, groups, (one, other) in pairs:
            rows = np.sort(np.concatenate([draw(np.flatnonzero(groups == name), MOST_IMAGES) for name in (one, other)]))
            target = (groups[rows] == other).astype(np.float64)
            of_facts = ranked(FACTS, facts.iloc[rows], target)
            for kind, table in kinds.items():
                ranking = sorted([*ranked(kind, table.iloc[rows], target), *of_facts], key=lambda one: -one[2])
                told.append(_told(by, one, other, kind, table.iloc[rows].to_numpy(), target, whose[rows], ranking))
            if content is not None:
                seen = rows[np.isfinite(content[rows]).all(1)]
                y = (groups[seen] == other).astype(np.float64)
                if _enough(y, whose[seen]):
                    told.append(_told(by, one, other, CONTENT, content[seen], y, whose[seen], of_facts))
            shown.advance()
    return [one for one in told if np.isfinite(one.auroc)]


def content_of(corpora: Sequence[Corpus], manifest: pd.DataFrame, cache: Path | None = None) -> np.ndarray:
    """(N, D) class tokens of :data:`ENCODER` of at most 500 images of each compared group, NaN in other rows.

    Args:
        corpora: that the manifest joins.
        manifest: with ``corpus`` and ``row``.
        cache: as :func:`raddino.features.extract.embed`.
    """
    from raddino.encoders.load import load_encoder
    from raddino.features.extract import embed

    frame = manifest.reset_index(drop=True)
    chosen = np.zeros(len(frame), bool)
    for by in present(frame, COMPARED):
        groups = groups_of(frame, by)
        for name in compared_groups(groups, patients_of(frame)):
            chosen[draw(np.flatnonzero(groups == name), MOST_EMBEDDED)] = True
    encoder = load_encoder(ENCODER, device="cpu")
    content = np.full((len(frame), encoder.dim), np.nan, np.float32)
    for number, corpus in enumerate(corpora):
        rows = np.flatnonzero(chosen & (frame["corpus"] == number).to_numpy())
        if len(rows):
            content[rows] = embed(corpus, encoder, rows=frame["row"].to_numpy()[rows], cache=cache).cls
    return content


def inputs_of(manifest: pd.DataFrame, measures: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """(N, F) named inputs of each kind: of the size and the grey values, and what the manifest says (NaN: unknown)."""
    height, width = (manifest[name].to_numpy(np.float64) for name in ("height", "width"))
    size = {
        "height": np.log(height),
        "width": np.log(width),
        "aspect": np.log(width / height),
        "elongation": np.abs(np.log(width / height)),
    }
    grey = {name: measures[check][name].to_numpy(np.float64)
            for check, names in GREYS.items() if check in measures for name in names}  # fmt: skip
    if "intensity" in measures:
        cumulative = np.stack(measures["intensity"]["histogram"].tolist()).cumsum(1)
        grey |= {name: (cumulative < share).sum(1) / cumulative.shape[1] for name, share in QUANTILES.items()}
    facts = {name: pd.to_numeric(manifest[name], errors="coerce").astype(np.float64)
             for name in NUMBERS if name in manifest}  # fmt: skip
    if "age" in facts:
        facts["age"] = facts["age"].clip(upper=OLDEST)
    for name in ("sex", "view"):
        if name in manifest:
            known = manifest[name].notna()
            values = sorted(manifest[name][known].unique())
            for value in values[: 1 if len(values) == 2 else None]:
                facts[f"{name} {value}"] = (manifest[name] == value).astype(np.float64).where(known)
    return {
        kind: pd.DataFrame(columns, index=manifest.index)
        for kind, columns in ((SIZE, size), (GREY, grey), (FACTS, facts))
    }


def compared_groups(groups: np.ndarray, patients: np.ndarray) -> list[str]:
    """Names of the largest groups with enough patients, by name; unknown and the rest are none."""
    counts = pd.Series(patients).groupby(groups).nunique()
    counts = counts[(counts >= FEWEST_PATIENTS) & ~counts.index.isin([UNKNOWN, THE_REST])]
    return sorted(counts.sort_values(ascending=False, kind="stable").index[:MOST_COMPARED])


def draw(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows, the same ones each time; few are among many."""
    return np.random.default_rng(SEED).permutation(rows)[:most]


def ranked(kind: str, table: pd.DataFrame, target: Floats) -> list[tuple[str, str, float]]:
    """Kind, name and AUROC of each input alone, by falling AUROC; those known on too few images are left out."""
    found = []
    for name in table:
        values = table[name].to_numpy(np.float64)
        known = np.isfinite(values)
        if min(target[known].sum(), (1 - target[known]).sum()) >= FEWEST_KNOWN:
            area = float(auroc(target[known], values[known]))
            found.append((kind, str(name), round(max(area, 1 - area), 5)))
    return sorted(found, key=lambda one: -one[2])


def _told(
    by: str, one: str, other: str, kind: str, x: np.ndarray, target: Floats, patients: np.ndarray,
    ranking: Sequence[tuple[str, str, float]],
) -> Told:  # fmt: skip
    score, fold = _out_of_fold(x, target, patients)
    compute = partial(stratified_auroc, target, score, fold)
    value = float(compute(None))
    samples = PatientBootstrap(patients, RESAMPLES, SEED).distribution(compute)
    found = interval(
        value, value + WIDER * (samples - value), effective_patients(patients, target), scale_of("auroc"), n=len(target)
    )
    area, low, high = (round(float(number), 5) for number in (value, found.low, found.high))
    return Told(by, one, other, kind, len(target), len(np.unique(patients)), area, low, high, tuple(ranking))


def _out_of_fold(x: np.ndarray, target: Floats, patients: np.ndarray) -> tuple[Floats, np.ndarray]:
    """Scores (N,) of probes that saw no image of the patient, and the fold of each image."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    score, fold = np.zeros(len(x)), np.zeros(len(x), np.int64)
    cut = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    for number, (train, test) in enumerate(cut.split(x, target, patients)):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        score[test], fold[test] = probe.fit(x[train], target[train]).decision_function(x[test]), number
    return score, fold


def _enough(target: Floats, patients: np.ndarray) -> bool:
    return all(len(np.unique(patients[target == value])) >= FEWEST_PATIENTS for value in (0, 1))
