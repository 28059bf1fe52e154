"""SIIM-ACR Pneumothorax: 12,047 labelled images of the challenge's second stage, drawn from NIH ChestX-ray14."""

from pathlib import Path

import pandas as pd

from raddino.config import Config
from raddino.corpus.sources.base import Source, index_images, read_table, register, require
from raddino.corpus.sources.findings import label_column
from raddino.images.mask_codes import EMPTY, union

LAYOUT = ("stage_2_train.csv|train-rle.csv|siim/train-rle.csv",)
NO_MASK = "-1"
SIZE = "1024x1024"


def joined_masks(images: pd.Series, codes: pd.Series) -> dict[str, str | None]:
    """The mask cell of each image from its rows of run-lengths: their union, empty where all rows say -1.

    The runs go down the columns of 1024 x 1024 pixels, each start counted from the end of the run before.
    """
    masks: dict[str, str | None] = {}
    for image, rows in codes.dropna().groupby(images, sort=False):
        runs = [f"gaps:{SIZE}:{' '.join(row.split())}" for row in rows if row != NO_MASK]
        masks[str(image)] = union(runs) or EMPTY
    return masks


def build(root: Path, options: Config) -> pd.DataFrame:
    """Positive where any run-length mask of the image is not -1, masks joined; patients are in the DICOM headers.

    The images of the table lie anywhere below the folder (``dicom-images-train/<study>/<series>/<image>.dcm``).
    """
    require(root, LAYOUT)
    rows = read_table(root, LAYOUT[0], ["ImageId", "EncodedPixels"])
    mask = rows["EncodedPixels"]
    positive = (mask != NO_MASK).astype(float).where(mask.notna())
    labels = positive.groupby(rows["ImageId"], sort=False).max()
    files = index_images(root)
    table = pd.DataFrame({"id": labels.index, label_column("pneumothorax"): labels.to_numpy()})
    table["path"] = [files.get(name, f"dicom-images-train/{name}.dcm") for name in table["id"]]
    table["mask_pneumothorax"] = table["id"].map(joined_masks(rows["ImageId"], mask))
    table.attrs["notes"] = ["SIIM-ACR images are NIH images: an encoder that saw NIH saw them"]
    return table


register(
    Source(
        name="siim-acr",
        title="SIIM-ACR Pneumothorax Segmentation",
        home="https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation",
        licence="Kaggle competition rules (non-commercial use)",
        credentialed=False,
        obtain="Get stage_2_train.csv from https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation and the DICOM "
        "files of dicom-images-train and dicom-images-test that it lists, and put them into one folder",
        layout=(*LAYOUT, "dicom-images-train/"),
        documented="Kaggle, SIIM-ACR Pneumothorax Segmentation, Data; Filice et al., J Digit Imaging 33:490 (2020)",
        build=build,
        namespace="nih",
        secondary_capture=True,
    )
)
