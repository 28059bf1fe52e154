"""RSNA Pneumonia Detection: 26,684 labelled images of the challenge's second stage, drawn from NIH ChestX-ray14."""

import json
from pathlib import Path
from typing import Literal

import pandas as pd

from raddino.config import Config
from raddino.corpus.sources.base import Incomplete, Source, numbers, read_table, register, require
from raddino.corpus.sources.findings import label_column

LAYOUT = ("stage_2_train_images", "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv")
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"


class RsnaOptions(Config):
    """What counts as a patient.

    Attributes:
        patients: ``"image"``, as the challenge's numbers do, or ``"nih"`` for the NIH patient behind each image, from
            the RSNA's file ``pneumonia-challenge-dataset-mappings_2018.json``.
    """

    patients: Literal["image", "nih"] = "image"


def build(root: Path, options: RsnaOptions) -> pd.DataFrame:
    """Pneumonia is Target 1 in any box; no finding is the class Normal. View, sex and age are in the headers.

    The unlabelled test images of the challenge are left out.
    """
    require(root, (*LAYOUT, *([MAPPING] if options.patients == "nih" else [])))
    boxes = read_table(root, LAYOUT[1], ["patientId", "Target"])
    classes = read_table(root, LAYOUT[2], ["patientId", "class"]).drop_duplicates("patientId").set_index("patientId")
    target = numbers(boxes["Target"]).groupby(boxes["patientId"], sort=False).max()
    kind = classes["class"].reindex(target.index)
    table = pd.DataFrame(
        {
            "id": target.index,
            "path": [f"stage_2_train_images/{name}.dcm" for name in target.index],
            "patient_id": target.index,
            label_column("pneumonia"): target.to_numpy(),
            label_column("no finding"): (kind == "Normal").astype(float).where(kind.notna()).to_numpy(),
        }
    )
    notes = ["RSNA images are NIH images: an encoder that saw NIH saw them"]
    if options.patients == "nih":
        table["patient_id"] = _nih_patients(root, table["id"])
    else:
        notes.append("one NIH patient may stand on both sides of the split: patients=nih keeps them together")
    table.attrs["notes"] = notes
    return table


def _nih_patients(root: Path, images: pd.Series) -> pd.Series:
    """``13774``, as NIH's table writes it, from the NIH image ``00013774_026.png`` behind each image."""
    try:
        entries = json.loads((root / MAPPING).read_text(encoding="utf-8"))
        original = {entry["subset_img_id"]: str(int(entry["img_id"].split("_")[0])) for entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Incomplete(f"{MAPPING} is no list of subset_img_id and img_id") from None
    patients = images.map(original)
    if patients.isna().any():
        raise Incomplete(f"{MAPPING} names no NIH image for {int(patients.isna().sum())} of the images")
    return patients


register(
    Source(
        name="rsna-pneumonia",
        title="RSNA Pneumonia Detection Challenge 2018",
        home="https://www.rsna.org/artificial-intelligence/ai-image-challenge/rsna-pneumonia-detection-challenge-2018",
        licence="RSNA Pneumonia Detection Challenge terms (research and education)",
        credentialed=False,
        obtain="Get the stage 2 files from https://www.kaggle.com/c/rsna-pneumonia-detection-challenge and unpack "
        f"stage_2_train_images.zip; {MAPPING} is linked on the RSNA's challenge page",
        layout=LAYOUT,
        documented="Kaggle, RSNA Pneumonia Detection Challenge, Data; Shih et al., Radiology: AI 1(1):e180041 (2019)",
        build=build,
        secondary_capture=True,
        options=RsnaOptions,
        namespace="nih",
    )
)
