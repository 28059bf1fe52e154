"""VinDr-RibCXR: polygons of single ribs to masks, the official parts, ribs that were not drawn."""

import json

import numpy as np
import pytest
from skimage.draw import polygon2mask

from raddino.corpus.sources import SOURCES
from raddino.corpus.sources.vindr_ribcxr import RIBS
from raddino.errors import RaddinoError

TRAIN, VAL = 12, 3


def corners(image: int, rib: str) -> list[dict[str, float]]:
    """A slanted rib of an image 30 x 26; right ribs lie left in the image."""
    left, top = (1.2 if rib[0] == "R" else 13.2), 2 * int(rib[1:]) + 0.3 * image / TRAIN
    return [{"x": x, "y": y} for x, y in ((left, top), (left + 10, top + 2), (left + 10, top + 6), (left, top + 4))]


@pytest.fixture
def root(tmp_path, draw):
    for split, count in (("train", TRAIN), ("val", VAL)):
        names = [f"VinDr_RibCXR_{split}_{n:03}" for n in range(count)]
        told = {"img": {str(n): f"data/{split}/img/{name}.png" for n, name in enumerate(names)}}
        told |= {rib: {str(n): corners(n, rib) for n in range(count)} for rib in RIBS}
        told["L10"]["0"] = None
        for name in names:
            draw(tmp_path / f"rib/{split}/img/{name}.png")
        (tmp_path / f"rib/{split}/Vindr_RibCXR_{split}_mask.json").write_text(json.dumps(told), encoding="utf-8")
    return tmp_path / "rib"


def test_ribs(root, packed):
    corpus = packed(f"vindr-ribcxr:{root}", TRAIN + VAL)
    assert corpus.manifest["split"].value_counts()["test"] == VAL
    assert corpus.manifest["warnings"].isna().all()
    assert sorted(corpus.mask_names) == sorted(["ribs", *(f"rib_{rib.lower()}" for rib in RIBS)])
    last = TRAIN - 1
    masks = {rib: corpus.read_mask(last, f"rib_{rib.lower()}") for rib in RIBS}
    for rib, mask in masks.items():
        outline = [(corner["y"], corner["x"]) for corner in corners(last, rib)]
        np.testing.assert_array_equal(mask > 0, polygon2mask((30, 26), outline))
    assert (masks["R3"] & masks["R4"]).any()
    np.testing.assert_array_equal(corpus.read_mask(last, "ribs"), np.maximum.reduce(list(masks.values())))
    assert corpus.read_mask(0, "rib_l10") is None
    assert corpus.read_mask(0, "ribs").any()


def test_the_official_validation_part_may_stay_one(root):
    frame = SOURCES["vindr-ribcxr"].read(root, valid="val")
    assert frame["split"].value_counts().to_dict() == {"train": TRAIN, "val": VAL}


@pytest.mark.parametrize("content", ["{", "[]", '{"img": {"0": "a.png"}}', '{"img": {"0": 3}}'])
def test_another_json_is_refused(root, content):
    (root / "val/Vindr_RibCXR_val_mask.json").write_text(content, encoding="utf-8")
    with pytest.raises(RaddinoError, match=r"Vindr_RibCXR_val_mask\.json is not a JSON file of 20 ribs"):
        SOURCES["vindr-ribcxr"].read(root)
