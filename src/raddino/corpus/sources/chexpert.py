"""CheXpert: 224,316 images with 14 labels read from reports by a program that also says "uncertain"."""

from pathlib import Path
from typing import Literal

import pandas as pd

from raddino.config import Config
from raddino.corpus.sources.base import Source, cut_validation, find, numbers, read_table, register, require
from raddino.corpus.sources.findings import label_column

LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
LAYOUT = ("train", "valid", "train.csv", "valid.csv")
TEST = "test_labels.csv|test.csv"
UNCERTAIN = {"ignore": float("nan"), "zeros": 0.0, "ones": 1.0, "soft": 0.5}
FACTS = ("Sex", "Age", "Frontal/Lateral", "AP/PA")


class LabelPolicy(Config):
    """What becomes of report labels that are neither 0 nor 1 (CheXpert's labeller, also MIMIC-CXR's and BRAX's).

    Attributes:
        uncertain: of -1: ``"ignore"`` (not known), ``"zeros"``, ``"ones"`` or ``"soft"`` (0.5); Irvin et al., AAAI
            2019, section 3.
        unmentioned: of an empty cell: ``"negative"``, for reports mention what is there, or ``"ignore"``. A row
            with no label at all stays unknown.
    """

    uncertain: Literal["ignore", "zeros", "ones", "soft"] = "ignore"
    unmentioned: Literal["negative", "ignore"] = "negative"


class ChexpertOptions(LabelPolicy):
    """Adds to the label policy:

    Attributes:
        valid: what the 234 images of ``valid.csv``, read by three radiologists, are used as. ``"val"`` keeps the
            official meaning, with the test set where its files are there; ``"test"`` tests on them and cuts a
            validation part from train.
    """

    valid: Literal["val", "test"] = "val"


def apply_policy(cells: pd.DataFrame, policy: LabelPolicy) -> pd.DataFrame:
    """Cells of the 14 labels (1, 0, -1, empty) to ``label_*`` columns of float, NaN for not known."""
    values = cells[list(LABELS)].apply(numbers)
    labelled = values.notna().any(axis=1)
    result = values.mask(values == -1, UNCERTAIN[policy.uncertain])
    if policy.unmentioned == "negative":
        result = result.mask(values.isna(), 0.0).where(labelled, float("nan"), axis=0)
    return result.rename(columns=label_column)


def build(root: Path, options: ChexpertOptions) -> pd.DataFrame:
    """Paths like ``CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg``, cut to what follows the root."""
    require(root, LAYOUT)
    columns = ["Path", *FACTS, *LABELS]
    parts = {"train": read_table(root, "train.csv", columns), options.valid: read_table(root, "valid.csv", columns)}
    if options.valid == "val" and find(root, TEST):
        parts["test"] = read_table(root, TEST, ["Path", *LABELS])
    rows = pd.concat(parts, names=["split", None]).reset_index(level="split").reset_index(drop=True)
    where = rows["Path"].str.extract(r"((?:train|valid|val|test)/(patient\d+)/(study\d+)/.+)")
    frontal = ~rows["Path"].str.contains("lateral", case=False)
    table = pd.DataFrame(
        {
            "id": where[0],
            "path": where[0],
            "patient_id": where[1],
            "study_id": where[1] + "/" + where[2],
            "split": rows["split"],
            "view": rows["AP/PA"].fillna("FRONTAL").where(frontal, "LATERAL"),
            "sex": rows["Sex"],
            "age": rows["Age"].where(rows["Age"] != "0"),
        }
    )
    if options.valid == "test":
        table["split"] = cut_validation(table["split"], table["patient_id"])
    table = pd.concat([table, apply_policy(rows, options)], axis=1)
    if not (table["split"] == "test").any():
        table.attrs["notes"] = ["CheXpert without its test set has no test images: add it, or choose valid=test"]
    return table


register(
    Source(
        name="chexpert",
        title="CheXpert",
        home="https://aimi.stanford.edu/datasets/chexpert-chest-x-rays",
        licence="Stanford University Dataset Research Use Agreement",
        credentialed=True,
        obtain="Get CheXpert-v1.0 or CheXpert-v1.0-small (train/, valid/, train.csv, valid.csv) after the research use "
        "agreement from https://aimi.stanford.edu/datasets/chexpert-chest-x-rays; the test set (test/, "
        "test_labels.csv) is published there too",
        layout=LAYOUT,
        documented="Irvin et al., AAAI 2019; Garbin et al., arXiv 2105.03020 (datasheet)",
        build=build,
        options=ChexpertOptions,
    )
)
