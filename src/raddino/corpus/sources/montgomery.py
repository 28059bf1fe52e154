"""Montgomery County: 138 radiographs of a tuberculosis control programme, with lung masks and readings."""

import re
from pathlib import Path

import pandas as pd

from raddino.config import Config
from raddino.corpus.sources.base import WITHOUT_HEART, Incomplete, Source, locate, register, require
from raddino.corpus.sources.findings import label_column
from raddino.images.mask_codes import union

TOP = "MontgomerySet"
FOLDERS = ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask", "ClinicalReadings")
LAYOUT = tuple(f"{folder}|{TOP}/{folder}" for folder in FOLDERS)
IMAGE = re.compile(r"MCUCXR_\d{4}_([01])")
FIELD = re.compile(r"Patient's (Sex|Age):\s*(\S*)", re.IGNORECASE)


class ReadingOptions(Config):
    """What is taken along.

    Attributes:
        reports: the reading too, a line or two.
    """

    reports: bool = False


def build(root: Path, options: ReadingOptions) -> pd.DataFrame:
    """Normal or tuberculosis by the end of the name (``_0``, ``_1``); ``mask_lungs`` unites both masks."""
    require(root, LAYOUT)
    folder = locate(root, LAYOUT[0])
    top = folder.parent
    images = [path for path in sorted(folder.glob("*.png")) if IMAGE.fullmatch(path.stem)]
    if not images:
        raise Incomplete("not found: the images, CXR_png/MCUCXR_0001_0.png and so on")
    rows = []
    for path in images:
        sick = float(path.stem.endswith("1"))
        masks = [top / side / path.name for side in FOLDERS[1:3]]
        cells = [mask.relative_to(root).as_posix() for mask in masks if mask.is_file()]
        rows.append(
            {
                "id": path.stem,
                "path": path.relative_to(root).as_posix(),
                "patient_id": path.stem,
                "view": "PA",
                "portable": False,
                label_column("tuberculosis"): sick,
                label_column("no finding"): 1 - sick,
                "mask_lungs": union(cells) if len(cells) == 2 else None,
                **_reading(top / FOLDERS[3] / f"{path.stem}.txt", options),
            }
        )
    return pd.DataFrame(rows)


def _reading(path: Path, options: ReadingOptions) -> dict[str, str]:
    """``Patient's Sex: F``, ``Patient's Age: 027Y``, then the reading."""
    text = path.read_text(encoding="latin-1") if path.is_file() else ""
    facts = {name.lower(): value for name, value in FIELD.findall(text)}
    words = " ".join(FIELD.sub(" ", text).split())
    return {**facts, "report": words} if options.reports else facts


register(
    Source(
        name="montgomery",
        title="Montgomery County chest X-ray set",
        home="https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/index.html",
        licence="U.S. National Library of Medicine: research use with attribution (Jaeger et al., QIMS 2014)",
        credentialed=False,
        obtain="Get MontgomerySet (CXR_png/, ManualMask/, ClinicalReadings/) from "
        "https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/index.html",
        layout=LAYOUT,
        documented="NLM-MontgomeryCXRSet-ReadMe.pdf; Jaeger et al., Quant Imaging Med Surg 4:475 (2014)",
        build=build,
        conventions={"lungs": WITHOUT_HEART},
        options=ReadingOptions,
    )
)
