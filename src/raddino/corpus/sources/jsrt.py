"""JSRT: 247 radiographs with and without a lung nodule, and SCR, which drew lungs, heart and clavicles in them."""

import re
from pathlib import Path
from typing import Literal

import pandas as pd

from raddino.config import Config
from raddino.corpus.sources.base import (
    WITHOUT_HEART,
    Incomplete,
    Source,
    cut_validation,
    index_images,
    register,
    require,
)
from raddino.corpus.sources.findings import label_column
from raddino.images.mask_codes import union

ORGANS = ("left lung", "right lung", "heart", "left clavicle", "right clavicle")
FOLDS = ("fold1", "fold2")
SCR = tuple(f"scratch/{fold}/masks|scr/scratch/{fold}/masks|{fold}/masks" for fold in FOLDS)
LAYOUT = ("All247images|Nodule154images|JPCLN001.IMG", *SCR)
IMAGE = re.compile(r"(JPC[LN]N(\d{3}))\.IMG", re.IGNORECASE)
CLINICAL = re.compile(r"(JPC[LN]N\d{3})\.IMG(.*?)(?=JPC[LN]N\d{3}\.IMG|\Z)", re.IGNORECASE | re.DOTALL)
AGE_SEX = re.compile(r"\b(\d{1,3})[\s,]+(male|female)\b", re.IGNORECASE)
NOTE = "JSRT names no patients: each image counts as a patient of its own"


class JsrtOptions(Config):
    """What is taken along, and who is trained on.

    Attributes:
        masks: take the masks of SCR; without them SCR need not be there.
        train: ``"fold1"`` or ``"fold2"`` of SCR's protocol (odd and even image numbers) to train on, of which a tenth
            becomes validation, and to test on the other; None splits by a hash of the image.
    """

    masks: bool = True
    train: Literal["fold1", "fold2"] | None = None


def build(root: Path, options: JsrtOptions) -> pd.DataFrame:
    """Nodule by name (JPCLN has one, JPCNN none); sex and age from ``CLNDAT_EN.txt`` and ``CNNDAT_EN.txt`` if there.

    SCR's left and right are the patient's. ``mask_lungs`` unites both lungs.
    """
    require(root, LAYOUT if options.masks else LAYOUT[:1])
    files = index_images(root)
    found = {
        match[1].upper(): (path, int(match[2])) for name, path in files.items() if (match := IMAGE.fullmatch(name))
    }
    if not found:
        raise Incomplete("not found: the images, JPCLN001.IMG to JPCNN093.IMG")
    names = sorted(found)
    table = pd.DataFrame({"id": names, "path": [found[name][0] for name in names], "patient_id": names, "view": "PA"})
    table[label_column("Nodule")] = table["id"].str.startswith("JPCLN").astype(float)
    table = table.join(_clinical(root), on="id")
    if options.train:
        fold = pd.Series([FOLDS[1 - found[name][1] % 2] for name in names])
        split = (fold == options.train).map({True: "train", False: "test"})
        table["split"] = cut_validation(split, table["patient_id"])
    if options.masks:
        masks = pd.DataFrame([_masks(root, name) for name in names])
        table = pd.concat([table, masks], axis=1)
    table.attrs["notes"] = [NOTE]
    return table


def _masks(root: Path, name: str) -> dict[str, str | None]:
    folders = [entry for layout in SCR for entry in layout.split("|")]
    cells = {}
    for organ in ORGANS:
        paths = (f"{folder}/{organ}/{name}.gif" for folder in folders)
        cells[organ] = next((path for path in paths if (root / path).is_file()), None)
    lungs = [cell for organ in ORGANS[:2] if (cell := cells[organ])]
    named = {f"mask_{organ.replace(' ', '_')}": cell for organ, cell in cells.items()}
    return {**named, "mask_lungs": union(lungs) if len(lungs) == 2 else None}


def _clinical(root: Path) -> pd.DataFrame:
    """Sex and age, by image, of every text file whose name starts with CLNDAT or CNNDAT."""
    facts = {}
    for path in sorted(root.rglob("C[LN]NDAT*")):
        if path.suffix.lower() == ".txt":
            for name, words in CLINICAL.findall(path.read_text(encoding="latin-1")):
                if match := AGE_SEX.search(words):
                    facts[name.upper()] = {"age": match[1], "sex": match[2]}
    return pd.DataFrame.from_dict(facts, orient="index", columns=["age", "sex"])


register(
    Source(
        name="jsrt",
        title="JSRT database with SCR masks",
        home="http://db.jsrt.or.jp/eng.php",
        licence="JSRT: research use after registration; SCR: research and educational use, no redistribution",
        credentialed=True,
        obtain="Register at http://db.jsrt.or.jp/eng.php, get All247images (and Clinical_Information for sex and age), "
        "and put scratch/ of SCR, https://www.isi.uu.nl/Research/Databases/SCR/, beside it",
        layout=LAYOUT,
        documented="Shiraishi et al., AJR 174:71 (2000); van Ginneken et al., Med Image Anal 10:19 (2006)",
        build=build,
        conventions=dict.fromkeys(("lungs", "left_lung", "right_lung"), WITHOUT_HEART),
        options=JsrtOptions,
    )
)
