"""CANDID-PTX: 19,237 chest radiographs of Dunedin Hospital with pneumothorax, chest drain and rib fracture."""

from pathlib import Path

import pandas as pd

from raddino.config import Config
from raddino.corpus.sources.base import Incomplete, Source, index_images, read_table, register, require
from raddino.corpus.sources.findings import label_column
from raddino.corpus.sources.siim_acr import NO_MASK, joined_masks
from raddino.errors import counted
from raddino.images.mask_codes import EMPTY

LAYOUT = (
    "dataset|chest_radiographs", "Pneumothorax_reports.csv", "chest_tube.csv",
    "acute_rib_fracture.csv|Rib_fracture_mask_rle.csv",
)  # fmt: skip


class CandidOptions(Config):
    """What is taken along.

    Attributes:
        reports: the radiologist's text too.
    """

    reports: bool = False


def build(root: Path, options: CandidOptions) -> pd.DataFrame:
    """One row an image of ``Pneumothorax_reports.csv``; the patient stands at the head of ``filename`` (``P12_…``).

    Pneumothorax is a mask other than -1 in any row of the image, unknown where that is empty; chest drain and rib
    fracture are a row in their file, and their masks are empty without one. Where such a row has -1 for a mask, the
    image has the label and no mask.
    """
    require(root, LAYOUT)
    columns = ["SOPInstanceUID", "EncodedPixels", "filename", *(["Report"] if options.reports else [])]
    rows = read_table(root, LAYOUT[1], columns)
    unnamed = rows["filename"].isna() | rows["SOPInstanceUID"].isna()
    if unnamed.any():
        raise Incomplete(
            f"Pneumothorax_reports.csv has {counted(int(unnamed.sum()), 'row')} without filename or SOPInstanceUID"
        )
    mask = rows["EncodedPixels"]
    rows["positive"] = (mask != NO_MASK).astype(float).where(mask.notna())
    images = rows.groupby("SOPInstanceUID", sort=False).first()
    images[label_column("pneumothorax")] = rows.groupby("SOPInstanceUID", sort=False)["positive"].max()
    images["mask_pneumothorax"] = images.index.map(joined_masks(rows["SOPInstanceUID"], mask))
    for name, entry in (("chest_drain", LAYOUT[2]), ("rib_fracture", LAYOUT[3])):
        drawn = read_table(root, entry, ["anon_SOPUID|SOPInstanceUID", "mask_rle"])
        positive = images.index.isin(set(drawn["anon_SOPUID"]))
        images[label_column(name)] = positive.astype(float)
        masks = joined_masks(drawn["anon_SOPUID"], drawn["mask_rle"].replace(NO_MASK, None))
        images[f"mask_{name}"] = images.index.map(masks)
        images.loc[~positive, f"mask_{name}"] = EMPTY
    files = index_images(root)
    table = images.reset_index(names="id")
    folder = LAYOUT[0].split("|")[0]
    table["path"] = [files.get(name, f"{folder}/{name}") for name in table["id"]]
    table["patient_id"] = table["filename"].str.split("_").str[0]
    return table.rename(columns={"Report": "report"}).drop(columns=["EncodedPixels", "filename", "positive"])


register(
    Source(
        name="candid-ptx",
        title="CANDID-PTX",
        home="https://doi.org/10.17608/k6.auckland.14173982",
        licence="CANDID-PTX data use agreement",
        credentialed=True,
        obtain="CANDID-PTX is no longer openly accessible: since February 2024 nobody outside Health New Zealand gets "
        "it (https://doi.org/10.17608/k6.auckland.14173982). With a copy from before, give the folder "
        "that holds dataset/ and the three .csv files",
        layout=LAYOUT,
        documented="Feng et al., Radiology: Artificial Intelligence 3(6):e210136 (2021)",
        build=build,
        options=CandidOptions,
    )
)
