"""VinDr-CXR: 15,000 train images read by three radiologists each, 3,000 test images with a five-reader consensus."""

from pathlib import Path
from typing import Literal

import pandas as pd

from raddino.config import Config
from raddino.corpus.sources.base import (
    PHYSIONET,
    Incomplete,
    Source,
    cut_validation,
    numbers,
    read_table,
    register,
    require,
)
from raddino.corpus.sources.findings import label_column
from raddino.errors import counted

FINDINGS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation",
    "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst",
    "Mediastinal shift", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis",
    "Other diseases|Other disease", "No finding",
)  # fmt: skip
LAYOUT = ("train", "test", "annotations/image_labels_train.csv", "annotations/image_labels_test.csv")
READERS = 3
NOTE = "VinDr-CXR names no patients: each image counts as a patient of its own"


class VindrOptions(Config):
    """How the three readers of a train image become one label.

    Attributes:
        readers: ``"majority"`` (at least two of three), ``"any"``, or ``"soft"`` (share of the votes, 0 to 1). The
            test labels are the published consensus under each.
    """

    readers: Literal["majority", "any", "soft"] = "majority"


def build(root: Path, options: VindrOptions) -> pd.DataFrame:
    """Train votes joined per image, test consensus as it is; a tenth of train becomes validation."""
    require(root, LAYOUT)
    votes = read_table(root, LAYOUT[2], ("image_id", "rad_id|rad_ID", *FINDINGS))
    counts = votes.groupby("image_id")["rad_id"].nunique()
    if odd := int((counts != READERS).sum()):
        raise Incomplete(f"image_labels_train.csv has {counted(odd, 'image')} without exactly three readers")
    names = [name.split("|")[0] for name in FINDINGS]
    share = votes[names].apply(numbers).groupby(votes["image_id"]).mean()
    if options.readers == "majority":
        share = (share > 0.5).astype(float).where(share.notna())
    elif options.readers == "any":
        share = (share > 0).astype(float).where(share.notna())
    consensus = read_table(root, LAYOUT[3], ("image_id", *FINDINGS)).set_index("image_id").apply(numbers)
    table = pd.concat([share, consensus], keys=["train", "test"], names=["split", "id"])
    table = table.rename(columns=label_column).reset_index()
    table = table.assign(path=table["split"] + "/" + table["id"] + ".dicom", patient_id=table["id"], view="PA")
    table["split"] = cut_validation(table["split"], table["patient_id"])
    table.attrs["notes"] = [NOTE]
    return table


register(
    Source(
        name="vindr-cxr",
        title="VinDr-CXR",
        home="https://physionet.org/content/vindr-cxr/1.0.0/",
        licence=PHYSIONET,
        credentialed=True,
        obtain="Get VinDr-CXR 1.0.0 (train/, test/, annotations/) with a credentialed account from "
        "https://physionet.org/content/vindr-cxr/1.0.0/; the Kaggle copy has no test labels",
        layout=LAYOUT,
        documented="Nguyen et al., Scientific Data 9:429 (2022), Data Records",
        build=build,
        options=VindrOptions,
    )
)
