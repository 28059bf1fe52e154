"""BRAX: 40,967 images of a hospital in São Paulo with the 14 labels of CheXpert's labeller in Portuguese."""

from pathlib import Path

import pandas as pd

from raddino.corpus.sources.base import PHYSIONET, Source, read_table, register, require
from raddino.corpus.sources.chexpert import LABELS, LabelPolicy, apply_policy

LAYOUT = ("images", "master_spreadsheet_update.csv|master_spreadsheet.csv")
COLUMNS = ("PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber", "ViewPosition")
LATERAL = {"L": "LATERAL", "RL": "LATERAL", "LL": "LATERAL"}


def build(root: Path, options: LabelPolicy) -> pd.DataFrame:
    """Ages come in groups of five years, the oldest as "85 or more": the number is the group's lower end.

    Manufacturers are numbers that stand for names. Dates are fictitious and give no year.
    """
    require(root, LAYOUT)
    rows = read_table(root, LAYOUT[1], (*COLUMNS, *LABELS), ["Manufacturer"])
    table = pd.DataFrame(
        {
            "id": rows["PngPath"],
            "path": rows["PngPath"],
            "patient_id": rows["PatientID"],
            "study_id": rows["PatientID"] + "/" + rows["AccessionNumber"].fillna(""),
            "view": rows["ViewPosition"].map(lambda view: LATERAL.get(view, view)),
            "sex": rows["PatientSex"],
            "age": rows["PatientAge"].str.extract(r"(\d+)")[0],
            "manufacturer": rows["Manufacturer"],
        }
    )
    table = pd.concat([table, apply_policy(rows, options)], axis=1)
    table.attrs["notes"] = ["BRAX gives ages in groups of five years, 85 and older as one"]
    return table


register(
    Source(
        name="brax",
        title="BRAX",
        home="https://physionet.org/content/brax/1.1.0/",
        licence=PHYSIONET,
        credentialed=True,
        obtain="Get BRAX 1.1.0 (images/, master_spreadsheet_update.csv) with a credentialed account from "
        "https://physionet.org/content/brax/1.1.0/",
        layout=LAYOUT,
        documented="Reis et al., Scientific Data 9:487 (2022), Data Records",
        build=build,
        options=LabelPolicy,
    )
)
