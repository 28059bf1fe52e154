"""SIIM-ACR: labels from run-length masks in both spellings of the table, and in the published one."""

import numpy as np
import pytest

from raddino.corpus.prepare import prepare
from raddino.corpus.sources.base import read_table
from raddino.corpus.sources.siim_acr import joined_masks
from raddino.images.mask_codes import decode


@pytest.mark.parametrize("name", ["stage_2_train.csv", "train-rle.csv"])
def test_siim(tmp_path, draw, square, packed, name):
    root = tmp_path / "siim"
    root.mkdir()
    lines = ["ImageId, EncodedPixels" if name == "train-rle.csv" else "ImageId,EncodedPixels"]
    for n in range(8):
        uid = f"1.2.276.0.7230010.3.1.4.8323329.{n}.1517875201.85081{n}"
        split = "dicom-images-test" if n > 5 else "dicom-images-train"
        facts = {"PatientID": f"person {n // 2}", "ViewPosition": "AP", "ConversionType": "WSD", **square}
        draw(root / f"{split}/1.2.{n}/1.3.{n}/{uid}.dcm", **facts)
        lines += [f"{uid}, -1"] if n % 3 else [f"{uid}, 307200 102400 131072 1024", f"{uid}, 0 10240"]
    (root / name).write_text("\n".join(lines), encoding="utf-8")
    corpus = packed(f"siim-acr:{root}", 8, shape=(32, 32))
    assert corpus.manifest["label_pneumothorax"].tolist() == [1, 0, 0, 1, 0, 0, 1, 0]
    assert corpus.manifest["patient"].nunique() == 4
    assert set(corpus.manifest["view"]) == {"AP"}
    assert corpus.manifest["warnings"].isna().all()
    assert not corpus.read_mask(1, "pneumothorax").any()
    columns = np.arange(32) * 32 + 16
    inside = (columns < 10) | ((columns >= 300) & (columns < 400)) | (columns == 528)
    np.testing.assert_array_equal(corpus.read_mask(0, "pneumothorax"), np.tile(inside * 255, (32, 1)))


def test_secondary_capture_of_any_other_folder_must_be_asked_for(tmp_path, draw):
    draw(tmp_path / "images/radiograph.dcm", PatientID="one")
    draw(tmp_path / "images/copy.dcm", PatientID="two", ConversionType="WSD")
    plain = prepare(tmp_path / "images", tmp_path / "plain", workers=1)
    reason = "secondary capture, which may hold text (--secondary-capture takes it)"
    assert plain.info["skipped"] == {reason: 1}
    assert len(prepare(tmp_path / "images", tmp_path / "asked", secondary_capture=True, workers=1)) == 2


def test_siim_table_as_published(published):
    """The release's own file: 12,047 images, 2,669 of them with a mask."""
    rows = read_table(published, "siim-pneumothorax-train-rle.csv", ["ImageId", "EncodedPixels"])
    positive = (rows["EncodedPixels"] != "-1").groupby(rows["ImageId"]).any()
    assert len(positive) == 12_047
    assert positive.sum() == 2_669
    masks = joined_masks(rows["ImageId"], rows["EncodedPixels"])
    assert sum(cell == "empty:" for cell in masks.values()) == 12_047 - 2_669
    shares = [decode(cell, (1, 1)).mean() / 255 for cell in list(masks.values())[:2000] if cell.startswith("gaps:")]
    assert len(shares) > 300
    assert 0.005 < np.median(shares) < 0.02
