"""NIH ChestX-ray14: 112,120 frontal images with 14 text-mined labels and an official split by patient."""

from pathlib import Path

import pandas as pd

from raddino.config import Config
from raddino.corpus.sources.base import Incomplete, Source, cut_validation, index_images, read_table, register, require
from raddino.corpus.sources.findings import label_column
from raddino.errors import counted

FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", "No Finding",
)  # fmt: skip
LAYOUT = (
    "images|images_001",
    "Data_Entry_2017_v2020.csv|Data_Entry_2017.csv",
    "train_val_list.txt",
    "test_list.txt",
)
COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender|Patient Sex", "View Position")


def build(root: Path, options: Config) -> pd.DataFrame:
    """The official lists; a tenth of the patients of ``train_val_list.txt`` becomes validation."""
    require(root, LAYOUT)
    rows = read_table(root, LAYOUT[1], COLUMNS)
    lists = {}
    for split, entry in (("train", LAYOUT[2]), ("test", LAYOUT[3])):
        lists.update(dict.fromkeys((root / entry).read_text(encoding="utf-8").split(), split))
    split = rows["Image Index"].map(lists)
    if split.isna().any():
        raise Incomplete(
            f"{counted(int(split.isna().sum()), 'image')} of the table in neither the train nor the test list"
        )
    listed = rows["Finding Labels"].fillna("").str.split("|").map(set)
    if unknown := sorted(set().union(*listed) - {*FINDINGS, ""}):
        raise Incomplete(f"the table has labels that ChestX-ray14 does not: {', '.join(unknown[:3])}")
    files = index_images(root)
    patients = rows["Patient ID"].str.replace("^0+(?=.)", "", regex=True)
    stems = rows["Image Index"].str.removesuffix(".png")
    table = pd.DataFrame(
        {
            "id": stems,
            "path": [files.get(stem, f"images/{stem}.png") for stem in stems],
            "patient_id": patients,
            "split": cut_validation(split, patients),
            "view": rows["View Position"],
            "sex": rows["Patient Gender"],
            "age": rows["Patient Age"],
        }
    )
    labels = {label_column(name): listed.map(lambda row, name=name: float(name in row)) for name in FINDINGS}
    return table.assign(**{name: values.where(rows["Finding Labels"].notna()) for name, values in labels.items()})


register(
    Source(
        name="nih",
        title="NIH ChestX-ray14",
        home="https://nihcc.app.box.com/v/ChestXray-NIHCC",
        licence="NIH Clinical Center: unrestricted use with attribution",
        credentialed=False,
        obtain="Get images/ (12 archives), Data_Entry_2017_v2020.csv, train_val_list.txt and test_list.txt from "
        "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        layout=LAYOUT,
        documented="README_CHESTXRAY.pdf and FAQ_CHESTXRAY.pdf at the download page; Wang et al., CVPR 2017",
        build=build,
    )
)
