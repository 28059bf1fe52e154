"""Copies stand on one side of the split, are refused, or are left out of training."""

import io
import json
import tarfile

import numpy as np
import pandas as pd
import pytest

from cloudy import picture
from packed_corpus import pack
from raddino.corpus.combine import combine
from raddino.corpus.copies import settle
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare, summary
from raddino.corpus.splits import split_of
from raddino.errors import ConfigError, RaddinoError
from raddino.images.likeness import thumbnail, to_text

SHARES = (0.5, 0.0, 0.5)


def rows_of(*places: tuple[int, str, str | None]) -> list[dict]:
    """Rows of (picture, patient, given split)."""
    return [
        {
            "patient": patient,
            "split": given or split_of(patient, SHARES, 0),
            "drawn": given is None,
            "thumbnail": to_text(thumbnail(picture(number))),
        }
        for number, patient, given in places
    ]


def patients_of(split: str, number: int) -> list[str]:
    names = [f"p{n}" for n in range(100) if split_of(f"p{n}", SHARES, 0) == split]
    return names[:number]


def test_patients_who_share_copies_get_one_split():
    a, b = patients_of("train", 2)
    c, d = patients_of("test", 2)
    rows = rows_of((0, a, None), (1, a, None), (0, c, None), (2, c, None), (2, b, None), (3, d, None))
    notes = settle(rows, "together", SHARES, 0)
    expected = split_of(min(a, b, c), SHARES, 0)
    assert [row["split"] for row in rows] == [expected] * 5 + ["test"]
    assert notes == [
        "2 images too many: copies of others (0 images have one in another split, 4 images have one under another "
        "patient)"
    ]
    assert all(set(row) == {"patient", "split"} for row in rows)


def test_a_given_split_is_kept_and_the_others_follow():
    c, d = patients_of("test", 2)
    rows = rows_of((0, c, None), (0, "given", "train"), (1, c, None), (2, d, None))
    settle(rows, "together", SHARES, 0)
    assert [row["split"] for row in rows] == ["train", "train", "train", "test"]


def test_given_splits_that_contradict_are_refused():
    rows = rows_of((0, "a", "train"), (0, "b", "test"), (1, "c", None))
    with pytest.raises(RaddinoError, match=r"^2 images have a copy in another split, so"):
        settle(rows, "together", SHARES, 0)


def test_report_and_refuse_change_nothing():
    (a,), (c,) = patients_of("train", 1), patients_of("test", 1)
    rows = rows_of((0, a, None), (0, c, None), (0, c, None))
    before = [row["split"] for row in rows]
    assert settle(rows, "report", SHARES, 0) == [
        "2 images too many: copies of others (3 images have one in another split, 3 images have one under another "
        "patient)"
    ]
    assert [row["split"] for row in rows] == before
    with pytest.raises(RaddinoError, match=r"^3 images have a copy"):
        settle(rows_of((0, a, None), (0, c, None), (0, c, None)), "refuse", SHARES, 0)
    assert settle(rows_of((0, a, None), (1, c, None), (1, c, None)), "refuse", SHARES, 0) == [
        "1 image too many: copies of others (0 images have one in another split, 0 images have one under another "
        "patient)"
    ]
    assert settle(rows_of((0, a, None), (1, c, None)), "refuse", SHARES, 0) == []


def members(corpus: Corpus) -> list[dict]:
    found = []
    for shard in sorted((corpus.path / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            found += [json.load(io.BytesIO(tar.extractfile(one).read())) for one in tar if one.name.endswith(".json")]
    return found


@pytest.fixture
def folder(tmp_path):
    """Forty pictures and a mirrored, cropped copy of each under another patient."""
    images = [picture(seed, (96, 80)) for seed in range(40)]
    copies = [image[5:, 4:][:, ::-1] for image in images]
    pack(tmp_path / "in", images + copies)
    return tmp_path / "in"


def test_prepare_keeps_copies_together(folder, tmp_path):
    out = tmp_path / "out"
    corpus = prepare(folder / "files.csv", out, workers=1, shorter_side=64, duplicates="together")
    splits = corpus.manifest["split"].to_numpy()
    assert np.array_equal(splits[:40], splits[40:])
    assert set(splits) == {"train", "val", "test"}
    assert "40 images too many: copies of others (0 images have one in another split, 80" in summary(corpus)
    assert corpus.info["preparation"]["duplicates"] == "together"
    for facts in members(corpus):
        assert {"split", "thumbnail", "drawn"}.isdisjoint(facts)
    assert {"thumbnail", "drawn"}.isdisjoint(corpus.manifest)
    again = prepare(folder / "files.csv", tmp_path / "two", workers=2, shorter_side=64, duplicates="together")
    assert (again.path / "manifest.parquet").read_bytes() == (out / "manifest.parquet").read_bytes()


def test_prepare_refuses_or_reports(folder, tmp_path):
    with pytest.raises(RaddinoError, match=r"images have a copy in another split.*raddino inspect"):
        prepare(folder / "files.csv", tmp_path / "no", workers=1, shorter_side=64, duplicates="refuse")
    plain = prepare(folder / "files.csv", tmp_path / "plain", workers=1, shorter_side=64)
    told = prepare(folder / "files.csv", tmp_path / "told", workers=1, shorter_side=64, duplicates="report")
    pd.testing.assert_frame_equal(plain.manifest, told.manifest)
    assert plain.fingerprint == told.fingerprint
    assert members(plain) == members(told)
    assert not any("too many" in note for note in plain.info["notes"])
    assert any("40 images too many" in note for note in told.info["notes"])
    with pytest.raises(ConfigError, match="duplicates"):
        prepare(folder / "files.csv", tmp_path / "odd", workers=1, duplicates="maybe")


def test_training_leaves_out_what_is_tested(tmp_path):
    images = [picture(seed, (96, 80)) for seed in range(12)]
    one = pack(tmp_path / "one", images, split=["train"] * 12)
    tested = [255 - images[2], images[7][:, ::-1], picture(99, (96, 80)), images[3][4:]]
    two = pack(
        tmp_path / "two", tested, split=["test", "val", "test", "train"], patient_id=range(100, 104), source="two"
    )
    plain = combine([one, two])
    clean = combine([one, two], duplicates="leave-out")
    left = set(plain.manifest["id"]) - set(clean.manifest["id"])
    assert left == set(one.manifest["id"].iloc[[2, 7]])
    assert clean.fingerprint != plain.fingerprint
    assert combine([one, two], duplicates="leave-out").fingerprint == clean.fingerprint
    with pytest.raises(RaddinoError, match=r"^4 images have a copy in another split.*leave-out"):
        combine([one, two], duplicates="refuse")
    assert combine([one], duplicates="refuse").fingerprint == combine([one]).fingerprint
    with pytest.raises(ConfigError, match="Did you mean 'leave-out'"):
        combine([one], duplicates="leaveout")
