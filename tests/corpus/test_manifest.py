"""Manifests of other people: recognised names, mappings, paths, labels."""

import pandas as pd
import pytest

from raddino.corpus.manifest import read_items
from raddino.errors import ConfigError, RaddinoError


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
    path.write_text("path,patient_id\na.png,007\nb.png,\na.png,123456789012345678\nb.png,123456789012345679\n")
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


def test_paths_that_lead_nowhere_are_said(tmp_path):
    with pytest.raises(RaddinoError, match=r"none of the first 2 paths .* x/a\.png.* relative to"):
        read_items(write(tmp_path, path=["x/a.png", "x/b.png"]))


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


@pytest.mark.parametrize("content", ["", "path\n", "a,b\n1,2,3\n4,5,6,7\n"])
def test_broken_manifest_is_one_line(tmp_path, content):
    path = tmp_path / "m.csv"
    path.write_text(content)
    with pytest.raises(RaddinoError) as error:
        read_items(path)
    assert "\n" not in str(error.value)
    with pytest.raises(RaddinoError, match="does not exist"):
        read_items(tmp_path / "absent.csv")
