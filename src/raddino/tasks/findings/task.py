"""Findings generation as a task of ``evaluate``: train a writer on an encoder, write for the test images, judge it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import field_validator

from raddino.config import Config, validate
from raddino.encoders.base import Encoder
from raddino.errors import RaddinoError, counted, did_you_mean
from raddino.files import owner_only, read_json, write_json, writing
from raddino.metrics import clinical
from raddino.progress import subject
from raddino.tables import write_table
from raddino.tasks.base import MIN_TEST_PATIENTS, SPLITS, TEXTS, Absent, Examples, TaskConfig
from raddino.tasks.cases import CASE_TASKS, Cases, Compute, Job
from raddino.tasks.findings.baselines import best_constant, derangement, nearest_texts
from raddino.tasks.findings.cleaning import DEFAULT_RULE, RULES, clean
from raddino.tasks.findings.radgraph import Model
from raddino.tasks.findings.settings import FindingsConfig
from raddino.tasks.findings.studies import one_a_study
from raddino.tasks.findings.text_records import (
    Judges,
    find_judges,
    labelers_of,
    labels_of,
    signatures,
    statistics,
    text_records,
)

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

SHUFFLED, NEAREST, PRIOR = "shuffled images", "nearest neighbour", "prior"
REPORTS = "reports.parquet"
CHUNK = 512
"""Images between two savings of written texts; a multiple of usual batch sizes."""
SIGNED = ("rouge_l", "bleu_4", "meteor", "radgraph_er")


class FindingsTaskConfig(FindingsConfig):
    """How findings are written, and by what they are judged.

    Attributes:
        cleaning: rule of :mod:`~raddino.tasks.findings.cleaning` for all texts.
        chexbert: folder with ``chexbert.pth`` and ``vocab.txt``; None looks beside other weights.
        radgraph: folder of RadGraph's weights; None looks beside other weights.
        radgraph_python: interpreter that has the package ``radgraph``.
        radgraph_model: which of the package's networks.
    """

    cleaning: str = DEFAULT_RULE
    chexbert: Path | None = None
    radgraph: Path | None = None
    radgraph_python: Path | None = None
    radgraph_model: Model = "radgraph"

    @field_validator("cleaning")
    @classmethod
    def _known(cls, rule: str) -> str:
        if rule not in RULES:
            raise ValueError(f"no such rule. Known: {', '.join(RULES)}")
        return rule

    @property
    def writer(self) -> FindingsConfig:
        """The settings that training depends on."""
        return FindingsConfig.model_validate(self.model_dump(include=set(FindingsConfig.model_fields)))


class FindingsTask:
    """Writes findings from images; see :class:`~raddino.tasks.cases.CaseTask`.

    Beside the model stand the same model shown images of other patients (``shuffled images``), the report of the
    training image with the most similar CLS features (``nearest neighbour``), and the one training report that scores
    best when it is given for every training image (``prior``).
    """

    options: type[Config] = FindingsTaskConfig

    def select(self, corpus: Corpus, config: TaskConfig) -> Examples:
        """Images with a text that is not empty once it is cleaned, one a study; ``target`` is its number of words.

        Raises:
            Absent: no such column, a split without texts, or too few test patients.
        """
        if config.target not in corpus.manifest:
            hint = did_you_mean(config.target, [name for name in TEXTS if name in corpus.manifest])
            raise Absent(f"the corpus has no column {config.target!r}.{hint}")
        rows = np.sort(corpus.rows(where=config.where))
        frame = corpus.manifest.iloc[rows]
        rule = validate(FindingsTaskConfig, config.options).cleaning
        texts = np.array(_texts(corpus, rows, config.target, rule), dtype=object)
        words = np.array([len(text.split()) for text in texts], dtype=np.float64)
        given = frame[config.target].map(lambda text: isinstance(text, str) and bool(text.strip())).to_numpy(bool)
        split = frame["split"].astype(str).to_numpy()
        known = np.isin(split, SPLITS)
        usable = (words > 0) & known
        kept, further = one_a_study(frame[usable], texts[usable].tolist())
        excluded = {
            "no text": int((~given).sum()),
            "nothing left of the text by the cleaning rule": int((given & (words == 0)).sum()),
            "no split": int(((words > 0) & ~known).sum()),
            **further,
        }
        examples = Examples.of(corpus, config, rows[usable][kept], words[usable][kept], excluded)
        _require_enough(examples)
        return examples

    def needs(self, encoder: Encoder, options: Any) -> str:
        """An encoder without a patch grid cannot serve."""
        return "" if encoder.grid else f"{subject(encoder.name)} has no patch features, which a findings writer reads"

    def run(self, job: Job) -> Sequence[Cases]:
        """Train, write, and judge the model and what it has to beat; all texts go to ``reports.parquet``.

        The folder of the job becomes open to its owner alone.

        Raises:
            RaddinoError: weights of a judge that were given are not there, or training fails.
        """
        from raddino.tasks.findings.data import Reports
        from raddino.tasks.findings.train import train_findings

        options, examples, at = job.options, job.examples, job.examples.at
        judges = find_judges(
            options.chexbert, options.radgraph, options.radgraph_python, options.radgraph_model, job.device
        )
        with writing(job.folder):
            job.folder.mkdir(parents=True, exist_ok=True)
            job.folder.chmod(0o700)
        texts = np.array(_texts(job.corpus, examples.rows, examples.config.target, options.cleaning), dtype=object)
        sides = {split: Reports(examples.rows[at[split]], list(texts[at[split]])) for split in ("train", "val")}
        trained = train_findings(
            job.corpus, sides["train"], sides["val"], job.encoder, options.writer, job.folder,
            seed=job.seed, **_embedding(job),
        )  # fmt: skip
        train, test = list(texts[at["train"]]), list(texts[at["test"]])
        rows = examples.rows[at["test"]]
        other = derangement(examples.patients[at["test"]], job.seed)
        written = {
            "": _write(job, trained.folder, "texts", rows),
            SHUFFLED: _write(job, trained.folder, "texts-shuffled", rows[other]),
            NEAREST: _nearest(job, train),
            PRIOR: [_prior(judges, train)] * len(rows),
        }
        chosen = {"options": _public(options), **trained.chosen, "cleaning": options.cleaning}
        records = {variant: text_records(test, said, judges, train) for variant, said in written.items()}
        notes = {"absent": judges.absent, "signatures": _signatures(records[""], judges, options.cleaning)}
        _save_reports(job.folder / REPORTS, examples.ids[at["test"]], test, written, records)
        return [
            Cases(records[variant], chosen | {"variant": variant}, variant, alone=variant == PRIOR, notes=notes)
            for variant in written
        ]

    def statistics(self, records: pd.DataFrame) -> dict[str, Compute]:
        """Label F1s, text metrics and how texts are written; see :mod:`raddino.tasks.findings.text_records`."""
        return statistics(records)


CASE_TASKS.register("findings")(FindingsTask())


def report_scores(records: pd.DataFrame) -> np.ndarray:
    """(N,) micro F1 over the 14 findings of each report by the leading labeler."""
    reference, hypothesis = labels_of(records, labelers_of(records)[0])
    return clinical.f1_micro(clinical.label_counts(reference, hypothesis))


def _texts(corpus: Corpus, rows: np.ndarray, column: str, rule: str) -> list[str]:
    """Cleaned texts of rows, empty where there is none."""
    return [clean(text, rule) if isinstance(text, str) else "" for text in corpus.manifest[column].iloc[rows]]


def _require_enough(examples: Examples) -> None:
    for split, at in examples.at.items():
        if not len(at):
            raise Absent(f"no image of the {split} split has a text")
    _, counts = np.unique(examples.patients[examples.at["test"]], return_counts=True)
    if len(counts) < MIN_TEST_PATIENTS:
        raise Absent(f"test split has {counted(len(counts), 'patient')}; at least {MIN_TEST_PATIENTS} are needed")
    if 2 * counts.max() > counts.sum():
        raise Absent("one patient has more than half of the test images")


def _embedding(job: Job) -> dict[str, Any]:
    return {"batch_size": job.batch_size, "precision": job.precision, "device": job.device, "cache": job.cache}


def _write(job: Job, model: Path, name: str, shown: np.ndarray) -> list[str]:
    """Cleaned texts for the test images, written from the images ``shown`` (N,); ``NAME.json`` keeps what is done."""
    from raddino.tasks.findings.generate import generate_findings

    rows = job.examples.rows[job.examples.at["test"]]
    asked = [job.options.writer.model_dump_json(), job.encoder.fingerprint, job.corpus.fingerprint, job.seed]
    said = json.dumps([*asked, rows.tolist(), shown.tolist()])
    key, file = hashlib.sha256(said.encode()).hexdigest(), job.folder / f"{name}.json"
    done = _read_written(file, key, len(rows))
    for start in range(len(done), len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        done += generate_findings(
            job.corpus, rows[part], job.encoder, model, shown=shown[part], **_embedding(job)
        )  # fmt: skip
        with owner_only():
            write_json(file, {"key": key, "texts": done})
    return [clean(text, job.options.cleaning) for text in done]


def _read_written(file: Path, key: str, most: int) -> list[str]:
    """Up to ``most`` texts of an earlier run of the same settings; none where the file is damaged or of others."""
    try:
        held = read_json(file, "write them again")
        texts = held["texts"] if held["key"] == key else []
    except (RaddinoError, KeyError):
        return []
    sound = isinstance(texts, list) and all(isinstance(text, str) for text in texts) and len(texts) <= most
    return texts if sound else []


def _nearest(job: Job, train_texts: list[str]) -> list[str]:
    """The training report of each test image's nearest training image."""
    from raddino.features.extract import embed

    examples, at = job.examples, job.examples.at
    both = np.concatenate([at["train"], at["test"]])
    cls = embed(
        job.corpus, job.encoder, rows=examples.rows[both], batch_size=job.batch_size, cache=job.cache,
        precision=job.precision,
    ).cls  # fmt: skip
    n, patients = len(at["train"]), examples.patients[both]
    return nearest_texts(cls[n:], cls[:n], train_texts, patients[n:], patients[:n])


