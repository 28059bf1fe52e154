"""CheXmask: lungs and heart drawn by HybridGNet in the images of five other data sets, each with a quality estimate."""

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from raddino.config import Config
from raddino.corpus.sources.base import (
    SOURCES,
    WITHOUT_HEART,
    Incomplete,
    Source,
    missing,
    numbers,
    read_table,
    register,
)
from raddino.images.mask_codes import union

TABLES = {
    "vindr-cxr": "VinDr-CXR.csv",
    "mimic-cxr-jpg": "MIMIC-CXR-JPG.csv",
    "nih": "ChestX-Ray8.csv",
    "chexpert": "CheXpert.csv",
    "padchest": "Padchest.csv",
}
LAYOUT = ("|".join(f"OriginalResolution/{name}" for name in TABLES.values()),)
IMAGE_ID = "image_id|dicom_id|Image Index|ImageID|Path|Image ID"
QUALITY = "Dice RCA (Mean)"
ORGANS = ("Left Lung", "Right Lung", "Heart")
SUFFIX = r"\.(?:png|jpe?g|dcm|dicom)$"


class CheXmaskOptions(Config):
    """Whose images, and which masks.

    Attributes:
        dataset: whose table is read; its images and labels are read as that source reads them.
        images: the folder of that data set.
        min_rca: masks of a lower estimated Dice (reverse classification accuracy, mean) are left out; 0.7 is what the
            authors advise.
        sides: ``mask_left_lung`` and ``mask_right_lung`` in place of ``mask_lungs``.
    """

    dataset: Literal["vindr-cxr", "mimic-cxr-jpg", "nih", "chexpert", "padchest"] | None = None
    images: Path | None = None
    min_rca: float = Field(default=0.7, ge=0, le=1)
    sides: bool = False


def build(root: Path, options: CheXmaskOptions) -> pd.DataFrame:
    """The other source's manifest with masks where CheXmask has good ones; its ``source`` and terms stay its own."""
    absent = missing(root, [f"OriginalResolution/{TABLES[options.dataset]}"] if options.dataset else LAYOUT)
    absent += [f"the option {name}" for name in ("dataset", "images") if getattr(options, name) is None]
    if absent or options.dataset is None or options.images is None:
        raise Incomplete(f"not found: {', '.join(absent)}")
    table = SOURCES[options.dataset].read(options.images)
    notes = table.attrs["notes"]
    folder = options.images.resolve()
    table["path"] = [str(folder / path) for path in table["path"]]
    masks, poor = _masks(root, options)
    joined = masks.reindex(_plain(table["id"])).reset_index(drop=True)
    table = pd.concat([table, joined], axis=1)
    found = int(joined.notna().any(axis=1).sum())
    if not found:
        raise Incomplete(f"no image of {options.dataset} has a mask of min_rca={options.min_rca} in its table")
    notes = [*notes, f"CheXmask has masks for {found} of {len(table)} images; {poor} below {options.min_rca} left out"]
    table.attrs["notes"] = [*notes, "CheXmask's masks were drawn by a network and are no reference by hand"]
    return table


def _masks(root: Path, options: CheXmaskOptions) -> tuple[pd.DataFrame, int]:
    """Mask cells by plain image id, and how many images were left out for their quality."""
    entry = f"OriginalResolution/{TABLES[str(options.dataset)]}"
    rows = read_table(root, entry, [IMAGE_ID, QUALITY, *ORGANS, "Height", "Width"])
    good = numbers(rows[QUALITY]) >= options.min_rca
    rows = rows[good].assign(id=_plain(rows["image_id"])).dropna(subset=["id"]).drop_duplicates("id").set_index("id")
    size = rows["Height"].str.removesuffix(".0") + "x" + rows["Width"].str.removesuffix(".0")
    left, right, heart = ("runs:" + size + ":" + rows[organ] for organ in ORGANS)
    if options.sides:
        lungs = {"mask_left_lung": left, "mask_right_lung": right}
    else:
        pairs = zip(left, right, strict=True)
        whole = [None if pd.isna(one) or pd.isna(other) else union((one, other)) for one, other in pairs]
        lungs = {"mask_lungs": pd.Series(whole, index=rows.index, dtype=object)}
    return pd.DataFrame({**lungs, "mask_heart": heart}), int((~good).sum())


def _plain(names: pd.Series) -> pd.Series:
    """Image names without suffix, and CheXpert's from ``train/patient…`` on."""
    names = names.str.replace(r"^.*?((?:train|valid|val|test)/patient)", r"\1", regex=True)
    return names.str.replace(SUFFIX, "", regex=True)


register(
    Source(
        name="chexmask",
        title="CheXmask, lungs and heart in five data sets",
        home="https://physionet.org/content/chexmask-cxr-segmentation-data/1.0.0/",
        licence="masks CC BY 4.0; images under the terms of their own data set",
        credentialed=False,
        obtain="Get OriginalResolution/ of CheXmask from "
        "https://physionet.org/content/chexmask-cxr-segmentation-data/1.0.0/ and say whose images it is joined to: "
        "dataset=NAME and images=FOLDER with that data set",
        layout=LAYOUT,
        documented="DATA_DICTIONARY.md of the release; Gaggion et al., Scientific Data 11:511 (2024)",
        build=build,
        conventions=dict.fromkeys(("lungs", "left_lung", "right_lung"), WITHOUT_HEART),
        options=CheXmaskOptions,
    )
)
