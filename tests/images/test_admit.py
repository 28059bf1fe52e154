"""What a DICOM header must say for its picture to be taken for a chest radiograph."""

import numpy as np
import pytest

from raddino.images.dicom import read_dicom
from raddino.images.errors import NotARadiograph, UnreadableImage

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CR, DX = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1"


@pytest.mark.parametrize(
    ("written", "turned"),
    [
        ("MONOCHROME2", False), ("monochrome2", False), ("Monochrome 2", False), ("MONO2", False), ("M2", False),
        ("MONOCHROM_2", False), ("MONOCHROME1", True), ("monochrome1", True), ("mono1", True), ("MONOCHROME-1", True),
        ("M1", True), (" MONOCHROME1 ", True),
    ],
)  # fmt: skip
def test_photometric_names(make_dicom, ramp, written, turned):
    radiograph = read_dicom(make_dicom(ramp, PhotometricInterpretation=written))
    np.testing.assert_array_equal(radiograph.pixels, -ramp.astype(float) if turned else ramp)
    assert radiograph.facts.photometric == ("MONOCHROME1" if turned else "MONOCHROME2")
    assert radiograph.warnings == ()


@pytest.mark.parametrize(
    ("written", "shape", "name"),
    [
        ("MONOCHROME", None, "MONOCHROME2"),
        ("MONO", "IDENTITY", "MONOCHROME2"),
        ("monochrome", "INVERSE", "MONOCHROME1"),
    ],
)
def test_photometric_name_without_a_number_is_told(make_dicom, ramp, written, shape, name):
    data = make_dicom(ramp, PhotometricInterpretation=written, PresentationLUTShape=shape)
    radiograph = read_dicom(data)
    assert radiograph.facts.photometric == name
    assert radiograph.warnings == (f"PhotometricInterpretation does not say 1 or 2 and was taken as {name}",)


@pytest.mark.parametrize("written", ["MONOCHROME3", "GREY", "12", "?"])
def test_unknown_photometric_is_refused(make_dicom, ramp, written):
    with pytest.raises(UnreadableImage, match="bright and dark"):
        read_dicom(make_dicom(ramp, PhotometricInterpretation=written))


@pytest.mark.parametrize("written", ["RGB", "rgb", "YBR_FULL_422", "PALETTE COLOR", "YBR_ICT"])
def test_colour_is_set_aside(make_dicom, ramp, written):
    with pytest.raises(NotARadiograph, match="colour"):
        read_dicom(make_dicom(ramp, PhotometricInterpretation=written))


@pytest.mark.parametrize(
    ("photometric", "shape", "told"),
    [
        ("MONOCHROME2", "IDENTITY", False), ("MONOCHROME1", "INVERSE", False), ("MONOCHROME2", "inverse", True),
        ("MONOCHROME2", "INVERSE", True), ("MONOCHROME1", "IDENTITY", True), ("MONOCHROME2", "LIN OD", True),
        ("MONOCHROME2", "", False),
    ],
)  # fmt: skip
def test_presentation_lut_shape_is_told_and_not_followed(make_dicom, ramp, photometric, shape, told):
    data = make_dicom(ramp, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    radiograph = read_dicom(data)
    np.testing.assert_array_equal(radiograph.pixels, -ramp.astype(float) if photometric == "MONOCHROME1" else ramp)
    expected = "PresentationLUTShape contradicts PhotometricInterpretation, which was followed"
    assert radiograph.warnings == ((expected,) if told else ())


@pytest.mark.parametrize(
    "modality", ["RTIMAGE", "XC", "ES", "GM", "OP", "OPT", "ECG", "PX", "SM", "rtimage", "XA", "RF", "HC", "DG", "SC"]
)
def test_other_modalities_are_named(make_dicom, ramp, modality):
    with pytest.raises(NotARadiograph, match=f"modality {modality.upper()}"):
        read_dicom(make_dicom(ramp, Modality=modality))


@pytest.mark.parametrize("modality", ["OT", "XR", None])
def test_modalities_that_say_nothing_are_told(make_dicom, ramp, modality):
    assert read_dicom(make_dicom(ramp, Modality=modality)).warnings == ("modality is not stated as radiography",)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"SOPClassUID": SECONDARY_CAPTURE}, "secondary capture"),
        ({"SOPClassUID": f"{SECONDARY_CAPTURE}.2"}, "secondary capture"),
        ({"SOPClassUID": f"{SECONDARY_CAPTURE}.3", "ConversionType": "DF"}, "secondary capture"),
        *(({"ConversionType": kind}, "secondary") for kind in ("WSD", "DV", "DI", "SD", "SI", "DRW", "SYN", "wsd")),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "stored as CT Image Storage"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.1"}, "stored as RT Image Storage"),
        ({"SOPClassUID": f"{SECONDARY_CAPTURE}7.1.4"}, "stored as VL Photographic Image Storage"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.999"}, "stored as an unknown kind of object"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "screen save"),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "Screenshot"]}, "screen save"),
        ({"ImageType": "SCREEN_SAVE"}, "screen save"),
        ({"BurnedInAnnotation": "YES"}, "text burned"),
        ({"BurnedInAnnotation": "yes"}, "text burned"),
        ({"BurnedInAnnotation": "TRUE"}, "text burned"),
        ({"RecognizableVisualFeatures": "YES"}, "recognisable features"),
    ],
)  # fmt: skip
def test_copies_and_texts_are_set_aside(make_dicom, ramp, elements, reason):
    with pytest.raises(NotARadiograph, match=reason):
        read_dicom(make_dicom(ramp, **elements))


def test_secondary_capture_of_the_file_header_counts(make_dicom, ramp):
    data = make_dicom(ramp).replace(f"{DX}\0".encode(), f"{SECONDARY_CAPTURE}\0\0\0".encode(), 1)
    with pytest.raises(NotARadiograph, match="secondary capture"):
        read_dicom(data)


@pytest.mark.parametrize(
    "elements",
    [
        {"SOPClassUID": CR},
        {"SOPClassUID": f"{DX}.1"},
        {"SOPClassUID": "1.3.6.1.4.1.5962.301.9"},
        {"ImageType": ["DERIVED", "PRIMARY"]},
        {"ImageType": ["DERIVED", "SECONDARY"]},
        {"BurnedInAnnotation": "NO", "RecognizableVisualFeatures": "NO"},
    ],
)
def test_radiographs_are_not_taken_for_copies(make_dicom, ramp, elements):
    assert read_dicom(make_dicom(ramp, **elements)).warnings == ()


def test_digitised_film_is_read_and_told(make_dicom, ramp):
    assert read_dicom(make_dicom(ramp, ConversionType="DF")).warnings == (
        "digitised film: its label may stand in the picture",
    )


def test_secondary_capture_is_read_when_asked_for(make_dicom, ramp):
    elements = {"SOPClassUID": SECONDARY_CAPTURE, "ConversionType": "WSD"}
    np.testing.assert_array_equal(read_dicom(make_dicom(ramp, **elements), secondary_capture=True).pixels, ramp)
    for more in ({"ImageType": "SCREEN SAVE"}, {"BurnedInAnnotation": "YES"}, {"PhotometricInterpretation": "RGB"}):
        with pytest.raises(NotARadiograph):
            read_dicom(make_dicom(ramp, **elements, **more), secondary_capture=True)
