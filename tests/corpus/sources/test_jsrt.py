"""JSRT raw images with SCR masks as GIF: both read, folds as SCR has them, facts from the clinical files."""

import numpy as np
import pytest
from PIL import Image

from raddino.corpus.prepare import prepare
from raddino.corpus.sources import SOURCES
from raddino.corpus.sources.jsrt import ORGANS
from raddino.errors import RaddinoError

NAMES = ["JPCLN001", "JPCLN002", "JPCLN003", "JPCNN001", "JPCNN002"]


@pytest.fixture
def root(tmp_path):
    """Five images with everything but the heart of the last."""
    root = tmp_path / "jsrt"
    (root / "All247images").mkdir(parents=True)
    values = np.add.outer(np.arange(2048), np.arange(2048)).astype(">u2")
    for n, name in enumerate(NAMES):
        (root / f"All247images/{name}.IMG").write_bytes(np.minimum(values + n, 4095).astype(">u2").tobytes())
        for organ in ORGANS:
            path = root / f"scratch/fold{1 if int(name[-1]) % 2 else 2}/masks/{organ}/{name}.gif"
            path.parent.mkdir(parents=True, exist_ok=True)
            column = np.mgrid[:1024, :1024][1]
            inside = column > 600 if organ.startswith("left") else column < 400
            Image.fromarray(inside * np.uint8(255)).save(path)
    (root / "scratch/fold2/masks/heart/JPCNN002.gif").unlink()
    (root / "Clinical").mkdir()
    (root / "Clinical/CLNDAT_EN.txt").write_text(
        "JPCLN001.IMG\t5\t15\t53\tmale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer"
        "JPCLN002.IMG\t5\t30\t78\tfemale\t1614\t1090\tbenign\tl.upper lobe(S5)\tpulmonary hematoma\n",
        encoding="utf-8",
    )
    return root


def test_jsrt(root, tmp_path):
    corpus = prepare(f"jsrt:{root}", tmp_path / "corpus", workers=1, shorter_side=128,
                     source_options={"train": "fold1"})  # fmt: skip
    rows = corpus.manifest
    assert corpus.info["skipped"] == {}
    assert rows["warnings"].isna().all()
    assert rows["label_nodule"].tolist() == [1, 1, 1, 0, 0]
    assert rows["sex"].tolist() == ["M", "F", None, None, None]
    assert rows["age"].tolist()[:2] == [53, 78]
    assert [split == "test" for split in rows["split"]] == [False, True, False, False, True]
    image = corpus.read(0)
    assert image.shape == (128, 128)
    assert image[0, 0] > image[-1, -1]
    lungs = corpus.read_mask(0, "lungs")
    np.testing.assert_array_equal(
        lungs, np.maximum(*(corpus.read_mask(0, f"{side}_lung") for side in ("left", "right")))
    )
    assert lungs[:, :50].all()
    assert not lungs[:, 50:75].any()
    assert lungs[:, 76:].all()
    assert set(corpus.info["conventions"]) == {"lungs", "left_lung", "right_lung"}
    assert corpus.info["conventions"]["lungs"] == {"jsrt": ["without what lies behind the heart"]}
    assert corpus.mask_names == sorted(corpus.mask_names)
    assert not [name for name in corpus.mask_names if "convention" in name]
    assert corpus.read_mask(4, "heart") is None
    assert corpus.read_mask(3, "heart").any()


def test_masks_are_optional(root):
    frame = SOURCES["jsrt"].read(root)
    assert "split" not in frame
    assert sum(name.startswith("mask_") for name in frame if not name.endswith("_convention")) == 6
    (root / "scratch").rename(root / "elsewhere")
    with pytest.raises(RaddinoError, match="not found: scratch/fold1/masks or"):
        SOURCES["jsrt"].read(root)
    assert not [name for name in SOURCES["jsrt"].read(root, masks=False) if name.startswith("mask_")]
    for path in root.glob("All247images/*"):
        path.unlink()
    with pytest.raises(RaddinoError, match=r"the images, JPCLN001\.IMG"):
        SOURCES["jsrt"].read(root, masks=False)
