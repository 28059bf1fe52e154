"""One encoder on one segmentation task: what is read, trained, kept in the folder, and said of each test image."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from raddino.errors import RaddinoError
from raddino.features.extract import embed, fit_where_needed
from raddino.features.forward import feature_key, resolve_precision
from raddino.features.patches import PatchRows
from raddino.files import writing
from raddino.metrics import overlap
from raddino.metrics.ranking import ratio
from raddino.progress import track
from raddino.tables import TableFile, write_table
from raddino.tasks.cases import Job
from raddino.tasks.segmentation import shown
from raddino.tasks.segmentation.feeds import WHOLE, FeatureFeed, PictureFeed, read_squares
from raddino.tasks.segmentation.model import ABOUT, ENCODER, HEAD, UNET, ModelRecord, SegmentationModel, read_record
from raddino.tasks.segmentation.network import Network, PatchNetwork, build_network, framed, is_supervised, public
from raddino.tasks.segmentation.predict import class_bits
from raddino.tasks.segmentation.score import COUNTS, SURFACE, score_case
from raddino.tasks.segmentation.targets import Targets
from raddino.tasks.segmentation.train import STATE, Progress, train

RECORDS = "records.parquet"
OURS = (ABOUT, HEAD, UNET, ENCODER, STATE, RECORDS, shown.FOLDER)
"""Everything that a task's folder may hold; a folder with anything else in it is not touched."""


