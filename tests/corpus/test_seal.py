"""What stands in ``corpus.json``, what a person is told, and what a fingerprint follows."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.pack import Recipe, ShardTask
from raddino.corpus.seal import COLUMNS, fingerprint, seal, summary
from raddino.errors import RaddinoError
from raddino.files import sha256, write_json
from raddino.images.acquisition import ACQUISITION
from raddino.images.phi import key_name

KEY = "a key that is long enough"


def row(n: int, **changes) -> dict:
    """A record as shards leave it; two images a patient."""
    facts = dict.fromkeys(("view", "sex", "age", "weight", "bmi", *ACQUISITION, "report", "impression",
                           "indication", "comparison", "study_order", "licence", "study", "warnings", "mended",
                           "sha256_source", "sha256_masks", "namespace"))  # fmt: skip
    patient = f"p{n // 2}"
    split = ("train", "val", "test")[n // 2 % 3]
    places = {"shard": "000000.tar", "offset": 512 * n, "length": 10}
    fixed = {"id": f"image{n}", "source": "ours", "patient": patient, "split": split, "height": 4, "width": 5,
             "synthetic": False, "sha256": f"{n:064x}", "label_edema": n % 2}  # fmt: skip
    return {**facts, **places, **fixed, **changes}


def sealed(out, *shards: list[dict], skipped=(), classes=None, left_out=(), **made_by) -> dict:
    """``corpus.json`` after sealing shards of these rows."""
    tasks = []
    for number, rows in enumerate(shards):
        task = ShardTask(out, number, [], Recipe(), KEY)
        task.record.parent.mkdir(parents=True, exist_ok=True)
        write_json(task.record, {"size": 100 + number, "rows": rows, "skipped": list(skipped) if number == 0 else []})
        tasks.append(task)
    seal(out, tasks, list(left_out), classes or {}, made_by)
    return json.loads((out / "corpus.json").read_text(encoding="utf-8"))


def test_contents_are_counted(tmp_path):
    rows = [row(n, namespace="x") for n in range(8)]
    rows[0] |= {"view": "PA", "mask_lungs": "000000.tar:1:2", "report": "Clear.", "warnings": "dark; small"}
    rows[1] |= {"view": "PA", "warnings": "small", "licence": "CC0", "kvp": 125.0, "portable": 0.0}
    rows[2] |= {"view": "AP", "kvp": 90.0, "manufacturer": "GE", "mask_heart": "000000.tar:3:4"}
    info = sealed(
        tmp_path, rows[:5], rows[5:], classes={"lungs": "1 left"}, size=4, notes=["as given"],
        skipped=[{"hash": "a", "reason": "odd"}],
        left_out=[{"hash": "b", "reason": "odd"}, {"hash": "c", "reason": "no"}],
    )  # fmt: skip
    assert (info["images"], info["patients"], info["size"], info["synthetic"]) == (8, 4, 4, False)
    assert info["sources"] == {"ours": 8}
    assert info["splits"] == {"train": 4, "val": 2, "test": 2}
    assert info["views"] == {"PA": 2, "AP": 1}
    assert info["licences"] == {"CC0": 1}
    assert info["acquisition"] == {"manufacturer": 1, "kvp": 2, "portable": 1}
    assert info["masks"] == {"heart": {"images": 1, "classes": None}, "lungs": {"images": 1, "classes": "1 left"}}
    assert info["texts"] == {"report": 1}
    assert info["warnings"] == {"small": 2, "dark": 1}
    assert info["skipped"] == {"odd": 2, "no": 1}
    assert info["shards"] == {"000000.tar": 100, "000001.tar": 101}
    assert info["notes"] == ["as given"]
    manifest = tmp_path / "manifest.parquet"
    assert (info["manifest_bytes"], info["manifest_sha256"]) == (manifest.stat().st_size, sha256(manifest))
    table = pd.read_parquet(manifest)
    assert list(table.columns) == [*COLUMNS, "label_edema", "mask_heart", "mask_lungs"]
    assert table["id"].tolist() == [f"image{n}" for n in range(8)]
    assert table["label_edema"].dtype == np.float32
    assert {table[name].dtype for name in ("age", "weight", "bmi", "study_order")} == {np.dtype("float64")}
    assert info["fingerprint"] == fingerprint(table)
    skipped = pd.read_csv(tmp_path / "skipped.csv")
    assert skipped.to_numpy().tolist() == [["b", "odd"], ["c", "no"], ["a", "odd"]]


def test_namespaces_are_those_of_real_patients(tmp_path):
    rows = [row(0, namespace="east"), row(1, namespace="east"), row(2, namespace="west", synthetic=True),
            row(4, namespace="mid")]  # fmt: skip
    info = sealed(tmp_path, rows)
    assert info["namespaces"] == {"east": key_name(KEY), "mid": key_name(KEY)}
    assert info["synthetic"] == "mixed"
    assert info["notes"] == ["real and synthetic images are mixed"]
    assert sealed(tmp_path / "all", [row(n, namespace="x", synthetic=True) for n in range(4)])["synthetic"] is True


def test_images_without_a_patient_are_told_and_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="^3 images without a patient") as heard:
        info = sealed(tmp_path, [row(2 * n, namespace=None if n < 3 else "x") for n in range(12)])
    assert len(heard) == 1
    assert [note[:26] for note in info["notes"]] == ["3 images without a patient"]


def test_one_patient_in_two_sources_is_told(tmp_path):
    rows = [row(n, namespace="x", source="ours" if n % 4 else "theirs") for n in range(12)]
    notes = sealed(tmp_path, rows)["notes"]
    assert [note[:44] for note in notes] == ["3 patients stand in more than one source, ea"]
    synthetic = [row(n, namespace="x", synthetic=True, source="ours" if n % 2 else "theirs") for n in range(12)]
    assert sealed(tmp_path / "synthetic", synthetic)["notes"] == []


def test_without_an_image_the_commonest_reasons_are_named(tmp_path):
    reasons = ["a"] * 2 + ["b"] * 4 + ["c"] + ["d"] * 3
    with pytest.raises(RaddinoError, match=r"no image could be packed: 4 x b; 3 x d; 2 x a\. See .*skipped.csv"):
        sealed(tmp_path, [], skipped=[{"hash": str(n), "reason": reason} for n, reason in enumerate(reasons)])
    assert len(pd.read_csv(tmp_path / "skipped.csv")) == 10
    assert not (tmp_path / "corpus.json").exists()


def test_a_patient_in_two_splits_leaves_no_corpus(tmp_path):
    with pytest.raises(RaddinoError, match="two splits"):
        sealed(tmp_path, [row(0, namespace="x"), row(1, namespace="x", split="test")])
    assert not (tmp_path / "corpus.json").exists()
    assert not (tmp_path / "manifest.parquet").exists()


def test_a_damaged_record_says_what_to_do(tmp_path):
    task = ShardTask(tmp_path, 0, [], Recipe(), KEY)
    task.record.parent.mkdir(parents=True)
    write_json(task.record, {"size": 1, "rows": [row(0)], "skipped": []})
    task.record.write_text(task.record.read_text(encoding="utf-8").replace("image0", "image1"), encoding="utf-8")
    with pytest.raises(RaddinoError, match=f"delete {tmp_path} and run prepare again"):
        seal(tmp_path, [task], [], {}, {})


def test_a_fingerprint_follows_contents_and_no_places():
    table = pd.DataFrame([row(n) for n in range(6)])
    first = fingerprint(table)
    assert len(first) == 16
    assert int(first, 16) >= 0
    same = [
        table.iloc[::-1], table[table.columns[::-1]], table.assign(shard="9", offset=1, length=2),
        table.assign(mask_lungs="000000.tar:0:9"), table.drop(columns=["impression", "study_order"]),
    ]  # fmt: skip
    assert {fingerprint(one) for one in same} == {first}
    other = [table.assign(**{name: [1, *[None] * 5]}) for name in ("impression", "study_order", "age", "sha256_masks")]
    other += [table.assign(label_edema=1), table.assign(sha256="0"), table.iloc[:5], table.assign(report="Clear.")]
    assert len({first, *(fingerprint(one) for one in other)}) == 9


def corpus_of(path, **info) -> SimpleNamespace:
    told = {"images": 9, "patients": 4, "synthetic": False, "splits": {"train": 5, "val": 1, "test": 3}, "skipped": {},
            "fingerprint": "abc", "warnings": {}, "notes": []}  # fmt: skip
    return SimpleNamespace(info=told | info, path=path)


def test_a_summary_in_words(tmp_path):
    lines = ["9 images of 4 patients (train 5, val 1, test 3)", "  fingerprint abc"]
    assert summary(corpus_of(tmp_path)).splitlines() == lines
    told = summary(
        corpus_of(tmp_path, skipped={"odd": 2}, warnings={"dark": 3}, notes=["own"], source={"notes": ["its"]})
    )
    assert told.splitlines() == [*lines, "  left out 2: odd", "  note on 3: dark", "  its", "  own"]
    assert summary(corpus_of(tmp_path, synthetic=True)).startswith("9 synthetic images of")
    assert summary(corpus_of(tmp_path, synthetic="mixed")).startswith("9 real and synthetic images of")
    empty = summary(corpus_of(tmp_path, splits={"train": 5, "test": 0})).splitlines()[2:]
    assert empty == [
        "  warning: no image in the val split, which evaluate needs",
        "  warning: no image in the test split, which evaluate needs",
    ]


@pytest.mark.parametrize(("mode", "words"), [
    (0o700, "open to you alone"), (0o750, "warning"), (0o704, "warning"), (0o701, "warning"), (0o710, "warning"),
])  # fmt: skip
def test_who_may_read_texts_is_said(tmp_path, mode, words):
    tmp_path.chmod(mode)
    told = summary(corpus_of(tmp_path, texts={"report": 2}))
    assert words in told
    assert ("open to you alone" in told) != ("other users may read" in told)
    assert "texts" not in summary(corpus_of(tmp_path, texts={}))
    tmp_path.chmod(0o700)


def test_numbers_that_are_missing_stay_missing(tmp_path):
    sealed(tmp_path, [row(n, namespace="x", age=None if n else 50, label_edema=None) for n in range(4)])
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    assert table["age"][0] == 50
    assert all(math.isnan(value) for value in table["age"][1:])
    assert table["label_edema"].isna().all()
