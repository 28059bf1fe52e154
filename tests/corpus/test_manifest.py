"""Manifests of other people: recognised names, mappings, paths, labels, and what is said of the rest."""

import os
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pydicom
import pytest

from raddino.corpus.manifest import read_items
from raddino.corpus.prepare import prepare, summary
from raddino.errors import ConfigError, RaddinoError
from raddino.sample.generate import sample


def write(folder, name="manifest.csv", **columns):
    (folder / "a.png").write_bytes(b"1")
    (folder / "b.png").write_bytes(b"2")
    path = folder / name
    table = pd.DataFrame(columns)
    table.to_parquet(path) if name.endswith(".parquet") else table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["manifest.csv", "table.parquet"])
def test_obvious_names_are_recognised(tmp_path, name):
    path = write(
        tmp_path, name,
        **{
            "Image Path": ["a.png", "b.png"], "Subject_ID": [7.0, 8.0], "Patient Gender": ["male", "F"],
            "Patient Age": [50, 61], "View Position": ["AP", "LL"], "subset": ["Training", "valid"],
            "Finding Labels": ["Edema", "No Finding"], "dataset": ["x", "x"], "license": ["MIT", None],
        },
    )  # fmt: skip
    table, _ = read_items(path)
    assert table["file"].tolist() == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert table["patient"].tolist() == ["7", "8"]
    assert table["sex"].tolist() == ["M", "F"]
    assert table["age"].tolist() == [50, 61]
    assert table["view"].tolist() == ["AP", "LATERAL"]
    assert table["split"].tolist() == ["train", "val"]
    assert table["label_edema"].tolist() == [1, 0]
    assert table["licence"].tolist() == ["MIT", None]


def test_identifiers_stay_what_they_are(tmp_path):
    path = write(tmp_path, path=["a.png", "b.png"], x=[1, 2])
    path.write_text(
        "path,patient_id\na.png,007\nb.png,\na.png,123456789012345678\nb.png,123456789012345679\n", encoding="utf-8"
    )
    assert read_items(path)[0]["patient"].tolist() == [
        "007",
        None,
        "123456789012345678",
        "123456789012345679",
    ]


def test_mapping_wins_and_can_leave_out(tmp_path):
    path = write(tmp_path, path=["a.png", "b.png"], patient_id=["p", "q"], MRN=["r", "s"], covid19=[1, 0], age=[3, 4])
    table, _ = read_items(path, columns={"patient": "MRN", "label_covid": "covid19", "age": ""})
    assert table["patient"].tolist() == ["r", "s"]
    assert table["label_covid"].tolist() == [1, 0]
    assert table["age"].isna().all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pateint": "MRN"}, "Did you mean 'patient'"),
        ({"patient": "MNR"}, "Did you mean 'MRN'"),
        ({"label_x": "path"}, "taken for a label"),
        ({"mask_" + "x" * 50: "MRN"}, "not one of ours"),
        ({"path": ""}, "no column of image paths"),
    ],
)
def test_wrong_mapping_is_one_line(tmp_path, columns, message):
    path = write(tmp_path, path=["a.png", "b.png"], MRN=["r", "s"])
    with pytest.raises(ConfigError, match=message) as error:
        read_items(path, columns=columns)
    assert "\n" not in str(error.value)


