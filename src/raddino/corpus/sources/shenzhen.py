"""Shenzhen: 662 radiographs of a hospital, normal or with tuberculosis, readings, and 566 lung masks drawn later."""

import re
from pathlib import Path

import pandas as pd

from raddino.corpus.sources.base import Incomplete, Source, index_images, locate, register, require
from raddino.corpus.sources.findings import label_column
from raddino.corpus.sources.montgomery import ReadingOptions

TOP = "ChinaSet_AllFiles"
MASKS = "mask|shcxr-lung-mask/mask|masks"
LAYOUT = (f"CXR_png|{TOP}/CXR_png", f"ClinicalReadings|{TOP}/ClinicalReadings", MASKS)
ACQUIRED = {"manufacturer": "Philips", "model": "DigitalDiagnost", "portable": False, "year_band": "2012"}
IMAGE = re.compile(r"CHNCXR_\d{4}_([01])")
SEX_AGE = re.compile(r"(f?e?mal)e?[\s,]*(\d{1,4})\s*([ymwd]?)[a-z]*", re.IGNORECASE)


def build(root: Path, options: ReadingOptions) -> pd.DataFrame:
    """Normal or tuberculosis by the end of the name (``_0``, ``_1``); 96 images have no mask."""
    require(root, LAYOUT)
    files = index_images(root)
    names = sorted(name for name in files if IMAGE.fullmatch(name))
    if not names:
        raise Incomplete("not found: the images, CXR_png/CHNCXR_0001_0.png and so on")
    readings = locate(root, LAYOUT[1])
    rows = []
    for name in names:
        sick = float(name.endswith("1"))
        rows.append(
            {
                "id": name,
                "path": files[name],
                "patient_id": name,
                "view": "PA",
                **ACQUIRED,
                label_column("tuberculosis"): sick,
                label_column("no finding"): 1 - sick,
                "mask_lungs": files.get(f"{name}_mask"),
                **_reading(readings / f"{name}.txt", options),
            }
        )
    return pd.DataFrame(rows)


def _reading(path: Path, options: ReadingOptions) -> dict[str, str]:
    """``male 45yrs`` (also ``femal 32yrs``, ``male 16month``, ``female, 64days``), then the reading."""
    text = path.read_text(encoding="latin-1") if path.is_file() else ""
    match = SEX_AGE.search(text)
    facts = {"sex": "F" if match[1].lower().startswith("f") else "M", "age": match[2] + match[3]} if match else {}
    words = " ".join(text[match.end() if match else 0 :].split())
    return {**facts, "report": words} if options.reports else facts


register(
    Source(
        name="shenzhen",
        title="Shenzhen Hospital chest X-ray set",
        home="https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/index.html",
        licence="U.S. National Library of Medicine: research use with attribution (Jaeger et al., QIMS 2014); "
        "masks CC BY-NC-SA 4.0",
        credentialed=False,
        obtain="Get ChinaSet_AllFiles (CXR_png/, ClinicalReadings/) from "
        "https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/index.html and mask/ from "
        "https://www.kaggle.com/datasets/yoctoman/shcxr-lung-mask into the same folder",
        layout=LAYOUT,
        documented="NLM-ChinaCXRSet-ReadMe; Jaeger et al., Quant Imaging Med Surg 4:475 (2014); Stirenko et al., "
        "arXiv 1803.01199 (masks)",
        build=build,
        options=ReadingOptions,
    )
)
