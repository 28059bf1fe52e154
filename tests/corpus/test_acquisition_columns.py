"""How images were taken: from headers and manifests to columns, and never a word that anybody wrote."""

import json
import logging
import tarfile
import warnings

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from acquisition_columns import TOLD, with_acquisition
from corpus.test_items import dicom, picture
from corpus.test_prepare import edit, every_byte
from raddino.corpus.combine import combine
from raddino.corpus.dataset import Corpus
from raddino.corpus.manifest import read_items
from raddino.corpus.prepare import prepare, summary
from raddino.corpus.seal import fingerprint
from raddino.errors import RaddinoError
from raddino.files import sha256, write_json
from raddino.images.acquisition import ACQUISITION
from raddino.images.dicom import DESCRIPTIONS
from raddino.images.phi import keyed_hash

MACHINE = {
    "Manufacturer": "GE Healthcare", "ManufacturerModelName": "Optima XR220amx", "StationName": "ICU-3",
    "DetectorType": "SCINTILLATOR", "KVP": "90", "ExposureIndex": "1234", "StudyDate": "20170314",
    "PatientPosition": "SEMIERECT",
}  # fmt: skip
TEXTS = ("Manufacturer", "ManufacturerModelName", "StationName", "DetectorType", "PatientPosition", "ViewPosition",
         *DESCRIPTIONS)  # fmt: skip


def test_headers_become_columns(tmp_path, key):
    for n in range(3):
        dicom(tmp_path / f"in/{n}.dcm", n, f"P{n}", **MACHINE)
    corpus = prepare(tmp_path / "in", tmp_path / "corpus", workers=1)
    row = corpus.manifest.iloc[0]
    assert row[list(ACQUISITION)].to_dict() == {
        "manufacturer": "GE", "model": "Optima XR220amx", "station": keyed_hash(key, "station", "", "icu-3"),
        "detector": "SCINTILLATOR", "kvp": 90, "exposure_index": 1200, "portable": 1, "year_band": "2015-2019",
        "patient_position": "SEMI-ERECT",
    }  # fmt: skip
    assert corpus.info["acquisition"] == dict.fromkeys(ACQUISITION, 3)
    assert len(corpus.rows(where="manufacturer == 'GE' and portable == 1 and kvp < 100")) == 3


def test_a_header_that_says_nothing_leaves_the_columns_empty(tmp_path):
    dicom(tmp_path / "in/0.dcm", 0, "P0", StationName="ANONYMOUS", ManufacturerModelName="-", KVP="0")
    corpus = prepare(tmp_path / "in", tmp_path / "corpus", workers=1)
    assert corpus.manifest[list(ACQUISITION)].isna().all(axis=None)
    assert corpus.info["acquisition"] == {}
    assert corpus.manifest["warnings"].isna().all()