def test_paths_may_be_relative_to_a_parent(tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    path = write(tmp_path, path=["a.png", "b.png"]).rename(folder / "task.csv")
    assert read_items(path)[0]["file"].tolist() == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


def test_paths_that_lead_nowhere_are_said_without_a_name_of_a_person(tmp_path):
    path = write(tmp_path, path=["Doe_Jane/19800101/a.png", "Doe_Jane/19800101/b.png"])
    with pytest.raises(RaddinoError, match=r"none of the first 2 paths .* …/…/….png.* relative to") as error:
        read_items(path)
    assert "Doe" not in str(error.value)
    assert "1980" not in str(error.value)
    with pytest.raises(RaddinoError, match="in place of the backslashes"):
        read_items(write(tmp_path, path=["x\\a.png"]))


def test_an_impossible_path_is_no_reason_to_stop(tmp_path):
    table, _ = read_items(write(tmp_path, path=["x" * 5000, "a.png"]))
    assert table["file"].tolist()[1] == str(tmp_path / "a.png")


def test_another_encoding_is_said(tmp_path):
    path = write(tmp_path, path=["a.png", "b.png"])
    path.write_bytes(path.read_bytes() + b"M\xfcller")
    with pytest.raises(RaddinoError, match="not text in UTF-8"):
        read_items(path)


def test_only_columns_of_mask_files_are_masks(tmp_path):
    path = write(
        tmp_path, path=["a.png", "b.png"], mask_lungs=["m.png", None], mask_lungs_kind=["by hand", None],
        mask_multi=["n.tif", "o.TIF"], mask_multi_classes=["bits:a,b", "bits:a,b"],
    )  # fmt: skip
    table, classes = read_items(path)
    assert [name for name in table if name.startswith("mask_")] == ["mask_lungs", "mask_multi"]
    assert classes == {"multi": "bits:a,b"}


def test_how_masks_are_drawn_is_kept_by_source(tmp_path):
    given = {"path": ["a.png", "b.png"] * 2 + ["a.png"], "source": ["a", "a", "b", "b", "c"]}
    said = {"mask_lungs_convention": ["with", "with", "without", None, None], "mask_heart_convention": [None] * 5}
    path = write(tmp_path, **given, mask_lungs=["m.png"] * 5, mask_heart=["h.png"] * 5, **said)
    table, _ = read_items(path)
    assert [name for name in table if name.startswith("mask_")] == ["mask_lungs", "mask_heart"]
    assert table.attrs["conventions"] == {"lungs": {"a": ["with"], "b": ["without"], "c": []}}
    assert "conventions" not in read_items(write(tmp_path, **given))[0].attrs


def test_masks_may_be_codes_and_unions(tmp_path):
    path = write(
        tmp_path, path=["a.png", "b.png"], mask_ptx=["gaps:4x4:1 2", "empty:"],
        mask_lungs=["union:left.gif|right.gif", None], mask_kind=["gaps", "by hand"],
    )  # fmt: skip
    table, _ = read_items(path)
    assert [name for name in table if name.startswith("mask_")] == ["mask_ptx", "mask_lungs"]
    assert table["mask_ptx"].tolist() == [("gaps:4x4:1 2",), ("empty:",)]
    assert table["mask_lungs"].tolist() == [(str(tmp_path / "left.gif"), str(tmp_path / "right.gif")), None]


def test_what_stands_around_a_report(tmp_path):
    path = write(
        tmp_path, path=["a.png", "b.png"], findings=["Clear.", None], Impression=["Normal.", None],
        indication=["Cough", "007"], comparison=[None, None], study_order=[0, "next"],
    )  # fmt: skip
    table, _ = read_items(path)
    assert table["report"].tolist() == ["Clear.", None]
    assert table["impression"].tolist() == ["Normal.", None]
    assert table["comparison"].isna().all()
    assert table["study_order"].tolist() == [0, None]
    assert read_items(path, columns={"impression": ""})[0]["impression"].isna().all()


def test_numbers_win_over_listed_labels(tmp_path):
    path = write(
        tmp_path, path=["a.png", "b.png"], source=["nih", "nih"], labels=["Edema", "Edema"],
        nih_Edema=[0, None], nih_Hernia=[1, -1], nih_notes=[0, 1],
    )  # fmt: skip
    table, _ = read_items(path)
    assert table["label_edema"].tolist() == [0, 1]
    assert table["label_hernia"].isna().tolist() == [False, True]


def test_where_is_a_query_on_the_manifest(tmp_path):
    path = write(tmp_path, path=["a.png", "b.png"], licence_class=["A", "B"])
    assert len(read_items(path, where="licence_class == 'A'")[0]) == 1
    with pytest.raises(RaddinoError, match="no row"):
        read_items(path, where="licence_class == 'C'")
    with pytest.raises(ConfigError, match="Did you mean 'licence_class'"):
        read_items(path, where="license_class == 'A'")
    with pytest.raises(ConfigError):
        read_items(path, where="@pd.read_csv('/etc/passwd')")


def test_folders_and_globs(tmp_path):
    (tmp_path / "in/b").mkdir(parents=True)
    for name in ("in/2.dcm", "in/b/1", "in/.hidden", "in/out.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "in/corpus").mkdir()
    (tmp_path / "in/corpus/shard.tar").write_bytes(b"x")
    table, _ = read_items(tmp_path / "in", exclude=tmp_path / "in/corpus")
    assert table["name"].tolist() == ["2.dcm", "out.txt", "b/1"]
    assert read_items(f"{tmp_path}/in/**/*.dcm")[0]["name"].tolist() == ["2.dcm"]
    assert read_items(tmp_path / "in/b/1")[0]["name"].tolist() == ["1"]
    for nothing in (tmp_path / "absent", f"{tmp_path}/*.jpg"):
        with pytest.raises(RaddinoError, match="no file in"):
            read_items(nothing)
    with pytest.raises(ConfigError, match="manifest"):
        read_items(tmp_path / "in", where="a == 1")


def read(folder, content, **more):
    """A manifest of that text, or that table as Parquet, beside three images."""
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(b"1")
    if isinstance(content, pd.DataFrame):
        with (folder / "m.parquet").open("wb") as stream:
            content.to_parquet(stream)
        return read_items(folder / "m.parquet", **more)[0]
    (folder / "m.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_items(folder / "m.csv", **more)[0]


PLAIN = "path,patient_id,label_x\na.png,p1,1\nb.png,p2,0\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace(",", ", "),
        PLAIN.replace("patient_id", " patient_id ").replace("label_x", "\xa0label_x\xa0"),
        "\ufeff" + PLAIN,
        PLAIN.replace("path", "\u200bpath\u200b"),
        PLAIN.replace("path,patient_id,label_x", "PATH,PATIENT_ID,Label X"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\r\n"),
        "\n\n" + PLAIN.replace("\n", "\n\n"),
        PLAIN.replace("p1,1", "p1,TRUE").replace("p2,0", "p2,FALSE"),
        PLAIN.replace("p1,1", "p1,1.0").replace("p2,0", "p2, 0 "),
    ],
)
def test_a_table_is_the_same_however_it_was_exported(tmp_path, content):
    table = read(tmp_path, content)
    assert table["file"].tolist() == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert table["patient"].tolist() == ["p1", "p2"]
    assert table["label_x"].tolist() == [1, 0]
    assert table.attrs["notes"] == []


def test_decimal_commas(tmp_path):
    table = read(tmp_path, "path;label_x;age;weight\na.png;0,5;62,5;70,2\n")
    assert table[["label_x", "age", "weight"]].iloc[0].tolist() == [0.5, 62.5, 70.2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label_x\na.png,1,2\nb.png,0,3\n", r"2 rows have more .*\(2 more, 0 fewer\)"),
        ("path,label_x\na.png\nb.png,0\n", r"\(0 more, 1 fewer\)"),
        ("path,label_x,label_x\na.png,1,0\n", "two columns 'label_x'"),
        ("path,label_x,Label X\na.png,1,0\n", "both mean label_x"),
        ("path,patient_id,Patient ID\na.png,1,2\n", "both mean patient"),
        ("path,label_Épanchement,label_epanchement\na.png,1,0\n", "both mean label_epanchement"),
        ("path,label_气胸\na.png,1\n", "no Latin letters"),
        ('path,report\na.png,"Clear\nb.png,Clear\n', "quotation mark"),
        ('path,label_x\n"a.png,1\nb.png",0\n', "quotation mark"),
        ("a.png,Doe^Jane,1\nb.png,Doe^Jane,0\n", "no header"),
        (PLAIN.encode("utf-16"), "UTF-16"),
        (PLAIN.encode("utf-16-le"), "NUL"),
        ("path,label_é\na.png,1\n".encode("cp1252"), "not text in UTF-8"),
        (b"path,label_x\na.png,1,M\xfcller\n", "not text in UTF-8"),
        (b"PK\x03\x04...", "spreadsheet"),
        (b"\x1f\x8b...", "compressed"),
        ("path,label_x\na.png,1\x00\n", "NUL"),
        ("path,label_x\na.png,Doe Jane\nb.png,yes\nc.png,2\n", r"3 of 3 rows .*1 x 'yes'.*--column label_"),
        ('path,labels\na.png,"Mr. Jane Doe, born 1950-01-01"\n', "free text .*--column report"),
        ("path,labels\na.png,The heart of Doe is normal. Lungs are clear\n", "free text"),
        ("path,labels\n" + "".join(f"a.png,Doe number {n}\n" for n in range(60)), "free text"),
        ("path,patient_id\na.png,1.23457E+11\nb.png,1.23457E+11\n", "lost digits .*--column patient="),
        ("path;study_id\na.png;1,23457E+11\n", "lost digits"),
        ("path,id\na.png,1E+11\n", "lost digits"),
        (pd.DataFrame({"path": ["a.png"], "patient_id": [1e17]}), "lost digits"),
        (pd.DataFrame({"path": ["a.png"], "patient_id": [np.float32(123456789)]}), "lost digits"),
        (pd.DataFrame({"path": ["a.png"], "patient_id": [["Doe"]]}), "'patient_id' holds lists"),
        (pd.DataFrame({"path": ["a.png"], "label_x": [{"Doe": 1}]}), "'label_x' holds records"),
        (pd.DataFrame({"path": ["a.png"], "label_x": pd.to_datetime(["1950-01-01"])}), "'label_x' is taken for"),
    ],
)
def test_what_would_be_read_wrongly_is_refused_in_one_line_that_names_nobody(tmp_path, content, message):
    with pytest.raises(RaddinoError, match=message) as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)
    for private in ("Doe", "1950", "1.23457"):
        assert private not in str(error.value)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.array([True, False, None], dtype="boolean"), [1, 0, None]),
        (pd.array([1, 0, None], dtype="Int64"), [1, 0, None]),
        (pd.Categorical([1, 0, None]), [1, 0, None]),
        ([Decimal("1"), Decimal("0.0"), None], [1, 0, None]),
        ([b"1", b" 0", None], [1, 0, None]),
        (["TRUE", "0,5", None], [1, 0.5, None]),
    ],
)
def test_labels_of_any_type_of_parquet(tmp_path, column, expected):
    labels = read(tmp_path, pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "label_x": column}))["label_x"]
    assert [None if value != value else value for value in labels.tolist()] == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.array([7, 123456789012345678, None], dtype="Int64"), ["7", "123456789012345678", None]),
        ([7.0, 1e15, None], ["7", "1000000000000000", None]),
        ([Decimal("7.00"), Decimal(123456789012345678), None], ["7", "123456789012345678", None]),
        (pd.Categorical(["007", "8", None]), ["007", "8", None]),
        ([b"007", b"M\xfcller", None], ["007", "M\\xfcller", None]),
    ],
)
def test_ids_of_any_type_of_parquet(tmp_path, column, expected):
    table = read(tmp_path, pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "patient_id": column}))
    assert table["patient"].tolist() == expected


