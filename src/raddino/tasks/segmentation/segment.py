"""``raddino segment``: masks of images by a saved model, as PNG or DICOM Segmentation objects."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from raddino.corpus.manifest import read_items
from raddino.errors import ConfigError, RaddinoError, commonest
from raddino.files import draft_of, is_free, read_json, write_text, writing
from raddino.images.dicomdir import is_dicomdir
from raddino.images.errors import ImageError, UnreadableImage
from raddino.images.location import fetch, is_archive
from raddino.images.wall import Wall, seconds_for
from raddino.progress import bar
from raddino.tasks.segmentation.contours import PALETTE, draw_contours
from raddino.tasks.segmentation.dicom_seg import need_highdicom, write_dicom_seg
from raddino.tasks.segmentation.model import SegmentationModel
from raddino.tasks.segmentation.predict import class_bits
from raddino.tasks.segmentation.read import Prepared, read_prepared

FORMATS = ("png", "dicom-seg")
ABOUT, SKIPPED = "segment.json", "skipped.csv"
AHEAD = 4


@dataclass(frozen=True)
class Segmented:
    """What came of the images.

    Attributes:
        out: the folder.
        written: images segmented now.
        present: images whose files were there.
        skipped: images that could not be segmented, by reason.
        warnings: images written now that something should be known of, by what.
    """

    out: Path
    written: int = 0
    present: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)


def segment(
    images: str | Path,
    model: str | Path,
    out: str | Path,
    *,
    encoder: str | None = None,
    format: str = "png",
    contours: bool = False,
    carry_header: bool = False,
    secondary_capture: bool = False,
    drop_islands: float | None = None,
    device: str = "auto",
) -> Segmented:
    """Segment files and write each mask at the size of its image, under the image's name.

    ``OUT/segment.json`` says what the values mean; ``OUT/skipped.csv`` names what was left out and why. Run again, it
    does what is missing.

    Args:
        images: a file, or a folder, a glob, an archive, a DICOMDIR, a manifest or a URL as for ``prepare``.
        model: folder of a segmentation model, ``RESULTS/models/TASK/ENCODER``.
        out: a new folder, or one that an earlier call with the same model, format, ``carry_header`` and
            ``drop_islands`` wrote.
        encoder: spec of the model's encoder, where it is not to be had from the spec in the model.
        format: ``"png"``: ``NAME.png``, the class's number (of exclusive classes), or ``NAME.CLASS.png``, 255 where it
            is (of overlapping ones). ``"dicom-seg"``: ``NAME.seg.dcm``, a binary segment a class; only of DICOM files,
            whose patient and study it joins.
        contours: also ``NAME.contours.png``, the image with the outlines.
        carry_header: of ``"dicom-seg"``: repeat all of the source's patient, study and equipment, not only what joins
            the object to them, see :func:`~raddino.tasks.segmentation.dicom_seg.write_dicom_seg`.
        secondary_capture: take DICOM Secondary Capture too, see :func:`raddino.images.admit.admit`.
        drop_islands: drop pieces smaller than this share, 0 to 1, of the class's largest in the image, see
            :func:`~raddino.tasks.segmentation.predict.drop_islands`; None for the model's own setting.
        device: where the networks run.

    Raises:
        ConfigError: another format, ``carry_header`` with PNG, or a share that is none.
        RaddinoError: no image, none that could be segmented, no model, ``out`` holds something else or cannot be
            written, or highdicom is needed and not installed.
    """
    if format not in FORMATS:
        raise ConfigError(f"format takes {' or '.join(FORMATS)}, got {format!r}")
    if carry_header and format != "dicom-seg":
        raise ConfigError("carry_header is for format dicom-seg: a PNG has no header")
    if drop_islands is not None and not 0 <= drop_islands <= 1:
        raise ConfigError(f"drop_islands takes a share of 0 to 1, got {drop_islands:g}")
    if format == "dicom-seg":
        need_highdicom()
    out, loaded = Path(out), SegmentationModel.load(model, encoder, device)
    islands = loaded.record.options.drop_islands if drop_islands is None else drop_islands
    sources = listed(images, out)
    _begin(out, loaded, format, carry_header, islands)
    skipped: list[tuple[str, str]] = []
    warnings: Counter[str] = Counter()
    written = present = 0
    with bar("segment", total=len(sources)) as shown:
        todo = []
        for place, file in sources.items():
            if all((out / name).is_file() for name in _files(place, loaded, format, contours)):
                present += 1
                shown.advance()
            else:
                todo.append((place, file))
        for place, file, prepared in read_ahead(todo, loaded.record.shorter_side, secondary_capture):
            try:
                if isinstance(prepared, ImageError):
                    raise prepared
                _write(out / place, file, prepared, loaded, format, contours, carry_header, islands)
                written += 1
                warnings.update(prepared.warnings)
            except ImageError as error:
                skipped.append((place, error.reason))
            shown.advance()
    _write_skipped(out, skipped)
    reasons = Counter(reason for _, reason in skipped)
    if skipped and not written and not present:
        raise RaddinoError(f"no image could be segmented: {commonest(reasons)}. See {out / SKIPPED}")
    return Segmented(out, written, present, dict(reasons), dict(warnings))


def _write(
    place: Path,
    file: str,
    read: Prepared,
    model: SegmentationModel,
    format: str,
    contours: bool,
    carry_header: bool,
    islands: float,
) -> None:
    """All files of one image, masks first."""
    if format == "dicom-seg" and not read.dicom:
        raise UnreadableImage("DICOM SEG is written of DICOM files only")
    if format == "dicom-seg" and not os.path.isfile(file):
        raise UnreadableImage("DICOM SEG is written of files only, not of archives or URLs: unpack or fetch it")
    found = model.predict(read.grey)
    exclusive = model.record.options.exclusive
    large = np.stack([_resized(one, read.stored) for one in found])
    bits = class_bits(large, exclusive, islands)
    masks = np.stack([(bits >> position & 1).astype(bool) for position in range(len(model.names))])
    if format == "dicom-seg":
        seg = _with(place, ".seg.dcm")
        write_dicom_seg(seg, Path(file), masks, model.names, model.digest, carry_header=carry_header)
    elif exclusive:
        numbers = np.arange(1, len(masks) + 1, dtype=np.uint8)[:, None, None]
        _save_png(_with(place, ".png"), (masks * numbers).max(0))
    else:
        for name, mask in zip(model.names, masks, strict=True):
            _save_png(_with(place, f".{_word(name)}.png"), mask.astype(np.uint8) * np.uint8(255))
    if contours:
        outlined = class_bits(found, exclusive, islands)
        _save_png(_with(place, ".contours.png"), draw_contours(read.grey, outlined, len(model.names)))


def read_ahead(
    todo: Sequence[tuple[str, str]], shorter_side: int | None, secondary_capture: bool, bits: int = 8
) -> Iterator[tuple[str, str, Prepared | ImageError]]:
    """Locations read behind walls, a few ahead, in order; an error stands in the place of an image."""

    def read(location: str, wall: Wall) -> Prepared | ImageError:
        try:
            file = fetch(location)
            return wall.call(read_prepared, file, shorter_side, secondary_capture, bits, seconds=seconds_for(file))
        except ImageError as error:
            return error

    with ExitStack() as stack:
        walls = [stack.enter_context(Wall()) for _ in range(min(AHEAD, len(todo)))]
        threads = stack.enter_context(ThreadPoolExecutor(AHEAD))
        for start in range(0, len(todo), AHEAD):
            part = todo[start : start + AHEAD]
            for (place, file), found in zip(part, threads.map(read, [file for _, file in part], walls), strict=True):
                yield place, file, found


def _begin(out: Path, model: SegmentationModel, format: str, carry_header: bool, islands: float) -> None:
    """Make the folder and say in it what its files mean, or find that it says the same already."""
    exclusive = model.record.options.exclusive
    about = {
        "model": model.digest,
        "format": format,
        "classes": [
            {
                "name": name,
                "value": position + 1 if exclusive else 255,
                "file": "NAME.png" if exclusive else f"NAME.{_word(name)}.png",
                "contour": "#{:02x}{:02x}{:02x}".format(*PALETTE[position % len(PALETTE)]),
            }
            for position, name in enumerate(model.names)
        ],
        "background": 0,
        "encoder": model.record.encoder["name"],
    }
    if islands:
        about["drop_islands"] = islands
    if format == "dicom-seg":
        about["header"] = "carried" if carry_header else "minimum"
        about["classes"] = [
            {"name": one["name"], "segment": number, "file": "NAME.seg.dcm", "contour": one["contour"]}
            for number, one in enumerate(about["classes"], start=1)
        ]
    words = [one["file"] for one in about["classes"]]
    if not exclusive and format == "png" and len(set(words)) < len(words):
        raise RaddinoError(f"two classes of the model would share the file {max(words, key=words.count)}: rename one")
    file = out / ABOUT
    if file.is_file():
        try:
            same = read_json(file, "choose another --out") == about
        except RaddinoError:
            same = False
        if not same:
            raise RaddinoError(
                f"{out} holds masks of another model, format, header or drop_islands: choose another --out"
            )
        return
    if not is_free(out):
        raise RaddinoError(f"{out} is there and was not written by 'raddino segment': choose a new folder")
    write_text(file, json.dumps(about, indent=1) + "\n")


def _write_skipped(out: Path, skipped: list[tuple[str, str]]) -> None:
    file = out / SKIPPED
    if not skipped:
        with writing(file):
            file.unlink(missing_ok=True)
        return
    with draft_of(file) as draft, draft.open("w", newline="", encoding="utf-8", errors="backslashreplace") as text:
        csv.writer(text).writerows([("image", "reason"), *skipped])


def _files(place: str, model: SegmentationModel, format: str, contours: bool) -> list[str]:
    """What an image's files are called."""
    if format == "dicom-seg":
        suffixes = [".seg.dcm"]
    elif model.record.options.exclusive:
        suffixes = [".png"]
    else:
        suffixes = [f".{_word(name)}.png" for name in model.names]
    return [place + suffix for suffix in [*suffixes, *([".contours.png"] if contours else [])]]


def listed(images: str | Path, out: Path) -> dict[str, str]:
    """Locations by the names that their masks get; one file by its own, whatever signs it holds; none of ours."""
    text = os.fspath(images)
    many = text.lower().endswith((".csv", ".parquet")) or is_archive(text) or is_dicomdir(text)
    if os.path.isfile(text) and not many:
        return {Path(text).name: text}
    table, inside = read_items(text, exclude=out)[0], out.resolve()
    named = zip(map(_place, table["name"]), table["file"], strict=True)
    return {place: file for place, file in named if inside not in Path(file).resolve().parents}


def _place(name: str) -> str:
    """An image's name as a path that stays below the output folder."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    return "/".join(parts) or "image"


def _with(place: Path, suffix: str) -> Path:
    return place.with_name(place.name + suffix)


def _word(name: str) -> str:
    """A class name as a part of a file name."""
    return "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in name.lower())


def _resized(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Probabilities (h, w) float32 at another size, bilinear."""
    if values.shape == shape:
        return values
    return np.asarray(Image.fromarray(values).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _save_png(path: Path, pixels: np.ndarray) -> None:
    with draft_of(path) as draft:
        Image.fromarray(pixels).save(draft, format="PNG")
