"""PadChest: 160,861 images of San Juan Hospital with 174 findings and 19 diagnoses read from Spanish reports."""

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import NonNegativeInt

from raddino.config import Config
from raddino.corpus.sources.base import Source, index_images, numbers, read_table, register, require
from raddino.corpus.sources.findings import label_column
from raddino.errors import counted

LAYOUT = ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",)
COLUMNS = (
    "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "Projection", "MethodLabel", "Labels",
)  # fmt: skip
VIEWS = {"L": "LATERAL", "AP_horizontal": "AP", "PA": "PA", "AP": "AP"}
SET_ASIDE = "EXCLUDE"
NO_STATEMENT = {"", "unchanged", "exclude", "suboptimal study"}
PARENTS = {
    **dict.fromkeys(
        ("laminar atelectasis", "round atelectasis", "lobar atelectasis", "total atelectasis", "segmental atelectasis",
         "atelectasis basal"), ("atelectasis",)),
    **dict.fromkeys(("loculated pleural effusion", "loculated fissural effusion"), ("pleural effusion",)),
    "hydropneumothorax": ("pleural effusion", "pneumothorax"),
    **dict.fromkeys(("apical pleural thickening", "calcified pleural thickening"), ("pleural thickening",)),
    "atypical pneumonia": ("pneumonia",),
    "callus rib fracture": ("rib fracture",),
    "multiple nodules": ("nodule",),
}  # fmt: skip
"""Terms of the published tree to the broader findings that they imply."""


class PadchestOptions(Config):
    """Which labels count.

    Attributes:
        labelled_by: ``"all"``, or ``"physician"`` to leave what a network labelled (76 % of the images) unknown.
        min_count: labels that fewer images have are left out.
        reports: take the report along: Spanish, stemmed by its publishers.
    """

    labelled_by: Literal["all", "physician"] = "all"
    min_count: NonNegativeInt = 100
    reports: bool = False


def build(root: Path, options: PadchestOptions) -> pd.DataFrame:
    """Label lists to columns; the age is the year of the study less the year of birth.

    An image that only "unchanged", "exclude" or "suboptimal study" is said of is unlabelled. Images whose projection
    is EXCLUDE are left out.
    """
    require(root, LAYOUT)
    rows = read_table(root, LAYOUT[0], (*COLUMNS, *(["Report"] if options.reports else [])), ["Manufacturer_DICOM"])
    kept = rows["Projection"] != SET_ASIDE
    rows = rows[kept].reset_index(drop=True)
    files = index_images(root)
    stems = rows["ImageID"].str.removesuffix(".png")
    table = pd.DataFrame(
        {
            "id": stems,
            "path": [
                files.get(stem, f"{folder}/{stem}.png") for stem, folder in zip(stems, rows["ImageDir"], strict=True)
            ],
            "patient_id": rows["PatientID"],
            "study_id": rows["StudyID"],
            "view": rows["Projection"].map(VIEWS),
            "sex": rows["PatientSex_DICOM"],
            "age": numbers(rows["StudyDate_DICOM"].str[:4]) - numbers(rows["PatientBirth"]),
            "manufacturer": rows["Manufacturer_DICOM"],
            "year_band": rows["StudyDate_DICOM"].str[:4],
            "patient_position": rows["Projection"].map({"AP_horizontal": "RECUMBENT"}),
        }
    )
    if options.reports:
        table["report"] = rows["Report"]
    read = rows["Labels"].where((rows["MethodLabel"] == "Physician") | (options.labelled_by == "all"), None)
    table = pd.concat([table, _labels(read, options.min_count)], axis=1)
    table.attrs["notes"] = (
        [f"{counted(int((~kept).sum()), 'image')} with projection EXCLUDE left out"] if not kept.all() else []
    )
    return table


def _labels(lists: pd.Series, min_count: int) -> pd.DataFrame:
    """``"['pleural effusion', 'COPD signs']"`` to columns, broader findings included; NaN for rows that say nothing."""
    terms = lists.fillna("").map(lambda text: {name.strip() for name in re.findall(r"'([^']*)'", text)})
    labelled = ~terms.map(lambda row: row <= NO_STATEMENT).to_numpy(bool)
    names = terms.map(lambda row: {label_column(name) for name in _with_parents(row) - NO_STATEMENT})
    pairs = names.explode().dropna()
    found = {}
    for name, at in pairs.groupby(pairs).groups.items():
        if len(at) >= min_count:
            positive = np.zeros(len(lists))
            positive[at.to_numpy()] = 1
            found[str(name)] = np.where(labelled, positive, np.nan)
    return pd.DataFrame(found, index=lists.index)


def _with_parents(terms: set[str]) -> set[str]:
    return terms.union(*(PARENTS.get(term, ()) for term in terms))


register(
    Source(
        name="padchest",
        title="PadChest",
        home="https://bimcv.cipf.es/bimcv-projects/padchest/",
        licence="PadChest dataset research use agreement",
        credentialed=True,
        obtain="Get the image archives and PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv after the agreement "
        "from https://bimcv.cipf.es/bimcv-projects/padchest/, and unpack the archives into folders 0/, 1/, … beside it",
        layout=(*LAYOUT, "0/ … 54/ (or images/)"),
        documented="Bustos et al., Medical Image Analysis 66:101797 (2020), section 3 and appendix",
        build=build,
        options=PadchestOptions,
    )
)