@pytest.mark.parametrize("cell", [[1, 2], {"x": 1}])
def test_a_column_without_a_use_may_hold_anything(tmp_path, cell):
    found = read(tmp_path, pd.DataFrame({"path": ["a.png", "b.png"], "boxes": [None, cell]}))
    assert found.attrs["notes"] == ["columns of lists or records are not taken: 'boxes'"]


def test_lists_of_labels_and_a_path_in_the_index(tmp_path):
    table = pd.DataFrame(
        {"labels": [["Edema", "Mass, left"], [], None]}, index=pd.Index(["a.png", "b.png", "c.png"], name="path")
    )
    found = read(tmp_path, table)
    assert found["label_edema"].tolist()[0] == 1
    assert found["label_mass_left"].tolist()[0] == 1
    assert found["label_edema"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        ("path\na.png\n,\n".replace("path\n", "path,x\n").replace("a.png\n", "a.png,y\n"), ["1 row without a path"]),
        ("path,exclude\na.png,Y\nb.png,n\nc.png,N\n", ["1 row marked in column 'exclude' left out"]),
        ("path,exclude\na.png,1\nb.png,0\nc.png,\n", ["1 row marked in column 'exclude' left out"]),
        ("path,split\na.png,Excluded\nb.png,train\n", ["1 row left out, for their split says so"]),
        (",path\n0,a.png\n", ["1 column without a name"]),
        ("path,patient_id,subject_id\na.png,1,2\n", ["another one says the same: 'subject_id' (patient)"]),
        ("path,covid19,label\na.png,1,x\nb.png,0,y\n", ["look like labels and are not taken: 'covid19', 'label'"]),
        ("path,sex,age\na.png,?,500\nb.png,M,50\n", ["1 cell of column 'sex'", "1 cell of column 'age'"]),
        ("path,patient_id\na.png,7\nb.png,7.0\n", ["1 id in column 'patient_id' written with and without .0"]),
        (
            "path,patient_id\na.png,7\nb.png,007\n",
            ["1 id in column 'patient_id' unlike another in leading zeros"],
        ),
        ("path,patient_id\na.png,02-Jan\nb.png,3/4/2020\n", ["2 ids in column 'patient_id' with the look of a date"]),
        (
            "path,patient_id\n" + "".join(f"a.png,12345678901{n:04}00\n" for n in range(6)),
            ["the 6 ids of more than 15 digits"],
        ),
        ("path,patient_id\na.png,ANONYMOUS\nb.png,-\nc.png,p\n", ["2 images with a placeholder as the patient"]),
        (
            "path,lung_mask\na.png,m.png\n",
            ["'lung_mask' looks like masks and is not taken: take it with --column mask_"],
        ),
        ("path,EncodedPixels\na.png,1 2 3 4\n", ["'EncodedPixels' looks like masks .*write gaps:"]),
        ("path,mask_x\na.png,m.jpg\nb.png,n.jpg\n", ["'mask_x' looks like masks .* 2 JPEG files"]),
        ("path,mask_x\na.png,Doe Jane\n", ["'mask_x' looks like masks .* 1 other text"]),
        (
            "path,source,labels\na.png,s,Edema\nb.png,t,Mass\nc.png,t,\n",
            ["1 labelled image of source t, .*: edema", "1 labelled image of source s, .*: mass"],
        ),
    ],
)
def test_what_is_left_out_is_said(tmp_path, content, notes):
    said = read(tmp_path, content).attrs["notes"]
    assert len(said) == len(notes)
    for sentence, wanted in zip(said, notes, strict=True):
        assert re.search(wanted.replace("(", r"\(").replace(")", r"\)"), sentence)
        for private in ("Doe", "Jan,", "2020", "12345"):
            assert private not in sentence