@pytest.mark.parametrize("keyword", TEXTS)
def test_nothing_planted_in_an_element_gets_through(tmp_path, keyword, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    planted = "ZQDOE^ZQJOHN 19610305 ZQ4711"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for n, words in enumerate((planted, f"portable {planted} erect", f"GE DigitalDiagnost {planted}")):
            dicom(tmp_path / f"in/{n}.dcm", n, f"P{n}", **{keyword: words})
        dicom(tmp_path / "in/3.dcm", 3, "P3", **{keyword: planted, "Modality": "CT"})
        heard.clear()
        caplog.clear()
        capfd.readouterr()
        corpus = prepare(tmp_path / "in", tmp_path / "corpus", workers=1)
    assert len(corpus) == 3
    said = "".join(capfd.readouterr()) + caplog.text + "".join(str(one.message) for one in heard) + summary(corpus)
    written = every_byte(corpus.path) + said.encode()
    parts = ("ZQDOE", "ZQJOHN", "19610305", "ZQ4711")
    assert not [word for word in parts if word.lower().encode() in written.lower()]


def test_nothing_planted_in_a_manifest_gets_through(images, tmp_path, capfd):
    planted = "ZQDOE^ZQJOHN 19610305"
    edit(images, **{name: [planted, f"{planted} portable erect", *[None] * 38] for name in ACQUISITION})
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    written = every_byte(corpus.path) + ("".join(capfd.readouterr()) + summary(corpus)).lower().encode()
    assert not [word for word in (b"zqdoe", b"zqjohn", b"19610305") if word in written.lower()]
    assert corpus.manifest["station"].notna().sum() == 2
    assert corpus.manifest["model"].str.fullmatch("[0-9a-f]{20}").sum() == 2


def test_every_shard_says_what_the_manifest_says(tmp_path):
    dicom(tmp_path / "in/0.dcm", 0, "P0", **MACHINE)
    corpus = prepare(tmp_path / "in", tmp_path / "corpus", workers=1)
    with tarfile.open(next((corpus.path / "shards").iterdir())) as tar:
        member = next(name for name in tar.getnames() if name.endswith(".json"))
        facts = json.loads(tar.extractfile(member).read())
    assert {name: facts[name] for name in ACQUISITION} == corpus.manifest.iloc[0][list(ACQUISITION)].to_dict()


def test_stations_are_those_of_a_namespace_and_models_are_not(tmp_path):
    rows = []
    for n, (space, station, model) in enumerate(
        [("east", "CR1", "Roentgen 9"), ("west", "CR1", "roentgen  9"), ("east", " cr1", "X"), ("east", "CR2", "")]
    ):
        dicom(tmp_path / f"in/{n}.dcm", n, f"P{n}", StationName=station, ManufacturerModelName=model)
        rows.append({"path": f"{n}.dcm", "namespace": space})
    pd.DataFrame(rows).to_csv(tmp_path / "in/manifest.csv", index=False)
    by_header = prepare(tmp_path / "in", tmp_path / "corpus", workers=1).manifest
    station, model = (by_header[name].tolist() for name in ("station", "model"))
    assert station[0] == station[2]
    assert len({*station}) == 3
    assert model[0] == model[1] != model[2]
    assert model[3] is None
    assert all(len(one) == 20 for one in station)
    stations, models = ["CR1", "CR1", "cr1", "CR2"], ["ROENTGEN 9", "Roentgen 9", "x", None]
    table = pd.DataFrame(rows).assign(StationName=stations, ManufacturerModelName=models)
    table.to_csv(tmp_path / "in/manifest.csv", index=False)
    by_manifest = prepare(tmp_path / "in", tmp_path / "again", workers=1).manifest
    assert by_manifest["station"].tolist() == station, "the same station, wherever it was read"
    assert by_manifest["model"].tolist() == model
    other = prepare(tmp_path / "in", tmp_path / "other", workers=1, key="another key, also long").manifest
    assert not set(other["station"]) & set(station)


def test_columns_of_a_manifest(tmp_path):
    columns = {
        "Manufacturer": ["Philips Medical", "Acme", None],
        "Manufacturer Model Name": ["DigitalDiagnost", "Roentgen 9", ""],
        "StationName": ["a", "", "b"], "Detector Type": ["direct", "?", None], "kVp": ["125,0", "9000", "81"],
        "ExposureIndex": [1547, None, 0], "portable": ["yes", "FALSE", "perhaps"],
        "Study Date": ["2014-09-15", "20211231", "14.03.17"], "PatientPosition": ["HFS", "upright", "?"],
    }  # fmt: skip
    for name in "abc":
        picture(tmp_path / f"{name}.png", ord(name))
    pd.DataFrame({"path": ["a.png", "b.png", "c.png"], **columns}).to_csv(tmp_path / "manifest.csv", index=False)
    table, _ = read_items(tmp_path)
    found = table[list(ACQUISITION)].astype(object).where(table[list(ACQUISITION)].notna(), None).to_dict("list")
    assert found == {
        "manufacturer": ["Philips", "other", None], "model": ["DigitalDiagnost", "Roentgen 9", None],
        "station": ["a", None, "b"], "detector": ["DIRECT", None, None], "kvp": [125, None, 81],
        "exposure_index": [1500, None, None], "portable": [1, 0, None],
        "year_band": ["2010-2014", "2020-2024", None], "patient_position": ["SUPINE", "ERECT", None],
    }  # fmt: skip
    notes = table.attrs["notes"]
    assert "1 cell of column 'kVp' taken as empty: not kV from 20 to 200" in notes
    assert "1 cell of column 'Study Date' taken as empty: not a date or year from 1960 on" in notes
    left_out, _ = read_items(tmp_path, columns={"year_band": "", "station": ""})
    assert left_out[["year_band", "station"]].isna().all(axis=None)


def test_the_manifest_comes_before_the_header(tmp_path):
    for n in range(2):
        dicom(tmp_path / f"in/{n}.dcm", n, f"P{n}", **MACHINE)
    told = {"path": ["0.dcm", "1.dcm"], "manufacturer": ["Philips", None], "model": ["Ysio", None], "kvp": [70, None],
            "station": ["S", None], "portable": [0, None], "year_band": [1999, None]}  # fmt: skip
    pd.DataFrame(told).to_csv(tmp_path / "in/manifest.csv", index=False)
    table = prepare(tmp_path / "in", tmp_path / "corpus", workers=1).manifest
    assert table["manufacturer"].tolist() == ["Philips", "GE"]
    assert table["model"].tolist() == ["Ysio", "Optima XR220amx"]
    assert table["kvp"].tolist() == [70, 90]
    assert table["portable"].tolist() == [0, 1]
    assert table["year_band"].tolist() == ["1995-1999", "2015-2019"]
    assert table["station"].nunique() == 2


def test_synthetic_machines_keep_their_names(images, tmp_path):
    edit(images, synthetic=True, id=[f"phantom-{n}" for n in range(40)], model="Detector-A", station="Room 1!")
    manifest = prepare(images, tmp_path / "corpus", workers=1).manifest
    assert set(manifest["model"]) == {"Detector-A"}
    assert manifest["station"].str.fullmatch("[0-9a-f]{20}").all(), "no plain name: it is not one of letters and signs"


def test_the_fingerprint_follows_what_is_known(images, tmp_path):
    edit(images, study_date=None)
    plain = prepare(images, tmp_path / "plain", workers=1)
    edit(images, kvp=[125, *[None] * 39])
    told = prepare(images, tmp_path / "told", workers=1)
    edit(images, kvp=[124, *[None] * 39])
    other = prepare(images, tmp_path / "other", workers=1)
    assert len({plain.fingerprint, told.fingerprint, other.fingerprint}) == 3
    older = plain.manifest.drop(columns=list(ACQUISITION))
    assert fingerprint(older) == plain.fingerprint, "a corpus of which nothing is known is the one that it was"


def without_columns(corpus: Corpus) -> Corpus:
    """The corpus as it was written before there were these columns."""
    file = corpus.path / "manifest.parquet"
    pd.read_parquet(file).drop(columns=list(ACQUISITION)).to_parquet(file, index=False)
    info = {name: value for name, value in corpus.info.items() if name != "acquisition"}
    write_json(
        corpus.path / "corpus.json",
        {**info, "manifest_bytes": file.stat().st_size, "manifest_sha256": sha256(file)},
    )
    return Corpus.open(corpus.path)


def test_older_corpora_open_and_join_newer_ones(images, tmp_path):
    older = without_columns(prepare(images, tmp_path / "older", workers=1))
    assert not set(ACQUISITION) & set(older.manifest)
    np.testing.assert_array_equal(older.read(3).shape, (60, 50))
    for n in range(2):
        dicom(tmp_path / f"in/{n}.dcm", n, f"P{n}", **MACHINE)
    newer = prepare(tmp_path / "in", tmp_path / "newer", workers=1, source="other", namespace="other")
    for parts in ([older, newer], [newer, older]):
        both = combine(parts).manifest
        known = both["source"] == "other"
        assert both.loc[known, "manufacturer"].tolist() == ["GE", "GE"]
        assert both.loc[~known, list(ACQUISITION)].isna().all(axis=None)
        assert {None} == set(both.loc[~known, "station"])
        assert both["kvp"].dtype == np.float64


@pytest.mark.parametrize(("column", "value"), [("manufacturer", 7.0), ("kvp", "125"), ("portable", "yes")])
def test_columns_of_another_kind_are_refused(images, tmp_path, column, value):
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    file = corpus.path / "manifest.parquet"
    pd.read_parquet(file).assign(**{column: value}).to_parquet(file, index=False)
    write_json(
        corpus.path / "corpus.json",
        {**corpus.info, "manifest_bytes": file.stat().st_size, "manifest_sha256": sha256(file)},
    )
    with pytest.raises(RaddinoError, match=f"in column '{column}', not"):
        Corpus.open(corpus.path)


def test_a_manifest_of_ours_can_be_prepared_again(images, tmp_path):
    """Every word that comes out is understood; hashes are hashed again."""
    for name, column in with_acquisition(pd.read_csv(images / "manifest.csv"))[list(TOLD)].items():
        edit(images, **{name: column})
    once = prepare(images, tmp_path / "once", workers=1).manifest
    names = [name for name in ACQUISITION if name not in ("model", "station")]
    edit(images, **{name: once[name] for name in ACQUISITION})
    again = prepare(images, tmp_path / "again", workers=1)
    assert_frame_equal(once[names], again.manifest[names])
    assert again.manifest["station"].nunique() == once["station"].nunique() == 2
    assert not [note for note in again.info["notes"] if "taken as empty" in note]
