"""``raddino predict``: what kept probes say of images, read and prepared as their corpus was. Not for clinical use."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raddino.encoders.base import Encoder
from raddino.encoders.kept_spec import found_spec
from raddino.encoders.laid_out import as_read
from raddino.encoders.load import load_encoder
from raddino.errors import ConfigError, RaddinoError, commonest
from raddino.features.forward import encode_all, make_encode
from raddino.files import draft_of, owner_only
from raddino.images.errors import ImageError
from raddino.progress import bar
from raddino.tasks.base import value_text
from raddino.tasks.probes.kept import NOT_CLINICAL, KeptProbe, ProbeRecord
from raddino.tasks.probes.read import pick
from raddino.tasks.segmentation.segment import listed, read_ahead

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("image", "task", "encoder", "class", "value", "uncalibrated", "reason", "note")


@dataclass(frozen=True)
class Predicted:
    """What came of the images.

    Attributes:
        out: the CSV file.
        images: how many were read.
        skipped: images that could not be read, by reason.
        warnings: images read that something should be known of, by what.
    """

    out: Path
    images: int
    skipped: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)


def predict(
    images: str | Path,
    probes: Sequence[str | Path],
    out: str | Path,
    *,
    encoder: str | None = None,
    secondary_capture: bool = False,
    batch_size: int = 32,
    device: str = "auto",
) -> Predicted:
    """Apply kept probes to files and write a CSV that its owner alone can read: names of files may name patients.

    Columns: ``image`` (its name), ``task``, ``encoder``, ``class`` (of a multiclass task; of text, the value that
    counts as positive), ``value`` (a probability after the temperature that validation images chose, or a number in
    the target's unit), ``uncalibrated`` (the probability as ``predictions.parquet`` has it), ``reason`` (why an image
    has no value) and ``note`` (not for clinical use; what reading noticed).

    Args:
        images: a file, or a folder, a glob, an archive, a DICOMDIR, a manifest or a URL as for ``prepare``.
        probes: folders ``RESULTS/probes/TASK/ENCODER``.
        out: the CSV file; an earlier one is replaced.
        encoder: spec of the probes' encoder, where it is not to be had from the spec in the probe.
        secondary_capture: take DICOM Secondary Capture too, see :func:`raddino.images.admit.admit`.
        batch_size: images in one call of an encoder.
        device: where it runs.

    Raises:
        ConfigError: no probe, ``out`` is a folder, or probes of differently prepared corpora.
        RaddinoError: no image, none that could be read (``out`` says why), no probe or a damaged one, an encoder that
            cannot be had or is another than the probe was trained on, or ``out`` cannot be written.
    """
    if not probes:
        raise ConfigError("no probe: give at least one folder RESULTS/probes/TASK/ENCODER")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    out = Path(out)
    if out.is_dir():
        raise ConfigError(f"{out} is a folder: give the name of a CSV file")
    loaded = [KeptProbe.load(folder) for folder in probes]
    prepared = {(one.record.shorter_side, one.record.bits) for one in loaded}
    if len(prepared) > 1:
        raise ConfigError(
            "the probes' corpora were prepared with different --shorter-side or --bits: predict one by one"
        )
    readers = _readers(loaded, probes, encoder, device)
    sources = listed(images, out)
    if not sources:
        raise RaddinoError(f"{images} holds no image")
    shorter_side, bits = prepared.pop()
    skipped: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    with (
        owner_only(),
        draft_of(out) as draft,
        draft.open("w", newline="", encoding="utf-8", errors="backslashreplace") as text,
        bar("predict", total=len(sources)) as shown,
    ):
        table = csv.writer(text)
        table.writerow(COLUMNS)
        files = read_ahead(list(sources.items()), shorter_side, secondary_capture, bits)
        while part := list(islice(files, batch_size)):
            read = [(place, found.grey) for place, _, found in part if not isinstance(found, ImageError)]
            answers: dict[str, list[list[str]]] = {place: [] for place, _ in read}
            for reader in readers if read else ():
                for place, lines in zip(answers, reader.lines([grey for _, grey in read]), strict=True):
                    answers[place] += lines
            for place, _, found in part:
                if isinstance(found, ImageError):
                    skipped[found.reason] += 1
                    table.writerow([place, "", "", "", "", "", found.reason, NOT_CLINICAL])
                else:
                    warnings.update(found.warnings)
                    note = "; ".join([NOT_CLINICAL, *found.warnings])
                    table.writerows([place, *line, "", note] for line in answers[place])
                shown.advance()
    if skipped.total() == len(sources):
        raise RaddinoError(f"no image could be read: {commonest(skipped)}. See {out}")
    return Predicted(out, len(sources) - skipped.total(), dict(skipped), dict(warnings))


@dataclass(frozen=True)
class _Reader:
    """An encoder, and the probes that read it."""

    encoder: Encoder
    precision: str
    probes: list[KeptProbe]

    def lines(self, images: list[np.ndarray]) -> list[list[list[str]]]:
        """For each grey image (H, W) the lines of all probes: task, encoder, class, value, uncalibrated."""
        cls, mean = self._features(images)
        found: list[list[list[str]]] = [[] for _ in images]
        for probe in self.probes:
            record = probe.record
            read = pick(cls, mean, record.features)
            values, raw = probe.answers(read), probe.answers(read, calibrated=False)
            for lines, value, plain in zip(found, values, raw, strict=True):
                for at, name in enumerate(record.classes or [_positive(record)]):
                    uncalibrated = "" if record.kind == "regression" else f"{plain[at]:.6f}"
                    lines.append([record.task, record.encoder, name, f"{value[at]:.6f}", uncalibrated])
        return found

    def _features(self, images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        encode = make_encode(self.encoder, self.precision, compile=False)
        encoded = list(encode_all(self.encoder, encode, self._batch(images), keep_patches=False))
        return encoded[0].cls, encoded[0].mean_patch

    def _batch(self, images: list[np.ndarray]) -> Iterator[tuple[np.ndarray, Tensor]]:
        yield np.arange(len(images)), self.encoder.preprocess(images)


def _positive(record: ProbeRecord) -> str:
    """Of a column of text, or of numbers other than 0 and 1, the value whose probability is told; else empty."""
    return "" if record.positive is None else value_text(record.positive)


def _readers(probes: list[KeptProbe], folders: Sequence[str | Path], given: str | None, device: str) -> list[_Reader]:
    """The encoders that the probes need, each loaded once."""
    loaded: dict[str, Encoder] = {}
    readers: dict[tuple[str, str], _Reader] = {}
    for probe, folder in zip(probes, folders, strict=True):
        record = probe.record
        if given is None and record.spec is None:
            raise RaddinoError(
                f"{folder} does not say where its encoder {record.encoder!r} is: give it, with --encoder"
            )
        spec = given or found_spec(str(record.spec), Path(folder))
        try:
            encoder = loaded[spec] = loaded.get(spec) or load_encoder(spec, device=device)
        except RaddinoError as error:
            raise RaddinoError(
                f"the encoder {record.encoder!r} of {folder} cannot be loaded from {os.fspath(spec)} ({error}): say "
                "where it is, with --encoder"
            ) from None
        if hasattr(encoder, "fit"):
            remedy = "choose a probe of another encoder" if given is None else "give the one it was trained on"
            raise RaddinoError(
                f"{folder} would read {encoder.name!r}, which is fitted on the corpus that it is evaluated on and is "
                f"not kept: {remedy}"
            )
        if encoder.fingerprint != record.fingerprint:
            raise RaddinoError(
                f"{folder} was trained on encoder {record.encoder!r} of fingerprint {record.fingerprint}; "
                f"{encoder.name!r} has {encoder.fingerprint}: give the one it was trained on, with --encoder"
            )
        read = as_read(encoder, record.features, record.flips)
        made = readers.setdefault((read.fingerprint, record.precision), _Reader(read, record.precision, []))
        made.probes.append(probe)
    return list(readers.values())