def test_what_where_leaves_out_is_said_and_numbers_compare_as_numbers(tmp_path):
    content = "path,age,patient_id,flag\na.png,9,007,TRUE\nb.png,50,008,FALSE\nc.png,,009,TRUE\n"
    assert read(tmp_path, content, where="age < 10").attrs["notes"][0] == "2 rows left out by where"
    assert len(read(tmp_path, content, where="patient_id == '007'")) == 1
    assert len(read(tmp_path, content, where="flag and age > 1")) == 1


@pytest.mark.parametrize("odd", ["m.jpg", "m.npy", "55 3 9 2", "Doe Jane"])
def test_one_odd_cell_costs_one_mask_and_is_said(tmp_path, odd):
    table = read(tmp_path, f"path,mask_lungs\na.png,gaps:4x4:1 2\nb.png,m.png\nc.png,{odd}\n")
    assert table["mask_lungs"].tolist() == [("gaps:4x4:1 2",), (str(tmp_path / "m.png"),), None]
    (note,) = table.attrs["notes"]
    assert note.startswith("1 of 3 cells of column 'mask_lungs' are no masks")
    assert "Doe" not in note


@pytest.mark.parametrize("empty", ["-1", " -1", "-1.0"])
def test_the_empty_mask_of_siim(tmp_path, empty):
    table = read(tmp_path, f"path,mask_lungs\na.png,gaps:4x4:1 2\nb.png,{empty}\nc.png,\n")
    assert table["mask_lungs"].tolist() == [("gaps:4x4:1 2",), ("empty:",), None]
    assert table.attrs["notes"] == []


