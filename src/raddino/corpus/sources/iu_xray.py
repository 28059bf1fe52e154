"""IU X-ray (Open-i): 7,470 images of 3,955 reports of Indiana University, one report a patient."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from raddino.config import Config
from raddino.corpus.sections import MAX_XML, openi_sections, parse_xml
from raddino.corpus.sources.base import Incomplete, Source, find, index_images, read_table, register, require
from raddino.errors import RaddinoError, counted

REPORTS = "ecgen-radiology|NLMCXR_reports/ecgen-radiology"
PROJECTIONS = "indiana_projections.csv"
IMAGE = re.compile(r"\d+_IM-.+$")
PATIENT = re.compile(r"(?:CXR)?(\d+)(?:_.*)?")
TEXTS = {"report": "findings", "impression": "impression", "indication": "indication", "comparison": "comparison"}


class IuXrayOptions(Config):
    """What is taken along.

    Attributes:
        projections: ``indiana_projections.csv`` of the Kaggle copy (columns filename, projection), where it does not
            lie in the data set's own folder; it tells frontal from lateral, which Open-i does not.
        split_file: a JSON file that lists report ids under ``train``, ``val`` and ``test``, such as R2Gen's
            ``annotation.json``; reports that it does not list are left out.
    """

    projections: Path | None = None
    split_file: Path | None = None


def build(root: Path, options: IuXrayOptions) -> pd.DataFrame:
    """Every image of every report. There is no official split: by patient, or that of ``split_file``."""
    require(root, [REPORTS])
    table = pd.DataFrame(_images(root))
    if table.empty:
        raise Incomplete("no .xml file in ecgen-radiology names an image")
    listed = index_images(root)
    table["path"] = [_path(name, listed) for name in table["id"]]
    notes = []
    views = _projections(root, options)
    if views is None:
        notes.append(f"Open-i does not say which image is the lateral one: {PROJECTIONS} of the Kaggle copy does")
    else:
        table["view"] = table["id"].map(_key).map(views)
    if options.split_file is not None:
        table["split"] = table["patient_id"].map(read_split(options.split_file))
        left_out = int(table["split"].isna().sum())
        table = table[table["split"].notna()].reset_index(drop=True)
        if table.empty:
            raise Incomplete("the option split_file lists none of its reports")
        notes.append(f"{counted(left_out, 'image')} of reports that split_file does not list left out")
    studies = table.drop_duplicates("study_id")
    empty = int((studies["report"] == "").sum())
    notes.append(f"{empty} of {len(studies)} studies have no findings: their report is empty")
    table.attrs["notes"] = notes
    return table


def _images(root: Path) -> list[dict[str, object]]:
    """A row an image, from the reports in the order of their numbers."""
    folder = find(root, REPORTS)
    assert folder is not None
    rows = []
    for file in sorted(folder.glob("*.xml"), key=lambda path: (len(path.stem), path.stem)):
        try:
            with file.open("rb") as stream:
                report = parse_xml(stream.read(MAX_XML + 1))
        except (RaddinoError, OSError) as error:
            raise Incomplete(f"{file.name} cannot be read ({error})") from None
        uid = report.find("uId")
        name = PATIENT.fullmatch((uid.get("id") or "") if uid is not None else "")
        if name is None:
            raise Incomplete(f"{file.name} has no uId like CXR1")
        sections = openi_sections(report)
        texts = {column: sections.get(section, "") for column, section in TEXTS.items()}
        facts = {"patient_id": name[1], "study_id": name[1], **texts, "study_order": 0}
        rows += [{"id": image.get("id"), **facts} for image in report.iter("parentImage") if image.get("id")]
    return rows


def _key(name: str) -> str:
    """``CXR1_1_IM-0001-3001`` and ``1_IM-0001-3001.dcm.png`` to ``1_IM-0001-3001``, which they have in common."""
    found = IMAGE.search(name)
    return (found[0] if found else name).split(".")[0]


def _path(name: str, listed: dict[str, str]) -> str:
    """Where an image lies: as Open-i names it (PNG), in its DICOM release, or in the Kaggle copy."""
    key = _key(name)
    return listed.get(name) or listed.get(key) or listed.get(f"{key}.dcm") or f"{name}.png"


def _projections(root: Path, options: IuXrayOptions) -> dict[str, str] | None:
    if options.projections is not None:
        folder, name = options.projections.parent, options.projections.name
    elif find(root, PROJECTIONS):
        folder, name = root, PROJECTIONS
    else:
        return None
    rows = read_table(folder, name, ["filename", "projection"]).dropna()
    return dict(zip(rows["filename"].map(_key), rows["projection"], strict=True))


def read_split(file: Path) -> dict[str, str]:
    """Patient number to split, from ``{"train": ["CXR1", {"id": "CXR2_IM-0652", ...}, ...], "val": ..., "test": ...}``.

    Raises:
        Incomplete: the file cannot be read, lacks a part, lists no report ids, or a report twice.
    """
    try:
        parts = json.loads(file.read_text(encoding="utf-8"))
        named = {
            split: [PATIENT.fullmatch(str(entry["id"] if isinstance(entry, dict) else entry)) for entry in parts[split]]
            for split in ("train", "val", "test")
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Incomplete(f"split_file is no JSON of ids under train, val and test ({type(error).__name__})") from None
    if any(name is None for names in named.values() for name in names):
        raise Incomplete("split_file lists an id that is not like CXR1 or CXR1_IM-0001")
    found: dict[str, str] = {}
    for split, names in named.items():
        for name in names:
            if name is not None and found.setdefault(name[1], split) != split:
                raise Incomplete(f"split_file lists report {name[1]} under {found[name[1]]} and {split}")
    return found


register(
    Source(
        name="iu-xray",
        title="Indiana University chest X-rays (Open-i)",
        home="https://openi.nlm.nih.gov/faq",
        licence="CC BY-NC-ND 4.0",
        credentialed=False,
        obtain="Get NLMCXR_png.tgz and NLMCXR_reports.tgz from https://openi.nlm.nih.gov/faq and unpack both into one "
        "folder (ecgen-radiology/*.xml and the images); indiana_projections.csv, which tells the views, is at "
        "https://www.kaggle.com/datasets/raddar/chest-xrays-indiana-university",
        layout=(REPORTS,),
        documented="https://openi.nlm.nih.gov/faq; Demner-Fushman et al., JAMIA 2016;23(2):304",
        build=build,
        options=IuXrayOptions,
    )
)
