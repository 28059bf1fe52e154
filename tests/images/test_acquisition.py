"""Words of makers and hospitals to words of ours; nothing of a cell that is not ours comes through."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raddino.images.acquisition import (
    DETECTORS,
    OTHER,
    POSITIONS,
    SHIFTED,
    parse_detector,
    parse_exposure_index,
    parse_kvp,
    parse_manufacturer,
    parse_model,
    parse_portable,
    parse_position,
    parse_year_band,
    year_band,
)
from raddino.images.devices import MANUFACTURERS, MODELS

PLANTED = ("DOE^JOHN 1961", "Doe John", "JOHN DOE 1961-03-05", "4711-0815", "Müller^Jörg", "=2+2", "x" * 5000, "\0\n\t",
           "1.2.840.113619.2", "DigitalDiagnost DOE^JOHN", "GE of Doe, John", "portable Doe John",
           "ERECT DOE JOHN")  # fmt: skip


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Philips Medical Systems", "Philips"), ("PhilipsMedicalSystems", "Philips"),
        ("ImagingDynamicsCompanyLtd", "Imaging Dynamics"), ("FUJI PHOTO FILM CO. LTD.", "Fujifilm"),
        ("FUJIFILM Corporation", "Fujifilm"), ("GE Healthcare", "GE"), ("GEMS", "GE"), ('"GE Healthcare"', "GE"),
        ("GENERAL ELECTRIC", "GE"), ("SIEMENS", "Siemens"), ("Siemens Healthineers", "Siemens"),
        ("Carestream Health", "Carestream"), ("KODAK", "Carestream"), ("Eastman Kodak Company", "Carestream"),
        ("Agfa", "Agfa"), ("AGFA-GEVAERT", "Agfa"), ("KONICA MINOLTA", "Konica Minolta"), ("TOSHIBA_MEC", "Canon"),
        ("Canon Inc.", "Canon"), ("SAMSUNG ELECTRONICS", "Samsung"), ("SHIMADZU CORPORATION", "Shimadzu"),
        ("HOLOGIC, Inc.", "Hologic"), ("Varian Medical Systems", "Varian"), ("DRGEM Corp.", "DRGEM"),
        ("Vieworks", "Vieworks"), ("Acme X-ray", OTHER), ("GEORGE", OTHER), ("VIDARSSON", OTHER),
        ("1", "coded 1"), ("07", "coded 7"), ("coded 1", "coded 1"), ("other", OTHER), ("123", OTHER), ("", None),
        (None, None), (" \t", None),
    ],
)  # fmt: skip
def test_manufacturers(written, name):
    assert parse_manufacturer(written) == name


def test_every_name_of_ours_is_understood_as_itself():
    assert {name: parse_manufacturer(name) for name in MANUFACTURERS} == {name: name for name in MANUFACTURERS}
    assert {name: parse_model(name) for name in MODELS} == {name: name for name in MODELS}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("digital DIAGNOST", "DigitalDiagnost"), ("DigitalDiagnost VM", "DigitalDiagnost"),
        ("XR220amx", "Optima XR220amx"),
        ("Optima XR220amx", "Optima XR220amx"), ("Mobilett XP", "Mobilett"), ("MobileDaRt Evolution", "MobileDaRt"),
        ("CXDI-401C Wireless", "CXDI"), ("FDR-Go PLUS", "FDR Go"), ("AXIOM Aristos FX", "Axiom Aristos"),
        ("DRX-Revolution", "DRX-Revolution"), ("Cassette Holder Type 9840 500 70201", None), ("", None), (None, None),
        ("Gooseberry FDR", None), ("DR 4000", None), ("MYSIO", None),
    ],
)  # fmt: skip
def test_models(written, name):
    assert parse_model(written) == name


@pytest.mark.parametrize("text", PLANTED)
def test_nothing_of_a_text_is_repeated(text):
    assert parse_manufacturer(text) in {*MANUFACTURERS, OTHER, None}
    assert parse_model(text) in {*MODELS, None}
    assert parse_detector(text) in {*DETECTORS, None}
    assert parse_position(text) in {*POSITIONS, None}
    assert parse_portable(text) in {0.0, 1.0, None}
    assert re.fullmatch(rf"{SHIFTED}|\d{{3}}[05]-\d{{3}}[49]", parse_year_band(text) or SHIFTED)
    assert not isinstance(parse_kvp(text), str)
    assert not isinstance(parse_exposure_index(text), str)


def test_what_comes_out_goes_in_again():
    """A manifest of ours can be prepared again."""
    assert all(parse_position(position) == position for position in POSITIONS)
    assert all(parse_detector(detector) == detector for detector in DETECTORS)
    assert all(parse_year_band(year_band(year)) == year_band(year) for year in range(1960, 2200))
    values = [23, 117, 4711, 0.4, 88_000]
    once = [(parse_kvp(value), parse_exposure_index(value)) for value in values]
    assert once == [(parse_kvp(kvp), parse_exposure_index(index)) for kvp, index in once]


def test_numbers():
    kvps = ["125.000", 109, "70.4", "0", "19", "201", "-125", "nan", "inf", "125,0", "", None, "DOE"]
    assert [parse_kvp(kvp) for kvp in kvps] == [125, 109, 70, *[None] * 10]
    found = [parse_exposure_index(value) for value in ("1547", "204", 0.99, "1e5", 100_001, "4711", -3, "x", None)]
    assert found == [1500, 200, None, 100_000, None, 4700, None, None, None]


def test_two_digits_of_an_exposure_index_are_within_five_percent_of_it():
    values = np.geomspace(1, 99_999, 1000)
    assert np.max(np.abs([parse_exposure_index(value) / value - 1 for value in values])) <= 0.05


@pytest.mark.parametrize(
    ("written", "band"),
    [
        ("20170314", "2015-2019"), ("2014", "2010-2014"), (2015.0, "2015-2019"), ("2019-12-31", "2015-2019"),
        ("2020-01-01 10:12:13", "2020-2024"), ("14.03.2017", "2015-2019"), ("3/14/2017", "2015-2019"),
        ("January 22, 2020", "2020-2024"), ("21800520", SHIFTED), ("2100", SHIFTED), ("2099", "2095-2099"),
        ("9999", SHIFTED),
        ("19010101", None), ("1959", None), ("1960", "1960-1964"), ("0000", None), ("17", None), ("5", None),
        ("14.03.17", None), ("last year", None), ("", None), (None, None), ("2011-2015", None), ("2010-2015", None),
        ("2010-2014", "2010-2014"), ("shifted", SHIFTED), ("20", None), ("4711-0815-2017", None),
    ],
)  # fmt: skip
def test_years(written, band):
    assert parse_year_band(written) == band


@pytest.mark.parametrize(
    ("texts", "model", "portable"),
    [
        (["CHEST (PORTABLE AP)"], None, 1), (["CHEST (PA AND LAT)"], None, None), (["Tórax portátil"], None, 1),
        (["thorax au lit"], None, 1), (["Bettaufnahme Thorax"], None, 1), (["torace a letto"], None, 1),
        (["XR CHEST BEDSIDE"], None, 1), (["bed-side chest"], None, 1), (["Mobile"], None, 1),
        (["Mobile, AL"], None, None),
        (["chest non-portable"], None, 0), (["not portable"], None, 0), (["upright at wall stand"], None, 0),
        (["CHEST PORT PLACEMENT"], None, None), (["supportable"], None, None), ([""], None, None), ([], None, None),
        ([""], "MobileDiagnost", 1), ([""], "DigitalDiagnost", 0), ([""], "CXDI", None),
        (["portable chest"], "DigitalDiagnost", 1), ([None, 17, "PORTABLE"], None, 1),
    ],
)  # fmt: skip
def test_portable(texts, model, portable):
    assert parse_portable(*texts, model=model) == portable


@pytest.mark.parametrize(
    ("texts", "position"),
    [
        (["HFS"], "SUPINE"), (["FFP"], "PRONE"), (["HFDR"], "DECUBITUS"), (["ERECT"], "ERECT"),
        (["SEMIERECT"], "SEMI-ERECT"), (["semi-erect"], "SEMI-ERECT"), (["recumbent"], "RECUMBENT"),
        (["recumbent supine"], "SUPINE"), (["recumbent", "AP Supine"], "SUPINE"), (["erect sitting"], "ERECT"),
        (["left lateral decubitus"], "DECUBITUS"), (["LLD"], "DECUBITUS"), (["RLDEC"], "DECUBITUS"),
        (["dorsal decubitus"], "SUPINE"), (["ventral decubitus"], "PRONE"), (["decúbito supino"], "SUPINE"),
        (["decúbito lateral izquierdo"], "DECUBITUS"), (["Linksseitenlage"], "DECUBITUS"), (["liegend"], "RECUMBENT"),
        (["thorax stehend"], "ERECT"), (["bipedestación"], "ERECT"), (["debout"], "ERECT"), (["couché"], "RECUMBENT"),
        (["upright"], "ERECT"), (["supine and upright"], None), (["long standing cough"], None),
        (["prone to infection"], None),
        (["low lying diaphragm"], None), (["supinated"], None), (["PA"], None), ([""], None), ([], None),
        ([None], None),
        (["HFSX"], None), (["HF"], None), (["supine", "erect"], "SUPINE"),
    ],
)  # fmt: skip
def test_positions(texts, position):
    assert parse_position(*texts) == position


def test_mobile_units_are_mobile():
    """Names that say it themselves."""
    named = {name: mobile for name, (_, mobile) in MODELS.items() if re.search("mobil|amx|mobi", name, re.IGNORECASE)}
    assert len(named) > 5
    assert all(named.values())


def test_headers_of_open_i():
    """What 7,469 real headers say (the table that torchxrayvision carries), counted here and there."""
    found = find_spec("torchxrayvision")
    if found is None:
        pytest.skip("torchxrayvision is not installed")
    table = pd.read_csv(
        Path(found.submodule_search_locations[0]) / "data/nlmcxr_dicom_metadata.csv.gz",
        dtype=str, usecols=["KVP", "Patient Position", "Detector Type"], low_memory=False,
    )  # fmt: skip
    positions = table["Patient Position"].dropna().map(parse_position)
    assert positions.value_counts().to_dict() == {"ERECT": 38, "SEMI-ERECT": 17, "SUPINE": 1}
    assert table["Detector Type"].dropna().map(parse_detector).value_counts().to_dict() == {"SCINTILLATOR": 122}
    numbers = pd.to_numeric(table["KVP"])
    kvps = table["KVP"].dropna().map(parse_kvp).dropna()
    assert len(kvps) == numbers.between(20, 200).sum() > 3000
    assert kvps.mean() == pytest.approx(numbers[numbers.between(20, 200)].mean(), abs=0.5)
