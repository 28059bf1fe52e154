"""What a DICOM SEG repeats of its source: the minimum by default, all on request, and that it is whole and readable."""

import numpy as np
import pytest

from raddino.errors import RaddinoError
from raddino.images.errors import UnreadableImage
from raddino.sample.generate import sample
from raddino.tasks.segmentation.dicom_seg import write_dicom_seg

highdicom = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

PLANTED = {
    "AE": "PLANTED", "AS": "099Y", "CS": "PLANTED", "DA": "19010203", "DT": "19010203040506", "TM": "040506.777",
    "DS": "77319.5", "IS": "77319", "LO": "Planted^Word", "LT": "Planted^Word", "PN": "Planted^Word",
    "SH": "Planted^Word", "ST": "Planted^Word", "UC": "Planted^Word", "UT": "Planted^Word", "UI": "1.2.3.77319",
    "UR": "http://planted",
}  # fmt: skip
"""A value by value representation, none of which stands in an object otherwise."""
GROUPS = (0x0008, 0x0010, 0x0012, 0x0018, 0x0032, 0x0038, 0x0040)
"""Identifying, patient, trial, acquisition, study, visit and procedure."""
JOINS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "SpecificCharacterSet")
GEOMETRY = ("Modality", "SliceThickness", "SpacingBetweenSlices")
STUDY, IMAGE, PATIENT = "1.2.826.0.1.111", "1.2.826.0.1.222", "Joins 42"
EMPTY = (
    "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
"""Type 2 of the modules Patient and General Study (PS3.3 C.7.1.1, C.7.2.1): there, and without a value."""


def source(folder, planted=True):
    """A DX file with a value in every element of :data:`GROUPS`, also in an item of every sequence of them."""
    sample(folder, 1, size=48, format="dicom", workers=1)
    file = next((folder / "images").glob("*.dcm"))
    image = pydicom.dcmread(file)
    for tag, (vr, _, _, retired, keyword) in pydicom.datadict.DicomDictionary.items():
        if not planted or tag >> 16 not in GROUPS or retired or not keyword or keyword in JOINS + GEOMETRY:
            continue
        if vr in PLANTED:
            setattr(image, keyword, PLANTED[vr])
        elif vr == "SQ":
            item = pydicom.Dataset()
            item.PatientName, item.PatientID = "Planted^Word", "Planted^Word"
            setattr(image, keyword, [item])
    image.PatientIdentityRemoved = "NO"
    image.StudyInstanceUID, image.SOPInstanceUID, image.PatientID = STUDY, IMAGE, PATIENT
    image.FrameOfReferenceUID = "1.2.826.0.1.333"
    image.PatientSex = "F"  # the one element whose values highdicom checks
    image.PixelSpacing = [0.2173, 0.2173]
    image.save_as(file)
    return file, image


def written(folder, file, **options):
    masks = np.zeros((2, 48, 48), bool)
    masks[0, 3:9, 4:20] = True
    write_dicom_seg(out := folder / "out.dcm", file, masks, ["left lung", "heart"], "abc", **options)
    return out, masks


def values(dataset):
    """Every value below a data set as text."""
    return [str(element.value) for element in dataset.iterall() if element.VR not in ("SQ", "OB", "OW")]


def test_by_default_it_repeats_what_joins_it_and_nothing_else(tmp_path):
    file, image = source(tmp_path / "made")
    assert len(image) > 400
    out, _ = written(tmp_path, file)
    made = pydicom.dcmread(out)
    told = values(made)
    for planted in {*PLANTED.values(), "0.2173"}:
        assert not [value for value in told if planted in value], planted
        assert planted.encode() not in out.read_bytes(), planted
    for keyword in EMPTY:
        assert keyword in made
        assert not made[keyword].value, keyword
    assert (made.PatientID, made.StudyInstanceUID) == (PATIENT, STUDY)
    assert made.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert made.SeriesInstanceUID != image.SeriesInstanceUID
    referred = made.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == image.SeriesInstanceUID
    assert referred.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == IMAGE


def test_all_on_request(tmp_path):
    file, image = source(tmp_path / "made", planted=False)
    image.PatientName, image.InstitutionName, image.StudyDescription = "Doe^Jane", "Clinic", "Thorax"
    image.save_as(file)
    out, _ = written(tmp_path, file, carry_header=True)
    made = pydicom.dcmread(out)
    assert (made.PatientName, made.StudyDescription, made.PatientSex) == ("Doe^Jane", "Thorax", "F")
    assert (made.PatientID, made.StudyInstanceUID) == (PATIENT, STUDY)


def test_it_is_read_back_with_its_masks_and_the_elements_of_its_modules(tmp_path):
    file, _ = source(tmp_path / "made")
    out, masks = written(tmp_path, file)
    made = highdicom.seg.segread(out)
    found = made.get_pixels_by_source_instance([IMAGE], combine_segments=False)[0]
    np.testing.assert_array_equal(np.moveaxis(found, -1, 0), masks)
    for keyword in (  # types 1 and 2 of PS3.3 A.51: series, equipment, image, segmentation, frames, SOP
        "SeriesNumber", "Modality", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions",
        "InstanceNumber", "ImageType", "PatientOrientation", "ContentLabel", "ContentDescription", "ContentDate",
        "SegmentationType", "SegmentSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
        "DimensionOrganizationSequence", "DimensionIndexSequence", "LossyImageCompression", "SOPClassUID",
    ):  # fmt: skip
        assert keyword in made, keyword


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_source_without_a_uid_is_refused_without_a_value_of_it(tmp_path, keyword):
    file, image = source(tmp_path / "made", planted=False)
    image.PatientName = "Doe^Jane"
    delattr(image, keyword)
    image.save_as(file, enforce_file_format=False)
    for carry in (False, True):
        with pytest.raises(UnreadableImage) as refused:
            written(tmp_path, file, carry_header=carry)
        assert "Doe" not in str(refused.value)
    assert not (tmp_path / "out.dcm").exists()


def test_odd_values_of_what_is_not_repeated_do_not_stop_it(tmp_path):
    file, image = source(tmp_path / "made", planted=False)
    with pydicom.config.disable_value_validation():
        image.PatientSex, image.StudyDate, image.PatientBirthDate = "female", "yesterday", "01.02.1903"
        image.save_as(file)
    written(tmp_path, file)
    with pytest.raises(RaddinoError, match="does not allow a segmentation"):
        written(tmp_path, file, carry_header=True)
