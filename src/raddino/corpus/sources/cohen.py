"""COVID-19 image data collection (Cohen et al.): X-rays from publications, with clinical notes."""

from pathlib import Path

import pandas as pd

from raddino.config import Config
from raddino.corpus.sources.base import Source, read_table, register, require
from raddino.corpus.sources.findings import label_column
from raddino.images.acquisition import parse_position

LAYOUT = ("images", "metadata.csv")
COLUMNS = ("patientid", "sex", "age", "finding", "view", "modality", "folder", "filename", "license")
UNKNOWN = {"", "todo", "unknown"}


class CohenOptions(Config):
    """What is taken along.

    Attributes:
        reports: the clinical notes too; they are often about the case more than the image.
    """

    reports: bool = False


def build(root: Path, options: CohenOptions) -> pd.DataFrame:
    """X-rays only. A finding like ``Pneumonia/Viral/COVID-19`` names its kinds too: each level is a label.

    Images whose finding is ``todo`` or ``Unknown`` are unlabelled; each carries its own licence.
    """
    require(root, LAYOUT)
    rows = read_table(root, LAYOUT[1], (*COLUMNS, *(["clinical_notes"] if options.reports else [])), ["date"])
    rows = rows[rows["modality"] == "X-ray"].reset_index(drop=True)
    levels = rows["finding"].fillna("").str.split("/").map(lambda parts: {part.strip() for part in parts})
    labelled = ~levels.map(lambda row: {part.lower() for part in row} <= UNKNOWN).astype(bool)
    names = sorted(name for name in set().union(*levels) if name.lower() not in UNKNOWN)
    table = pd.DataFrame(
        {
            "id": rows["filename"],
            "path": rows["folder"].fillna("images") + "/" + rows["filename"],
            "patient_id": rows["patientid"],
            "view": rows["view"].replace({"L": "LATERAL"}),
            "sex": rows["sex"],
            "age": rows["age"],
            "year_band": rows["date"],
            "patient_position": rows["view"].map(parse_position, na_action="ignore"),
            "licence": rows["license"],
        }
    )
    if options.reports:
        table["report"] = rows["clinical_notes"]
    labels = {
        label_column(name): levels.map(lambda row, name=name: float(name in row)).where(labelled) for name in names
    }
    return table.assign(**labels)


register(
    Source(
        name="cohen",
        title="COVID-19 image data collection",
        home="https://github.com/ieee8023/covid-chestxray-dataset",
        licence="per image, see metadata.csv",
        credentialed=False,
        obtain="Clone https://github.com/ieee8023/covid-chestxray-dataset",
        layout=LAYOUT,
        documented="https://github.com/ieee8023/covid-chestxray-dataset, SCHEMA.md",
        build=build,
        options=CohenOptions,
    )
)
