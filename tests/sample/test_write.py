"""DICOM read back with pydicom."""

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.uid import UID

from raddino.sample.generate import sample


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    root = tmp_path_factory.mktemp("dicom")
    png, dicom = (sample(root / f, 16, seed=6, size=64, format=f, workers=1) for f in ("png", "dicom"))
    table = pd.read_csv(dicom / "manifest.csv")
    return png, [pydicom.dcmread(dicom / p) for p in table.path], table


def test_pixels_are_those_of_the_png_and_monochrome1_is_inverted(both):
    png, files, _ = both
    kinds = set()
    for data, path in zip(files, pd.read_csv(png / "manifest.csv").path, strict=True):
        grey = np.asarray(Image.open(png / path)) / 65535
        stored = data.pixel_array / 4095
        kinds.add(data.PhotometricInterpretation)
        shown = 1 - stored if data.PhotometricInterpretation == "MONOCHROME1" else stored
        np.testing.assert_allclose(shown, grey, atol=1 / 4095)
    assert kinds == {"MONOCHROME1", "MONOCHROME2"}


def test_tags_say_what_the_manifest_says(both):
    _, files, table = both
    for data, row in zip(files, table.itertuples(), strict=True):
        assert data.Modality == "DX"
        assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.1.1"
        assert (data.PatientSex, int(data.PatientAge[:3]), data.PatientAge[3]) == (row.sex, row.age, "Y")
        assert float(data.PatientWeight) == row.weight
        assert data.ViewPosition == {"LATERAL": "LL"}.get(row.view, row.view)
        assert list(data.PatientOrientation) == (["A", "F"] if row.view == "LATERAL" else ["L", "F"])
        assert data.PatientID == row.patient_id
        assert "Synthetic" in str(data.PatientName)
        assert (data.Rows, data.Columns, data.BitsStored, data.BitsAllocated, data.HighBit) == (
            64,
            64,
            12,
            16,
            11,
        )
        assert 0 < float(data.WindowCenter) < 4096
        assert float(data.WindowWidth) > 1
        assert data.pixel_array.max() < 4096
        assert not data.StudyDate
        assert data.PatientIdentityRemoved == "YES"


def test_identifiers_are_valid_and_group_as_they_should(both):
    _, files, table = both
    for data in files:
        for uid in (data.SOPInstanceUID, data.SeriesInstanceUID, data.StudyInstanceUID):
            assert UID(uid).is_valid
            assert len(uid) <= 64
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
    assert len({d.SOPInstanceUID for d in files}) == len(files)
    by_study = table.assign(uid=[d.StudyInstanceUID for d in files]).groupby("study_id").uid
    assert (by_study.nunique() == 1).all()
    assert by_study.first().is_unique
    assert np.unique([d.StudyInstanceUID for d in files]).size == table.study_id.nunique()
