"""VinDr-RibCXR: 245 radiographs in which 20 ribs, R1 to R10 and L1 to L10, are drawn one by one."""

import json
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from raddino.config import Config
from raddino.corpus.sources.base import Incomplete, Source, cut_validation, index_images, locate, register, require
from raddino.images.mask_codes import polygons

RIBS = tuple(f"{side}{number}" for side in "RL" for number in range(1, 11))
LAYOUT = tuple(
    f"{split}/{file}|data/{split}/{file}|Annotations/{split}/{file}"
    for split, file in (("train", "Vindr_RibCXR_train_mask.json"), ("val", "Vindr_RibCXR_val_mask.json"))
)
NOTE = "VinDr-RibCXR names no patients: each image counts as a patient of its own"


class RibOptions(Config):
    """How the official parts are used.

    Attributes:
        valid: what the 49 images of ``val`` are used as. ``"test"``, as in the paper, cuts a validation part from
            train; ``"val"`` leaves no test images.
    """

    valid: Literal["test", "val"] = "test"


def build(root: Path, options: RibOptions) -> pd.DataFrame:
    """A mask of polygons for each rib (ribs overlap), and ``mask_ribs`` with all of those drawn."""
    require(root, LAYOUT)
    files = index_images(root)
    rows = [
        {**row, "split": split} for split, entry in zip(("train", options.valid), LAYOUT, strict=True)
        for row in _images(root, entry)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["path"] = [files.get(name, f"{name}.png") for name in table["id"]]
    table = table.assign(patient_id=table["id"], view="PA")
    if options.valid == "test":
        table["split"] = cut_validation(table["split"], table["patient_id"])
    table.attrs["notes"] = [NOTE]
    return table


def _images(root: Path, entry: str) -> list[dict[str, Any]]:
    """The rows of one JSON file: ``{"img": {"0": path}, "R1": {"0": [{"x": …, "y": …}, …]}, …}``."""
    path = locate(root, entry)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        names = {number: Path(name).stem for number, name in told["img"].items()}
        corners = {
            rib: {number: [(corner["x"], corner["y"]) for corner in drawn] for number, drawn in _drawn(told[rib])}
            for rib in RIBS
        }
        return [_image(name, {rib: corners[rib].get(number) for rib in RIBS}) for number, name in names.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Incomplete(f"{path.name} is not a JSON file of 20 ribs with img, R1 to R10 and L1 to L10") from None


def _drawn(outlines: dict[str, Any]) -> list[tuple[str, list[dict[str, float]]]]:
    """A rib that was not drawn is null, NaN or an empty list."""
    return [(number, outline) for number, outline in outlines.items() if isinstance(outline, list)]


def _image(name: str, outlines: dict[str, Any]) -> dict[str, Any]:
    drawn = {rib: outline for rib, outline in outlines.items() if outline}
    masks = {f"mask_rib_{rib.lower()}": polygons([drawn[rib]]) if rib in drawn else None for rib in RIBS}
    return {"id": name, **masks, "mask_ribs": polygons(drawn.values()) if drawn else None}


register(
    Source(
        name="vindr-ribcxr",
        title="VinDr-RibCXR",
        home="https://vindr.ai/datasets/ribcxr",
        licence="VinDr-RibCXR data use agreement",
        credentialed=True,
        obtain="Get VinDr-RibCXR (train/ and val/, each with img/ and its Vindr_RibCXR_*_mask.json) after the data use "
        "agreement from https://vindr.ai/datasets/ribcxr",
        layout=LAYOUT,
        documented="README of https://github.com/vinbigdata-medical/MIDL2021-VinDr-RibCXR; Nguyen et al., MIDL 2021",
        build=build,
        options=RibOptions,
    )
)
