"""What identifies in source files: DICOM headers, texts in picture headers, names of files, cells of manifests."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raddino.audit.needles import Needles
from raddino.corpus.cells import distinct, text
from raddino.corpus.columns import COLUMN_NAMES, choose
from raddino.corpus.listing import find
from raddino.corpus.manifest import read_items
from raddino.corpus.manifest_file import read_manifest
from raddino.errors import ConfigError, RaddinoError
from raddino.images.dicom import quiet
from raddino.images.mask_codes import is_code
from raddino.images.phi import FACT_ELEMENTS, PIXEL_ELEMENTS
from raddino.progress import track

TABLES = (".csv", ".parquet")
TOLD = frozenset((*FACT_ELEMENTS, *PIXEL_ELEMENTS, "SpecificCharacterSet"))
"""Elements whose values artefacts may hold, see :mod:`raddino.images.phi`."""
WRITERS = frozenset(("ImplementationClassUID", "ImplementationVersionName", "MediaStorageSOPClassUID"))
"""Elements that name the program that wrote the file."""
CODING = frozenset(("CodeValue", "CodeMeaning", "CodingSchemeDesignator", "CodingSchemeVersion", "LongCodeValue"))
PUBLIC_SCHEMES = frozenset(("DCM", "SCT", "SRT", "SNM3", "UCUM", "LN", "RADLEX", "ICD10", "ICD10CM", "MA", "FMA"))
PUBLIC_ROOT = "1.2.840.10008."
TEXTS = frozenset(("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "DA", "DT", "TM", "IS", "DS", "UI", "PN"))
IDENTIFYING = ("path", "id", "patient", "study")
TIME = re.compile(r"\d{2,6}")


def gather(sources: Iterable[str | Path], needles: Needles) -> tuple[int, int]:
    """Add what identifies in folders, globs, files and manifests, and in the files that manifests name.

    Returns:
        Files read, and files of which the name alone was of use.

    Raises:
        ConfigError: a source that leads to no file.
        RaddinoError: a manifest that cannot be read.
    """
    files: dict[str, str] = {}
    for source in sources:
        given = {name: below for name, below in find(os.fspath(source), Counter())}
        if not given:
            raise ConfigError(f"--sources {source} leads to no file: give a folder, a file, a glob or a manifest")
        files.update(given)
        if os.path.isfile(source) and Path(source).suffix.lower() in TABLES:
            files.update(_listed(Path(source)))
    nameless = 0
    for file, below in track(files.items(), "read sources", total=len(files)):
        needles.add_path(below)
        needles.add(file, "path of a file", wordy=True)
        if Path(file).suffix.lower() in TABLES:
            add_cells(Path(file), needles)
        else:
            nameless += not (add_header(file, needles) or add_picture(file, needles))
    return len(files), nameless


def _listed(manifest: Path) -> dict[str, str]:
    """Files that a manifest names, where its column of paths is found, by their paths below its folder."""
    try:
        table, _ = read_items(manifest)
    except ConfigError:
        return {}
    masks = [name for name in table if str(name).startswith("mask_")]
    parts = [part for name in masks for cell in table[name].dropna() for part in cell if not is_code(part)]
    named = [str(file) for file in [*table["file"], *parts] if os.path.isfile(file)]
    return {file: os.path.relpath(file, manifest.resolve().parent).replace("../", "") for file in named}


def add_cells(manifest: Path, needles: Needles) -> None:
    """Add the cells of a table, but for columns that a corpus carries on purpose (facts, labels, report texts)."""
    raw = read_manifest(manifest, [name for names in COLUMN_NAMES.values() for name in names])
    try:
        chosen, _ = choose(raw, {})
    except RaddinoError:
        chosen = {}
    told = {column for ours, column in chosen.items() if ours not in IDENTIFYING and not ours.startswith("mask_")}
    for column in [column for column in raw if column not in told]:
        _, cells = distinct(text(raw[column], str(column)), str(column))
        for cell in cells:
            if "/" in cell and not is_code(cell):
                needles.add_path(cell, f"column {column}")
            elif not is_code(cell):
                needles.add(cell, f"column {column}")


def add_header(file: str, needles: Needles) -> bool:
    """Add every text of a DICOM file's header, private elements and items of sequences too; False for other files."""
    from pydicom import config, dcmread

    try:
        with quiet(), config.disable_value_validation():
            image = dcmread(file, force=True, defer_size=2**16)
            if not len(image) or ("PixelData" not in image and "SOPClassUID" not in image and not image.preamble):
                return False
            _add_text((image.preamble or b"").decode("latin-1"), "DICOM preamble", needles)
            for part in (image.file_meta, image):
                _add_dataset(part, needles)
    except Exception:  # whatever a damaged header makes pydicom raise
        return False
    return True


def _add_dataset(dataset: Any, needles: Needles) -> None:
    public = str(dataset.get("CodingSchemeDesignator", "")).upper() in PUBLIC_SCHEMES
    for tag in dataset.keys():  # noqa: SIM118  (a data set is iterated over by element, which one damaged one ends)
        try:
            element = dataset[tag]
            if element.VR == "SQ":
                for item in element.value:
                    _add_dataset(item, needles)
            elif element.keyword not in TOLD | WRITERS and not (public and element.keyword in CODING):
                _add_element(element, needles)
        except Exception:
            needles.skipped["elements that cannot be read"] += 1


def _add_element(element: Any, needles: Needles) -> None:
    kind = element.keyword or f"private element {element.tag}"
    value = element.value
    if isinstance(value, bytes):
        if element.tag.is_private or element.VR == "UN" or element.keyword == "PrivateInformation":
            _add_text(value.decode("utf-8", "replace"), kind, needles)
        return
    if value is None or element.VR not in TEXTS:
        return
    several = value if isinstance(value, list | tuple) or hasattr(value, "append") else [value]
    for one in map(str, several):
        if element.VR == "PN":
            needles.add_name(one, kind)
        elif element.VR == "UI" and one.startswith(PUBLIC_ROOT):
            needles.skipped["UIDs that DICOM itself defines"] += 1
        elif element.VR == "TM" and TIME.fullmatch(one.strip()):
            needles.skipped["times of day to the second"] += 1
        else:
            needles.add(one, kind)
            if "\n" in one:
                _add_text(one, kind, needles)


def _add_text(found: str, kind: str, needles: Needles) -> None:
    """Printable lines of a text."""
    for line in re.split(r"[\x00-\x1f\x7f\ufffd]+", found):
        needles.add(line, kind)


def add_picture(file: str, needles: Needles) -> bool:
    """Add the texts in the header of a PNG, JPEG or TIFF, EXIF too; False for other files."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            told = {f"{image.format} {key}": value for key, value in image.info.items()}
            told |= {f"EXIF {tag:#06x}": value for tag, value in image.getexif().items()}
            told |= {f"TIFF {tag}": value for tag, value in dict(getattr(image, "tag_v2", {})).items()}
    except Exception:  # not a picture, or whatever a damaged one makes Pillow raise
        return False
    for kind, value in told.items():
        found = value.decode("latin-1") if isinstance(value, bytes) and len(value) < 2**16 else value
        if isinstance(found, str):
            _add_text(found, kind, needles)
    return True


def read_strings(file: Path, needles: Needles) -> None:
    """Add the lines of a text file in UTF-8.

    Raises:
        RaddinoError: no such file, or not UTF-8.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = "not text in UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise RaddinoError(
            f"--strings {file} cannot be read ({why}): give a text file, one identifier a line"
        ) from None
    for line in lines:
        needles.add(line, "given string", wordy=True)
