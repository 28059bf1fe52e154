"""What every data set has in common: strict options, complete messages, a listing, closed images."""

import pandas as pd
import pytest

from raddino.corpus.prepare import prepare, summary
from raddino.corpus.sources import FILES, SOURCES, closed_sources, describe_sources, split_spec
from raddino.corpus.sources.base import Incomplete, cut_validation, read_table
from raddino.errors import ConfigError, RaddinoError
from raddino.look.shown import showable

NAMES = ["brax", "candid-ptx", "chexmask", "chexpert", "cohen", "folder", "iu-xray", "jsrt", "mimic-cxr",
         "mimic-cxr-jpg", "montgomery", "nih", "padchest", "rsna-pneumonia", "shenzhen", "siim-acr", "vindr-cxr",
         "vindr-ribcxr"]  # fmt: skip


def test_all_are_listed_with_what_they_need():
    assert sorted(SOURCES) == NAMES
    assert len(FILES) == 17
    text = describe_sources()
    for name in NAMES:
        source = SOURCES[name]
        assert name in text
        assert source.home in text
        assert source.obtain in text
        for option in source.options.model_fields:
            assert f"{option}=" in text
        if name != "folder":
            assert "http" in source.home
            assert source.documented


@pytest.mark.parametrize("name", [name for name in NAMES if name != "folder"])
def test_an_empty_folder_says_everything_that_is_missing(name, tmp_path):
    source = SOURCES[name]
    with pytest.raises(RaddinoError, match=f"{name} in .*not found") as error:
        source.read(tmp_path)
    said = str(error.value)
    assert "\n" not in said
    assert source.obtain in said
    needed = [entry for entry in source.layout if "/ … " not in entry and not entry.endswith("/")]
    for entry in needed:
        assert entry.split("|")[0] in said


@pytest.mark.parametrize("name", NAMES)
def test_no_folder_and_wrong_options_are_one_line(name, tmp_path):
    with pytest.raises(RaddinoError, match="is no folder"):
        SOURCES[name].read(tmp_path / "absent")
    with pytest.raises(ConfigError, match="unknown config key 'colour'"):
        SOURCES[name].read(tmp_path, colour="red")


def test_patients_of_data_sets_are_told_apart_where_they_are_not_the_same():
    spaces = {name: SOURCES[name].namespace for name in NAMES if SOURCES[name].namespace is not None}
    assert spaces == {"folder": "", "rsna-pneumonia": "nih", "siim-acr": "nih"}
    assert SOURCES["mimic-cxr"].record == SOURCES["mimic-cxr-jpg"].record == "mimic-cxr"


def test_a_folder_holds_the_users_own_patients(tmp_path, draw, table):
    draw(tmp_path / "data/1.dcm", PatientID="7")
    table(tmp_path / "data/own.csv", [{"path": "1.dcm", "patient": "7"}])
    own = prepare(tmp_path / "data/own.csv", tmp_path / "own", workers=1)
    by_header = prepare(f"folder:{tmp_path / 'data'}", tmp_path / "header", workers=1)
    assert by_header.manifest["patient"].tolist() == own.manifest["patient"].tolist()
    west = prepare(f"folder:{tmp_path / 'data'}", tmp_path / "west", workers=1, namespace="west")
    assert west.manifest["patient"][0] != own.manifest["patient"][0]
    assert list(west.info["namespaces"]) == ["west"]


def test_specs(tmp_path, monkeypatch):
    source, place = split_spec("nih:/data/nih")
    assert (source.name, str(place)) == ("nih", "/data/nih")
    assert split_spec("/data/nih") is None
    assert split_spec("C:/data/nih") is None
    assert split_spec("night:shift/*.png") is None
    with pytest.raises(RaddinoError, match=r"unknown source 'nhi'. Did you mean 'nih'"):
        split_spec("nhi:/data/nih")
    with pytest.raises(ConfigError, match="nih:FOLDER"):
        split_spec("nih")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nih").mkdir()
    assert split_spec("nih") is None
    with pytest.raises(ConfigError, match="source is given twice"):
        prepare("nih:x", tmp_path / "out", source="other")
    with pytest.raises(ConfigError, match="names no source"):
        prepare(tmp_path / "nih", tmp_path / "out", source_options={"readers": "any"})