class Work:
    """A job, its targets, and the key that names everything the result depends on.

    A folder whose model has the key is done; one with a training state of the key goes on; any other content of
    :data:`OURS` is replaced.

    Args:
        job: see :class:`~raddino.tasks.cases.Job`.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.options = job, job.options
        self.targets = Targets(job.corpus, job.examples.config.target, job.options)
        self.supervised = is_supervised(job.encoder)
        self.frozen = not (self.supervised or self.options.finetune)
        self.augmented = self.supervised or self.options.augment
        if not self.supervised:
            fit_where_needed(job.encoder, job.corpus)

    @cached_property
    def key(self) -> str:
        """16 hex digits of settings, encoder, corpus, images of each split, and seed."""
        examples = self.job.examples
        said = [
            public(self.options),
            examples.config.target,
            feature_key(self.job.encoder, resolve_precision(self.job.precision, self.job.encoder)),
            self.job.corpus.fingerprint,
            {split: self.rows(split).tolist() for split in examples.at},
            self.job.seed,
        ]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split's images."""
        return self.job.examples.rows[self.job.examples.at[split]]

    def model(self) -> SegmentationModel:
        """The finished model of this key in the folder, or one that is trained now.

        Raises:
            RaddinoError: the folder holds foreign files, or the training diverged.
        """
        job, folder = self.job, self.job.folder
        if (folder / ABOUT).is_file() and read_record(folder).key == self.key:
            return SegmentationModel.load(folder, job.encoder, job.device, job.precision)
        _clear(folder)
        network = build_network(job.encoder, self.options, seed=job.seed, precision=job.precision, device=job.device)
        learned = self._feed(network, "train")
        progress = train(
            network,
            learned,
            self._feed(network, "val"),
            self.options,
            folder=folder,
            key=self.key,
            seed=job.seed,
            device=network.device,
        )
        model = SegmentationModel(network, self._record(network, progress, learned.bits)).save(folder)
        (folder / STATE).unlink(missing_ok=True)
        return model

    def records(self, model: SegmentationModel) -> pd.DataFrame:
        """:func:`score_case` of every test image, kept in the folder, with the images of ``shown/``."""
        if (kept := self._kept(model)) is not None:
            return kept
        rows, ids = self.rows("test"), self.job.examples.ids[self.job.examples.at["test"]]
        tolerance = self.options.surface_tolerance
        found = []
        for row in track(rows.tolist(), "score masks"):
            truth = self.targets.read(row)
            found.append(score_case(self.predict(model, row, truth.shape), truth, model.names, tolerance))
        table = pd.DataFrame(found)
        shown.write_shown(
            self.job.folder,
            model.names,
            mean_dice(table, model.names).tolist(),
            lambda at: {"id": str(ids[at]), "row": int(rows[at])},
            lambda at: self.predict(model, int(rows[at]), self.targets.read(int(rows[at])).shape),
        )
        write_table(self.job.folder / RECORDS, table, {"model": model.digest})
        return table

    def _kept(self, model: SegmentationModel) -> pd.DataFrame | None:
        """Records that this very model left here with its ``shown/``; None, to make them anew, where one is damaged."""
        folder = self.job.folder
        try:
            file = TableFile(folder / RECORDS, "")
            for case in shown.read_shown(folder):
                shown.read_bits(folder / shown.FOLDER / case["file"], case.get("sha256"))
        except RaddinoError:
            return None
        if not (folder / shown.FOLDER / shown.INDEX).is_file():
            return None
        wanted = {f"{kind} ({name})" for name in model.names for kind in COUNTS + SURFACE}
        whole = file.about.get("model") == model.digest and set(file.kinds) == wanted
        return file.read() if whole and len(file) == len(self.rows("test")) else None

    def predict(self, model: SegmentationModel, row: int, shape: tuple[int, ...]) -> np.ndarray:
        """Class bits of a test image at the mask's own ``shape``, int32, from cached features where they say all."""
        network = model.network
        if not (isinstance(network, PatchNetwork) and row in self._cached):
            return model.segment(self.job.corpus.read(row))
        patches = torch.from_numpy(self._patches(np.array([row]))[:].astype(np.float32))
        with torch.inference_mode():
            logits = network.head(patches.to(network.device))[0]
        return class_bits(model.predictor.of_logits(logits, shape), self.options.exclusive, self.options.drop_islands)

    @cached_property
    def _cached(self) -> dict[int, int]:
        """Row to position among the cached features: what is read more than once and never changed."""
        splits = ["val"] * self.frozen
        splits += ["train"] * (self.frozen and not self.augmented)
        splits += ["test"] * (self.frozen and not self.options.test_flips and self.options.window == 1)
        rows = np.concatenate([self.rows(split) for split in splits]) if splits else np.empty(0, np.int64)
        return {int(row): position for position, row in enumerate(np.sort(rows))}

    @cached_property
    def _features(self) -> PatchRows:
        job = self.job
        found = embed(
            job.corpus,
            framed(job.encoder, self.options),
            rows=np.array(list(self._cached)),
            batch_size=job.batch_size,
            cache=job.cache,
            precision=job.precision,
            patches=True,
        ).patches
        assert found is not None
        return found

    def _patches(self, rows: np.ndarray) -> PatchRows:
        return self._features.take([self._cached[int(row)] for row in rows])

    def _feed(self, network: Network, split: str) -> FeatureFeed | PictureFeed:
        """Images and square targets of a split; a frozen encoder's features where nothing changes the images."""
        rows = self.rows(split)
        augmented = self.augmented and split == "train"
        bits = read_squares(self.targets, rows, network.side, WHOLE if augmented else network.margin)
        if self.frozen and not augmented:
            return FeatureFeed(self._patches(rows), bits)
        mirror = self.targets.mirror
        return PictureFeed(self.job.corpus, rows, bits, network, augmented=augmented, mirror=mirror)

    def _record(self, network: Network, progress: Progress, bits: np.ndarray) -> ModelRecord:
        held = int(np.bitwise_or.reduce(bits, axis=None))
        encoder, corpus = self.job.encoder, self.job.corpus
        prepared: dict[str, Any] = corpus.info.get("preparation") or {}
        return ModelRecord(
            options=self.options,
            names=self.targets.names,
            spec=self.job.spec,
            encoder={
                "name": encoder.name,
                "fingerprint": encoder.fingerprint,
                "provenance": encoder.provenance.to_dict(),
            },
            key=self.key,
            shorter_side=prepared.get("shorter_side"),
            side=network.side,
            training={
                "steps": progress.step,
                "best_step": progress.best_step,
                "dice": progress.best,
                "history": progress.history,
                "unseen": [name for position, name in enumerate(self.targets.names) if not held >> position & 1],
            },
        )


def mean_dice(records: pd.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    """(N,) mean Dice over the classes that are in the true or predicted mask; NaN where none is."""
    counts = [records[[f"{kind} ({name})" for name in names]].to_numpy(np.float64) for kind in COUNTS]
    dice = overlap.dice(*counts)
    return ratio(np.nansum(dice, axis=1), np.isfinite(dice).sum(1))


def _clear(folder: Any) -> None:
    """Remove what an earlier job of other settings left, but for a training state, which says itself whose it is.

    Raises:
        RaddinoError: something else lies there.
    """
    if not folder.is_dir():
        return
    foreign = [path.name for path in folder.iterdir() if path.name not in OURS and not path.name.endswith(".draft")]
    if foreign:
        raise RaddinoError(f"{folder} holds {foreign[0]!r}, which no segmentation task wrote: choose another folder")
    with writing(folder):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != STATE:
                path.unlink()
