"""MIMIC-CXR: 377,110 images of 227,835 studies with report labels, an official split, and MIMIC-IV behind them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import NonNegativeInt

from raddino.corpus.sections import parse_sections
from raddino.corpus.sources.base import (
    PHYSIONET,
    Incomplete,
    Source,
    missing,
    numbers,
    read_table,
    register,
    variant,
)
from raddino.corpus.sources.chexpert import LABELS, LabelPolicy, apply_policy
from raddino.corpus.sources.mimic_iv import CHARTS, TABLES, body_size, demographics
from raddino.errors import counted
from raddino.images.acquisition import SHIFTED
from raddino.progress import track

SPLIT, METADATA = "mimic-cxr-2.0.0-split.csv", "mimic-cxr-2.0.0-metadata.csv"
DESCRIBED, ORIENTATION = "PerformedProcedureStepDescription", "PatientOrientationCodeSequence_CodeMeaning"
CONTEXT = ("impression", "indication", "comparison")
LAYOUT = ("files", SPLIT, METADATA, "mimic-cxr-2.0.0-chexpert.csv|mimic-cxr-2.0.0-negbio.csv")


class MimicOptions(LabelPolicy):
    """Adds to the label policy:

    Attributes:
        labeler: ``"chexpert"`` or ``"negbio"``, the program whose labels are taken.
        tables: folder with the three tables of MIMIC-CXR-JPG, where they do not lie in the data set's own.
        mimic_iv: folder of MIMIC-IV (with ``hosp/``), which knows sex, age, weight and BMI; without it these are
            unknown.
        window_days: how far a weight or BMI may lie from the study, before or after.
        chartevents: also take weights and heights from ``icu/chartevents.csv`` (large: minutes).
        reports: take ``files/pNN/pNNNNNNNN/sNNNNNNNN.txt`` along, from ``mimic-cxr-reports.zip`` unpacked there, with
            the order of a patient's studies.
        section: what ``report`` is: the ``"findings"`` section, or the ``"whole"`` text.
    """

    labeler: Literal["chexpert", "negbio"] = "chexpert"
    tables: Path | None = None
    mimic_iv: Path | None = None
    window_days: NonNegativeInt = 30
    chartevents: bool = False
    reports: bool = False
    section: Literal["findings", "whole"] = "findings"


def build(root: Path, options: MimicOptions, suffix: str = ".jpg") -> pd.DataFrame:
    """Official train, validate and test; labels by study; facts linked by subject and shifted date.

    Of an examination that is described, ``CHEST (PORTABLE AP)`` and the like are portable and all others are not.
    """
    tables = options.tables or root
    labels = f"mimic-cxr-2.0.0-{options.labeler}.csv"
    absent = missing(root, ["files"]) + missing(tables, [SPLIT, METADATA, labels])
    if options.mimic_iv is not None:
        absent += missing(options.mimic_iv, [*TABLES, *([CHARTS] if options.chartevents else [])])
    elif options.chartevents:
        absent.append("the option mimic_iv, which chartevents needs")
    if absent:
        raise Incomplete(f"not found: {', '.join(absent)}")
    times = ["StudyDate", *(["StudyTime"] if options.reports else [])]
    rows = read_table(
        tables, METADATA, ["dicom_id", "subject_id", "study_id", "ViewPosition", *times], [DESCRIBED, ORIENTATION]
    )
    split = read_table(tables, SPLIT, ["dicom_id", "split"]).set_index("dicom_id")["split"]
    rows = rows.join(split, on="dicom_id")
    if rows["split"].isna().any():
        raise Incomplete(f"{SPLIT} has no split for {counted(int(rows['split'].isna().sum()), 'image')} of {METADATA}")
    study = "files/p" + rows["subject_id"].str[:2] + "/p" + rows["subject_id"] + "/s" + rows["study_id"]
    table = pd.DataFrame(
        {
            "id": rows["dicom_id"],
            "path": study + "/" + rows["dicom_id"] + suffix,
            "patient_id": rows["subject_id"],
            "study_id": rows["study_id"],
            "split": rows["split"],
            "view": rows["ViewPosition"],
            "portable": rows[DESCRIBED].map(lambda words: "PORTABLE" in words.upper(), na_action="ignore"),
            "year_band": SHIFTED,
            "patient_position": rows[ORIENTATION],
        }
    )
    cells = read_table(tables, labels, ["study_id", *LABELS]).drop_duplicates("study_id").set_index("study_id")
    findings = apply_policy(cells.reindex(rows["study_id"]).reset_index(drop=True), options)
    notes = []
    if options.mimic_iv is not None:
        dates = pd.to_datetime(rows["StudyDate"].str.split(".").str[0], format="%Y%m%d", errors="coerce")
        table = table.join(demographics(options.mimic_iv, rows["subject_id"], dates))
        size = body_size(options.mimic_iv, rows["subject_id"], dates, options.window_days, options.chartevents)
        table = table.join(size)
        notes.append(f"weight and BMI are the nearest within {options.window_days} days of the study, before or after")
    if options.reports:
        texts = _reports(root, study.unique(), options.section)
        table = table.join(texts.reindex(study).reset_index(drop=True)).assign(study_order=_study_order(rows))
        empty = int((texts["report"].fillna("") == "").sum())
        notes.append(f"{empty} of {len(texts)} studies have no {options.section} text: their report is empty")
    table = pd.concat([table, findings], axis=1)
    table.attrs["notes"] = notes
    return table


def _reports(root: Path, studies: Iterable[str], section: str) -> pd.DataFrame:
    """Indexed by study folder: ``report``, ``impression``, ``indication``, ``comparison``; None without a file."""
    texts: dict[str, dict[str, str]] = {}
    for name in track(studies, "read reports"):
        file = root / f"{name}.txt"
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
        if text is not None:
            sections = parse_sections(text)
            whole = " ".join(text.split())
            report = whole if section == "whole" else sections.get("findings", "")
            texts[name] = {"report": report, **{column: sections.get(column, "") for column in CONTEXT}}
    if not texts:
        raise Incomplete("not found: the reports, files/pNN/pNNNNNNNN/sNNNNNNNN.txt of mimic-cxr-reports.zip")
    table = pd.DataFrame.from_dict(texts, orient="index", columns=["report", *CONTEXT]).reindex(studies)
    return table.astype(object).where(table.notna(), None)


def _study_order(rows: pd.DataFrame) -> pd.Series:
    """The place of each image's study among its patient's by date and time, from 0; NaN where either is missing.

    Of two studies at one time the one with the lower number comes first.
    """
    times = rows[["subject_id", "study_id"]].assign(date=numbers(rows["StudyDate"]), time=numbers(rows["StudyTime"]))
    order = ["subject_id", "date", "time", "study_id"]
    studies = times.dropna().sort_values(order).drop_duplicates("study_id")
    place = studies.groupby("subject_id").cumcount().astype(float).set_axis(studies["study_id"])
    return rows["study_id"].map(place)


def _build_dicom(root: Path, options: MimicOptions) -> pd.DataFrame:
    return build(root, options, ".dcm")


JPG = register(
    Source(
        name="mimic-cxr-jpg",
        title="MIMIC-CXR-JPG",
        home="https://physionet.org/content/mimic-cxr-jpg/2.1.0/",
        licence=PHYSIONET,
        credentialed=True,
        obtain="Get MIMIC-CXR-JPG 2.0.0 or 2.1.0 (files/ and the mimic-cxr-2.0.0-*.csv.gz tables) with a credentialed "
        "account from https://physionet.org/content/mimic-cxr-jpg/; sex, age, weight and BMI come from MIMIC-IV, "
        "https://physionet.org/content/mimiciv/ (mimic_iv=FOLDER)",
        layout=LAYOUT,
        documented="https://physionet.org/content/mimic-cxr-jpg/2.1.0/, Data Description",
        build=build,
        options=MimicOptions,
        record="mimic-cxr",
    )
)
variant(
    JPG,
    name="mimic-cxr",
    title="MIMIC-CXR (DICOM)",
    home="https://physionet.org/content/mimic-cxr/2.1.0/",
    obtain="Get MIMIC-CXR 2.0.0 or 2.1.0 (files/) with a credentialed account from "
    "https://physionet.org/content/mimic-cxr/, and the mimic-cxr-2.0.0-split, -metadata and -chexpert tables from "
    "https://physionet.org/content/mimic-cxr-jpg/ into the same folder or one given as tables=FOLDER; sex, age, "
    "weight and BMI come from MIMIC-IV, https://physionet.org/content/mimiciv/ (mimic_iv=FOLDER)",
    documented="https://physionet.org/content/mimic-cxr/2.1.0/ and mimic-cxr-jpg/2.1.0/, Data Description",
    build=_build_dicom,
)