def test_labels_that_a_source_never_lists_are_counted(tmp_path):
    content = "path,source,labels,label_mass\na.png,s,Edema,\nb.png,t,Mass,\nc.png,s,Edema,0\n"
    table = read(tmp_path, content)
    assert table.attrs["unlisted"] == {"t": {"edema": 1}, "s": {"mass": 1}}
    assert table["label_mass"].isna().tolist() == [True, False, False]


def test_names_that_are_not_utf8(tmp_path):
    bad = os.fsdecode(b"M\xfcller")
    (tmp_path / bad).mkdir()
    try:
        (tmp_path / bad / os.fsdecode(b"\xfc.png")).write_bytes(b"1")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    listed = read_items(tmp_path)[0]
    assert listed["name"].tolist() == [f"{bad}/{os.fsdecode(bytes([0xFC]) + b'.png')}"]
    assert read_items(f"{tmp_path}/**/*.png")[0]["file"].tolist() == listed["file"].tolist()
    table = read(tmp_path / bad, PLAIN)
    assert table["file"].tolist() == [str(tmp_path / bad / "a.png"), str(tmp_path / bad / "b.png")]
    named = read(tmp_path / bad, pd.DataFrame({"path": [b"\xfc.png", b"a.png"]}))
    assert [os.path.isfile(file) for file in named["file"]] == [True, True]