def test_tables_are_checked_for_all_columns(tmp_path):
    (tmp_path / "t.csv").write_text("a, b ,c\n1, -1,\n 2,x,y\n", encoding="utf-8")
    more = read_table(tmp_path, "t.csv", ["b"], ["a", "nowhere"])
    assert list(more) == ["b", "a", "nowhere"]
    assert more["a"].notna().any()
    assert {None} == set(more["nowhere"])
    found = read_table(tmp_path, "t.csv", ["b", "c|d"])
    assert found.to_dict("list") == {"b": ["-1", "x"], "c": [None, "y"]}
    with pytest.raises(Incomplete, match=r"t.csv lacks the column\(s\) d or e, f$"):
        read_table(tmp_path, "t.csv", ["a", "d|e", "f"])
    (tmp_path / "t.csv").write_text("a,b\n", encoding="utf-8")
    with pytest.raises(Incomplete, match="has no rows"):
        read_table(tmp_path, "t.csv", ["a"])
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Incomplete, match="cannot be read"):
        read_table(tmp_path, "t.csv", ["a"])
    with pytest.raises(Incomplete, match=r"not found: u.csv or v.csv"):
        read_table(tmp_path, "u.csv|v.csv", ["a"])


def test_validation_is_cut_by_patient_from_train_alone():
    patients = pd.Series([str(n // 2) for n in range(4000)])
    split = pd.Series(["train"] * 3000 + ["test"] * 1000)
    cut = cut_validation(split, patients)
    assert (cut[3000:] == "test").all()
    assert cut[:3000].groupby(patients[:3000]).nunique().max() == 1
    assert (cut == "val").sum() / 3000 == pytest.approx(0.1, abs=0.03)
    few = cut_validation(split[:1000], patients[:1000])
    assert few.equals(cut[:1000])
    assert cut_validation(split[3000:], patients[3000:]).eq("test").all()


def test_images_of_closed_sources_are_never_shown(tmp_path, draw, table):
    assert closed_sources() == {
        "vindr-cxr",
        "candid-ptx",
        "chexpert",
        "mimic-cxr",
        "padchest",
        "brax",
        "vindr-ribcxr",
        "jsrt",
    }
    sources = ["nih", "vindr-cxr", "chexpert", "mimic-cxr", "padchest", "brax", "candid-ptx"]
    rows = [
        {"path": draw(tmp_path / f"in/{n}.png").name, "patient": n, "source": name} for n, name in enumerate(sources)
    ]
    table(tmp_path / "in/manifest.csv", rows)
    corpus = prepare(tmp_path / "in", tmp_path / "corpus", workers=1)
    assert corpus.manifest["source"].iloc[showable(corpus)].tolist() == ["nih"]


def test_a_fraction_of_patients_is_packed_and_nested(tmp_path, draw):
    for n in range(80):
        draw(tmp_path / f"data/case{n // 2}/{n}.png")
    found = {}
    for fraction in (0.2, 0.5):
        corpus = prepare(f"folder:{tmp_path / 'data'}", tmp_path / str(fraction), workers=1, fraction=fraction,
                         source_options={"patients": "folder"})  # fmt: skip
        assert corpus.info["fraction"] == fraction
        assert corpus.manifest["patient"].value_counts().eq(2).all()
        found[fraction] = set(corpus.manifest["id"])
    assert found[0.2] < found[0.5]
    assert 0 < len(found[0.2]) < len(found[0.5]) < 80


def test_where_and_columns_apply_to_a_source(tmp_path, draw):
    for n in range(6):
        draw(tmp_path / f"data/{n}.png")
    corpus = prepare(f"folder:{tmp_path / 'data'}", tmp_path / "corpus", workers=1, where="id > '2.png'")
    assert len(corpus) == 3
    assert "3 images of 3 patients" in summary(corpus)
    with pytest.raises(RaddinoError, match="no row of"):
        prepare(f"folder:{tmp_path / 'data'}", tmp_path / "none", workers=1, where="id > 'z'")
