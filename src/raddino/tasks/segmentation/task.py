"""Segmentation as a case task: heads on frozen or fine-tuned encoders and the U-Net, judged image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raddino.config import Config, validate
from raddino.encoders.base import Encoder
from raddino.errors import RaddinoError, counted
from raddino.progress import subject, track
from raddino.tasks.base import MIN_TEST_PATIENTS, SPLITS, Absent, Examples, TaskConfig
from raddino.tasks.cases import CASE_TASKS, Cases, Compute, Job
from raddino.tasks.learning import module_of
from raddino.tasks.segmentation.network import framed, is_supervised, public
from raddino.tasks.segmentation.score import statistics
from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.tasks.segmentation.targets import IGNORE, Targets
from raddino.tasks.segmentation.unet import named_weights
from raddino.tasks.segmentation.work import Work

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus


class Segmentation:
    """Train on the training masks, choose the step on validation, judge the test masks at their own size."""

    options: type[Config] = SegmentationConfig

    def select(self, corpus: Corpus, config: TaskConfig) -> Examples:
        """Images with a mask, or known to have an empty one; ``target`` is the share of pixels of any class.

        Raises:
            Absent: no such mask column, masks drawn in two ways, a split without a mask or without foreground, or too
                few test patients.
        """
        options = validate(SegmentationConfig, config.options)
        targets = Targets(corpus, config.target, options)
        asked = np.sort(corpus.rows(where=config.where))
        inside = asked[corpus.manifest["split"].iloc[asked].isin(SPLITS).to_numpy()]
        rows = targets.rows(inside)
        if not options.pool_conventions:
            _require_one_convention(targets, rows)
        target, unusable = _foregrounds(targets, rows)
        excluded = {"no mask": len(inside) - len(rows), "unusable split": len(asked) - len(inside), **unusable}
        usable = np.isfinite(target)
        examples = Examples.of(corpus, config, rows[usable], target[usable], excluded)
        _require_enough(examples)
        return examples

    def needs(self, encoder: Encoder, options: Any) -> str:
        """Why an encoder cannot serve: no patch grid, not as many depths, or nothing to fine-tune."""
        if is_supervised(encoder):
            try:
                named_weights(options.unet_weights)
            except RaddinoError as error:
                return str(error)
            return ""
        if encoder.grid is None:
            return f"{subject(encoder.name)} has no patch features, which a segmentation head reads"
        if options.finetune and module_of(encoder) is None:
            return f"{subject(encoder.name)} cannot be fine-tuned: leave finetune out"
        try:
            framed(encoder, options)
        except RaddinoError as error:
            return str(error)
        return ""

    def run(self, job: Job) -> Sequence[Cases]:
        """One record a test image; the model, its records and a few predictions stay in ``job.folder``."""
        work = Work(job)
        model = work.model()
        training, supervised = model.record.training, is_supervised(job.encoder)
        chosen = {
            "options": public(job.options),
            "head": "unet" if supervised else job.options.head,
            "depths": [] if supervised or job.options.depths == 1 else list(framed(job.encoder, job.options).depths),
            "input": model.network.picture,
            "images_seen": training["steps"] * job.options.batch_size,
            "augmented": work.augmented,
            "step": training["best_step"],
            "validation_dice": training["dice"],
            "parameters": model.parameters,
        }
        unseen = {f"dice ({name})": "no training mask holds the class" for name in training.get("unseen", ())}
        return [Cases(work.records(model), chosen, notes={"absent": unseen} if unseen else {})]

    def statistics(self, records: pd.DataFrame) -> dict[str, Compute]:
        """See :func:`raddino.tasks.segmentation.score.statistics`."""
        return statistics(records)


def _foregrounds(targets: Targets, rows: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Share of each image's pixels that belong to any class, NaN where its mask is not usable; and how many are not."""
    shares, reasons = np.full(len(rows), np.nan), []
    for position, row in enumerate(track(rows.tolist(), "read masks")):
        try:
            shares[position] = ((targets.read(row) & ~IGNORE) != 0).mean()
        except RaddinoError as error:
            reasons.append(str(error))
    return shares, {f"unusable mask (the first: {reasons[0]})": len(reasons)} if reasons else {}


def _require_one_convention(targets: Targets, rows: np.ndarray) -> None:
    for column, drawn in targets.conventions(rows).items():
        ways = "; ".join(f"{words}: {', '.join(sources)}" for words, sources in drawn.items())
        first = next(iter(drawn.values()))
        raise Absent(
            f'{column} is not drawn in one way ({ways}): choose with where, for example "source in {first}", or set '
            "pool_conventions"
        )


def _require_enough(examples: Examples) -> None:
    for split, at in examples.at.items():
        if not len(at):
            why = "; ".join(f"{count} of all splits excluded: {reason}" for reason, count in examples.excluded.items())
            raise Absent(f"no image of the {split} split has a mask" + (f" ({why})" if why else ""))
        if not examples.target[at].any():
            raise Absent(f"{split} split: all {len(at)} masks are empty")
    patients = len(set(examples.patients[examples.at["test"]]))
    if patients < MIN_TEST_PATIENTS:
        raise Absent(
            f"test split has {counted(patients, 'patient')} with a mask; at least {MIN_TEST_PATIENTS} are needed"
        )


CASE_TASKS.register("segmentation")(Segmentation())
