"""Planted truth: whole evaluations of features whose true values are known, counted against what they claim.

Each repetition draws new patients with one to five images, features in which a finding (varies within a patient),
a trait (does not) and age are planted with known strength, and features of pure noise; images of one patient are
correlated. ``raddino.evaluate`` judges them; its probe's direction is read back from ``predictions.parquet``, and the
value of that probe in the population follows in closed form. Counted are the 95 % intervals that hold it, and the
p-values between two encoders that know nothing.

    python benchmarks/planted.py --repetitions 200
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from scipy.special import logit
from scipy.stats import binomtest, kstest, norm

from raddino.benchmark.evaluate import evaluate
from raddino.corpus.where import query
from raddino.encoders.base import Features, Provenance

WIDTH, SHARED, STRENGTH, AGE_STRENGTH, AGE_SD = 8, 0.5, 1.2, 1.0, 15.0
FINDING, TRAIT = 0.3, 0.5
SUITE = {
    "tasks": [
        {"name": "finding", "target": "label_finding", "kind": "binary"},
        {"name": "trait", "target": "label_trait", "kind": "binary"},
        {"name": "age", "target": "age", "kind": "regression"},
    ],
    "macro": {"mean": ["finding", "trait"]},
    "probe": {"seeds": 2, "steps": 100, "learning_rates": [0.1], "weight_decays": [0.01, 0.1]},
}


class Planted:
    """An in-memory corpus; the one pixel of image ``i`` is ``i``."""

    def __init__(self, patients: int, seed: int, path: Path) -> None:
        rng = np.random.default_rng(seed)
        patient = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
        n = len(patient)
        liability = np.sqrt(0.5) * (rng.normal(size=patients)[patient] + rng.normal(size=n))
        age = rng.normal(50, AGE_SD, patients)[patient]
        self.path, self.info, self.fingerprint = path, {"synthetic": True}, f"planted-{seed}"
        self.fingerprints = [self.fingerprint]
        self.manifest = pd.DataFrame(
            {
                "id": [f"image{i}" for i in range(n)],
                "patient": [f"patient{p}" for p in patient],
                "split": np.array(["train", "test", "val", "train", "test"])[patient % 5],
                "source": "planted",
                "age": age,
                "label_finding": (liability > norm.ppf(1 - FINDING)).astype(float),
                "label_trait": (rng.random(patients) < TRAIT)[patient].astype(float),
            }
        )
        noise = [
            np.sqrt(SHARED) * rng.normal(size=(patients, WIDTH))[patient]
            + np.sqrt(1 - SHARED) * rng.normal(size=(n, WIDTH))
            for _ in range(3)
        ]
        noise[2][:, 0] += STRENGTH * self.manifest["label_finding"]
        noise[2][:, 1] += STRENGTH * self.manifest["label_trait"]
        noise[2][:, 2] += AGE_STRENGTH * (age - 50) / AGE_SD
        self.features = dict(zip(("none", "none too", "signal"), noise, strict=True))

    def __len__(self) -> int:
        return len(self.manifest)

    def read(self, i: int) -> np.ndarray:
        return np.full((1, 1), i, dtype=np.uint16)

    def rows(self, split: str | None = None, where: str | None = None) -> np.ndarray:
        chosen = np.ones(len(self), bool) if where is None else query(self.manifest, where)
        return np.flatnonzero(chosen & (split is None or (self.manifest["split"] == split).to_numpy()))


class Table:
    """An encoder that looks features up."""

    grid, dim, provenance = None, WIDTH, Provenance()

    def __init__(self, name: str, features: np.ndarray) -> None:
        self.name = self.fingerprint = name
        self.features = torch.tensor(features, dtype=torch.float32)

    def preprocess(self, images: list[np.ndarray]) -> torch.Tensor:
        return torch.tensor([[[[int(image[0, 0])]]] for image in images])

    def encode(self, batch: torch.Tensor) -> Features:
        return Features(self.features[batch[:, 0, 0, 0]], None)


@dataclass(frozen=True)
class Line:
    """A fitted linear probe: output = offset + features @ weight."""

    offset: float
    weight: np.ndarray

    @classmethod
    def of(cls, predictions: pd.DataFrame, corpus: Planted, encoder: str, task: str) -> Line:
        """Read back from an encoder's predictions, of which it explains all but rounding."""
        part = predictions[(predictions["encoder"] == encoder) & (predictions["task"] == task)]
        output = part["score"].to_numpy() if task == "age" else logit(part["score"].to_numpy())
        at = corpus.manifest.reset_index().set_index("id").loc[part["id"], "index"].to_numpy()
        x = np.column_stack([np.ones(len(at)), corpus.features[encoder][at]])
        found = np.linalg.lstsq(x, output, rcond=None)[0]
        if not np.allclose(x @ found, output, atol=1e-3):
            raise ValueError("the probe is not linear in the features")
        return cls(float(found[0]), found[1:])

    @property
    def spread(self) -> float:
        """SD of the output among images of one finding and trait."""
        return float(np.sqrt(self.weight @ self.weight + (AGE_STRENGTH * self.weight[2]) ** 2))


def true_auroc(line: Line, task: str) -> float:
    """AUROC in the population: the other label makes each class a mixture of two normals."""
    own, other = (0, 1) if task == "finding" else (1, 0)
    share = TRAIT if task == "finding" else FINDING
    return sum(
        (share if a else 1 - share)
        * (share if b else 1 - share)
        * norm.cdf(STRENGTH * (line.weight[own] + line.weight[other] * (a - b)) / (np.sqrt(2) * line.spread))
        for a, b in product((0, 1), (0, 1))
    )