def _prior(judges: Judges, train_texts: list[str]) -> str:
    leading = next(iter(judges.labelers))
    return best_constant(train_texts, judges.labels(leading, train_texts))


def _public(options: FindingsTaskConfig) -> dict[str, Any]:
    """The settings that a number depends on, without folders of this machine."""
    return options.writer.public() | {"cleaning": options.cleaning}


def _signatures(records: pd.DataFrame, judges: Judges, rule: str) -> dict[str, str]:
    """One signature a metric or, of the label F1s, a labeler."""
    said: dict[str, str] = {}
    for name, words in signatures(records, judges, rule).items():
        labeler, is_f1, _ = name.partition("_f1")
        if is_f1 or name in SIGNED:
            said.setdefault(labeler + is_f1, words)
    return said


def _save_reports(
    file: Path, ids: np.ndarray, references: list[str], written: dict[str, list[str]], records: dict[str, pd.DataFrame]
) -> None:
    """Texts of every variant with the score of each report; they stay on this disk."""
    parts = [
        pd.DataFrame({
            "variant": variant, "id": ids, "reference": references, "hypothesis": said,
            "score": report_scores(records[variant]), "rouge_l": records[variant]["rouge_l"].to_numpy(),
        })
        for variant, said in written.items()
    ]  # fmt: skip
    with owner_only():
        write_table(file, pd.concat(parts, ignore_index=True))
