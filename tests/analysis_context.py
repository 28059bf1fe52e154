"""A :class:`Context` of invented images, features and probe outputs whose truth the test plants."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from memory_corpus import MemoryCorpus
from raddino.benchmark.analyses.base import Context
from raddino.benchmark.measure import Scores
from raddino.benchmark.suite import Suite
from raddino.features.cache import FeatureSet
from raddino.tasks.base import TaskConfig, select_examples
from raddino.tasks.classification import task as _classification  # noqa: F401
from raddino.tasks.metadata import task as _metadata  # noqa: F401

SPLITS = ("train", "train", "train", "val", "test", "test")


def invented(patients: int = 300, images: int = 2, seed: int = 0) -> pd.DataFrame:
    """A manifest of ``images`` images a patient in three splits, with sex, age, view and source at random."""
    draw = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), images)
    n = len(patient)
    return pd.DataFrame({
        "id": [f"image{i}" for i in range(n)], "patient": [f"p{p}" for p in patient],
        "split": np.array(SPLITS)[patient % len(SPLITS)], "source": np.array(["a", "b"])[patient // 6 % 2],
        "view": draw.choice(["AP", "PA"], n), "sex": np.array(["F", "M"])[draw.integers(0, 2, patients)[patient]],
        "age": draw.uniform(5, 95, patients)[patient], "label_x": draw.integers(0, 2, n).astype(float),
        "label_y": draw.integers(0, 2, n).astype(float),
    })  # fmt: skip


def context_of(
    manifest: pd.DataFrame,
    outputs: dict[str, dict[str, np.ndarray]],
    tasks: list[TaskConfig],
    folder: Path,
    *,
    features: dict[str, np.ndarray] | None = None,
    images: list[np.ndarray] | None = None,
    encoders: dict[str, Any] | None = None,
    seeds: int = 2,
    resamples: int = 200,
    probe: Any = None,
    macro: dict[str, tuple[str, ...]] | None = None,
) -> Context:
    """Args: outputs: by encoder and task (N,) logits or numbers of all images of the manifest."""
    corpus = MemoryCorpus(images or [np.zeros((4, 4), np.uint8)] * len(manifest), manifest, folder)
    examples = [select_examples(corpus, task) for task in tasks]  # type: ignore[arg-type]
    features = features or {name: np.zeros((len(manifest), 2), np.float32) for name in outputs}
    rows, ids = np.arange(len(manifest)), manifest["id"].tolist()

    def scores(name: str, task: int) -> Scores:
        one = examples[task]
        values = np.asarray(outputs[name][one.config.name])[one.rows]
        val, test = (np.repeat(values[None, one.at[split]], seeds, axis=0) for split in ("val", "test"))
        return Scores(one, val, test, {"probe": "linear"})

    return Context(
        corpus=corpus,  # type: ignore[arg-type]
        encoders=encoders or dict.fromkeys(outputs),  # type: ignore[arg-type]
        features={
            name: FeatureSet(np.asarray(cls, np.float32), None, rows, ids, f"{name}-print", corpus.fingerprint)
            for name, cls in features.items()
        },
        scores={
            name: {
                one.config.name: scores(name, i) for i, one in enumerate(examples) if one.config.name in outputs[name]
            }
            for name in outputs
        },
        examples=examples,
        suite=Suite(tasks=tuple(tasks), probe=probe or {"seeds": seeds, "steps": 150}, macro=macro or {}),
        fingerprints={name: f"{name}-print" for name in outputs},
        seed=0,
        resamples=resamples,
        batch_size=32,
        precision="fp32",
        cache=None,
    )  # fmt: skip


X = TaskConfig(name="x", target="label_x", kind="binary")
Y = TaskConfig(name="y", target="label_y", kind="binary")
SEX = TaskConfig(name="sex", target="sex", kind="binary", positive="M")
AGE = TaskConfig(name="age", target="age", kind="regression")


def only_rows(rows: list[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row.get(key) == value for key, value in fields.items())]