def true_auprc(line: Line, task: str) -> float:
    """Average precision in the population, integrated over 20,001 thresholds."""
    own, other, prevalence, share = (0, 1, FINDING, TRAIT) if task == "finding" else (1, 0, TRAIT, FINDING)
    grid = np.linspace(-12, 12, 20_001)[::-1] * line.spread

    def above(label: int) -> np.ndarray:
        means = [STRENGTH * (line.weight[own] * label + line.weight[other] * one) for one in (0, 1)]
        return (1 - share) * norm.sf(grid, means[0], line.spread) + share * norm.sf(grid, means[1], line.spread)

    recall, alarms = above(1), above(0)
    precision = prevalence * recall / np.maximum(prevalence * recall + (1 - prevalence) * alarms, 1e-300)
    return float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2) + recall[0] * precision[0])


def true_mae(line: Line) -> float:
    """Mean absolute error in the population: the residual is a mixture of four normals."""
    sd = np.sqrt((AGE_SD - AGE_STRENGTH * line.weight[2]) ** 2 + line.weight @ line.weight)
    total = 0.0
    for finding, trait in product((0, 1), (0, 1)):
        share = (FINDING if finding else 1 - FINDING) * (TRAIT if trait else 1 - TRAIT)
        mean = 50 - line.offset - STRENGTH * (line.weight[0] * finding + line.weight[1] * trait)
        total += share * (
            sd * np.sqrt(2 / np.pi) * np.exp(-((mean / sd) ** 2) / 2) + mean * (1 - 2 * norm.sf(mean / sd))
        )
    return float(total)


def repetition(patients: int, resamples: int, seed: int, folder: Path) -> list[dict[str, Any]]:
    """One whole evaluation: rows with what, kind (interval, p, rank) and value (covered, p, ahead)."""
    suite = folder / "suite.yaml"
    suite.write_text(yaml.safe_dump(SUITE), encoding="utf-8")
    corpus = Planted(patients, seed, folder / "corpus")
    encoders = [Table(name, features) for name, features in corpus.features.items()]
    results = evaluate(corpus, encoders, suite=suite, out=folder / "results", resamples=resamples, seed=seed)  # type: ignore[arg-type]
    rows = results.rows().set_index(["task", "encoder", "metric"])

    def line(task: str) -> Line:
        return Line.of(results.predictions, corpus, "signal", task)

    truth = {(task, "auroc"): true_auroc(line(task), task) for task in ("finding", "trait")}
    truth |= {(task, "auprc"): true_auprc(line(task), task) for task in ("finding", "trait")}
    truth[("mean", "auroc")] = (truth["finding", "auroc"] + truth["trait", "auroc"]) / 2
    truth[("age", "mae")] = true_mae(line("age"))
    seen = []
    for (task, metric), value in truth.items():
        row = rows.loc[(task, "signal", metric)]
        seen.append({"kind": "interval", "what": f"{task} {metric}", "value": row["low"] <= value <= row["high"]})
        other = rows.loc[(task, "none", metric), "value"]
        ahead = row["value"] < other if metric == "mae" else row["value"] > other
        seen.append({"kind": "rank", "what": f"{task} {metric}", "value": ahead})
    for task in ("finding", "trait"):
        row = rows.loc[(task, "none", "auroc")]
        seen.append({"kind": "interval", "what": f"{task} auroc, no signal", "value": row["low"] <= 0.5 <= row["high"]})
        gap = rows.loc[(task, "signal", "auroc"), "difference"]
        held = gap["low"] <= truth[task, "auroc"] - 0.5 <= gap["high"]
        seen.append({"kind": "interval", "what": f"{task} auroc, difference to no signal", "value": held})
        for metric in ("auroc", "auprc"):
            gap = rows.loc[(task, "none too", metric), "difference"]
            seen.append({"kind": "p", "what": f"{task} {metric}, {gap['test']}", "value": gap["p"]})
    return seen


def run(repetitions: int, patients: int, resamples: int) -> pd.DataFrame:
    """All repetitions: columns kind, what, value, seed."""
    seen = []
    for seed in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            seen += [row | {"seed": seed} for row in repetition(patients, resamples, seed, Path(folder))]
    return pd.DataFrame(seen)


def summary(seen: pd.DataFrame) -> str:
    """The counts as Markdown tables."""
    parts = seen.assign(value=seen["value"].astype(float)).groupby(["kind", "what"], sort=False)["value"]
    made: dict[str, list[str]] = {
        "interval": ["| 95 % interval of | covers the truth | 95 % range of that share |", "|---|---|---|"],
        "p": ["| p between two encoders without signal | uniform? (KS) | p < 0.05 | p < 0.2 |", "|---|---|---|---|"],
        "rank": ["| the encoder with signal ranks first by | share |", "|---|---|"],
    }
    for (kind, what), values in parts:
        exact = binomtest(int((values > 0).sum()), len(values)).proportion_ci()
        made[kind].append(
            {
                "interval": f"| {what} | {values.mean():.1%} | {exact.low:.1%} to {exact.high:.1%} |",
                "p": f"| {what} | p = {kstest(values, 'uniform').pvalue:.2f} | {(values < 0.05).mean():.1%} | "
                f"{(values < 0.2).mean():.1%} |",
                "rank": f"| {what} | {values.mean():.1%} |",
            }[kind]
        )
    return "\n\n".join("\n".join(lines) for lines in made.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    seen = run(options.repetitions, options.patients, options.resamples)
    print(
        f"{options.repetitions} evaluations of {options.patients} patients, {options.resamples} resamples, "
        f"{time.perf_counter() - start:.0f} s\n"
    )
    print(summary(seen))


if __name__ == "__main__":
    main()
