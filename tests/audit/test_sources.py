"""What identifies in sources: every text of a header, names, cells, and nothing that is told on purpose."""

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image, PngImagePlugin

from audit.planted import plant, strings_of, value
from raddino.audit.needles import Needles
from raddino.audit.sources import gather, read_strings
from raddino.errors import ConfigError, RaddinoError
from raddino.sample.generate import sample


def gathered(*sources):
    needles = Needles()
    gather(sources, needles)
    return {one.text: one.kind for one in needles}


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    sample(folder, 1, size=48, workers=1, format="dicom")
    file = next((folder / "images").glob("*.dcm"))
    image = pydicom.dcmread(file)
    with pydicom.config.disable_value_validation():
        plant(image, 0, every=True)
        image.save_as(folder / "zqward.dcm", enforce_file_format=True)
    return folder / "zqward.dcm"


def test_every_text_of_a_header(header):
    found, planted = gathered(header), set(strings_of(pydicom.dcmread(header), 0))
    assert len(planted) > 3500
    missing = {one for one in planted - found.keys() if len(one) > 3 and "zq" in one.lower()}
    assert missing - {value("SH", 0x00020013, 0)} == set()
    assert found["zqward"] == "file name"
    kinds = set(found.values())
    assert {"PatientName", "OperatorsName", "private element (0011,1001)", "DICOM preamble"} <= kinds


def test_what_is_told_on_purpose_is_no_identifier(header):
    image = pydicom.dcmread(header)
    image.ViewPosition, image.BodyPartExamined = "ZQVIEW77", "ZQBODY77"
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "51185008", "SCT", "Zqthorax zqregion"
    own = pydicom.Dataset()
    own.CodeValue, own.CodingSchemeDesignator, own.CodeMeaning = "ZQ51185008", "99ZQ", "Zqjane"
    image.AnatomicRegionSequence = [code, own]
    image.save_as(header.with_name("told.dcm"))
    found = gathered(header.with_name("told.dcm"))
    for told in ("ZQVIEW77", "ZQBODY77", "51185008", "Zqthorax zqregion", "1.2.840.10008.5.1.4.1.1.1.1"):
        assert told not in found
    assert "Zqjane" in found
    assert "ZQ51185008" in found


def test_cells_of_a_manifest_and_the_files_it_names(tmp_path):
    (tmp_path / "zqfolder").mkdir()
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "zqcomment 77")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "zqfolder" / "zqfile.png", pnginfo=info)
    pd.DataFrame(
        {
            "path": ["zqfolder/zqfile.png"], "patient_id": ["zqpatient"], "study": ["zqstudy"],
            "operator": ["zqoperator"], "when": ["1901-02-03"], "source": ["zqsource"], "licence": ["zqlicence"], 
            "report": ["zqreport is clear"],
            "label_edema": [1], "sex": ["F"], "phone": [55019000111],
        }
    ).to_csv(tmp_path / "zqtable.csv", index=False)  # fmt: skip
    found = gathered(tmp_path / "zqtable.csv")
    for text, kind in {
        "zqpatient": "column patient_id", "zqstudy": "column study", "zqoperator": "column operator",
        "03.02.1901": "column when", "zqfile": "file name", "zqfolder": "file name", "zqtable": "file name",
        "zqcomment 77": "PNG Comment", "55019000111": "column phone",
    }.items():  # fmt: skip
        assert found[text] == kind or text in ("zqfile", "zqfolder"), text
    for told in ("zqsource", "zqlicence", "zqreport is clear"):
        assert told not in found


def test_folders_hold_manifests_and_files_that_are_neither(tmp_path):
    pd.DataFrame({"who": ["zqjane77"]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "zqnotes.bin").write_bytes(b"\0\1")
    needles = Needles()
    assert gather([tmp_path], needles) == (2, 1)
    assert {"zqjane77", "zqnotes.bin", "zqnotes"} <= {one.text for one in needles}


def test_sources_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="leads to no file"):
        gathered(tmp_path / "absent")
    with pytest.raises(RaddinoError, match="cannot be read"):
        read_strings(tmp_path / "absent.txt", Needles())
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(RaddinoError, match="not text in UTF-8"):
        read_strings(tmp_path / "latin.txt", Needles())