@pytest.mark.parametrize("content", ["", "path\n", "a,b\n1,2,3\n4,5,6,7\n"])
def test_broken_manifest_is_one_line(tmp_path, content):
    path = tmp_path / "m.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RaddinoError) as error:
        read_items(path)
    assert "\n" not in str(error.value)
    with pytest.raises(RaddinoError, match="does not exist"):
        read_items(tmp_path / "absent.csv")


def test_what_is_left_out_stands_in_corpus_json_and_on_the_terminal(tmp_path, images):
    table = pd.read_csv(images / "manifest.csv")
    table["excluded"] = ["1"] * 3 + ["0"] * 37
    table.loc[10:, "source"] = "ward"
    table.loc[10:, "labels"] = "Mass"
    table.loc[36:, "patient_id"] = "ANONYMOUS"
    table.to_csv(images / "manifest.csv", index=False)
    corpus = prepare(images, tmp_path / "corpus", workers=1, where="age != '059Y'", shorter_side=16)
    notes = corpus.info["notes"]
    for count, what in (
        (1, "row left out by where"),
        (3, "rows marked in column 'excluded'"),
        (3, "images with a plac"),
    ):
        assert sum(note.startswith(f"{count} {what}") for note in notes) == 1
    assert corpus.info["unlisted"] == {"clinic": {"mass": 7}, "ward": {"edema": 29, "effusion": 29, "no_finding": 29}}
    assert all(note in summary(corpus) for note in notes)
    assert "3 images without a patient: each counts as one of its own, so splits may leak" in notes


@pytest.mark.parametrize(("patient", "unknown"), [("ANONYMOUS", 12), ("0", 0), ("1.23457E+11", 0)])
def test_one_patient_in_all_headers_is_said(tmp_path, patient, unknown):
    sample(tmp_path / "sample", 12, size=64, format="dicom", workers=1)
    for file in (tmp_path / "sample").rglob("*.dcm"):
        header = pydicom.dcmread(file)
        header.PatientID = patient
        header.save_as(file)
    corpus = prepare(f"{tmp_path}/sample/**/*.dcm", tmp_path / "corpus", workers=1, shorter_side=16)
    placeholder = {
        text: n for text, n in corpus.info["warnings"].items() if text.startswith("PatientID is a placeholder")
    }
    assert list(placeholder.values()) == ([unknown] if unknown else [])
    lost = [n for text, n in corpus.info["warnings"].items() if text.startswith("PatientID lost its digits")]
    assert lost == ([12] if "E+" in patient else [])
    assert corpus.info["patients"] == (12 if unknown else 1)
    dominant = [note for note in corpus.info["notes"] if note.startswith("one patient holds 12 of 12 images")]
    assert len(dominant) == (0 if unknown else 1)
