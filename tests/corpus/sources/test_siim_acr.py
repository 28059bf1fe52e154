"""SIIM-ACR: labels from run-length masks in both spellings of the table, and in the published one."""

import pytest

from raddino.corpus.sources.base import read_table


@pytest.mark.parametrize("name", ["stage_2_train.csv", "train-rle.csv"])
def test_siim(tmp_path, draw, packed, name):
    root = tmp_path / "siim"
    root.mkdir()
    lines = ["ImageId, EncodedPixels" if name == "train-rle.csv" else "ImageId,EncodedPixels"]
    for n in range(8):
        uid = f"1.2.276.0.7230010.3.1.4.8323329.{n}.1517875201.85081{n}"
        split = "dicom-images-test" if n > 5 else "dicom-images-train"
        draw(root / f"{split}/1.2.{n}/1.3.{n}/{uid}.dcm", PatientID=f"person {n // 2}", ViewPosition="AP")
        lines += [f"{uid}, -1"] if n % 3 else [f"{uid}, 55 3 9 2", f"{uid}, 70 3"]
    (root / name).write_text("\n".join(lines))
    corpus = packed(f"siim-acr:{root}", 8)
    assert corpus.manifest["label_pneumothorax"].tolist() == [1, 0, 0, 1, 0, 0, 1, 0]
    assert corpus.manifest["patient"].nunique() == 4
    assert set(corpus.manifest["view"]) == {"AP"}


def test_siim_table_as_published(published):
    """The release's own file: 12,047 images, 2,669 of them with a mask."""
    rows = read_table(published, "siim-pneumothorax-train-rle.csv", ["ImageId", "EncodedPixels"])
    positive = (rows["EncodedPixels"] != "-1").groupby(rows["ImageId"]).any()
    assert len(positive) == 12_047
    assert positive.sum() == 2_669
