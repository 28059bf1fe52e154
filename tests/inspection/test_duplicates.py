"""Copies are told by where they stand, with a partner."""

import numpy as np
import pytest

from cloudy import picture
from packed_corpus import pack
from raddino.images.likeness import from_text
from raddino.inspection.duplicates import ACROSS, REASONS, Duplicates
from raddino.inspection.inspect import inspect


@pytest.fixture
def images() -> list[np.ndarray]:
    return [picture(seed, (96, 80)) for seed in range(8)]


def found(corpora):
    seen = inspect(corpora, checks=["duplicates"], workers=1)
    return {(one.row, one.reason): one for one in seen.findings}


def test_nothing_is_found_where_all_differ(tmp_path, images):
    assert found([pack(tmp_path / "a", images)]) == {}


def test_each_reason_alone_and_all_of_them(tmp_path, images):
    copies = [images[0], images[1][:, ::-1], images[2][6:, 5:], 255 - images[3], images[4]]
    columns = {
        "patient_id": [*range(8), 0, 1, 77, 3, 78],
        "split": ["train"] * 11 + ["test", "test"],
        "source": ["a"] * 9 + ["b"] + ["a"] * 2 + ["c"],
    }
    columns["patient_id"][3], columns["patient_id"][11] = None, None
    seen = found([pack(tmp_path / "a", images + copies, **columns)])
    assert set(seen) == {
        (8, "copy-exact"),
        *((9, reason) for reason in ("copy-near", "copy-across-sources")),
        *((10, reason) for reason in ("copy-near", "copy-other-patient")),
        *((11, reason) for reason in ("copy-near", "copy-other-patient", "copy-across-splits")),
        *((12, reason) for reason in ("copy-exact", *ACROSS.values()) if reason != "copy-across-corpora"),
    }
    assert {one.partner for one in seen.values()} == {0, 1, 2, 3, 4}
    assert all(one.partner == one.row - 8 for one in seen.values())
    assert seen[11, "copy-across-splits"].said.endswith(", train and test")
    assert seen[8, "copy-exact"].said == ""


def test_across_corpora(tmp_path, images):
    one, other = pack(tmp_path / "a", images), pack(tmp_path / "b", [images[5][::-1], picture(99, (96, 80))])
    seen = found([one, other])
    assert set(reason for _, reason in seen) >= {"copy-near", "copy-across-corpora"}
    assert {row for row, _ in seen} == {8}
    assert {finding.partner for finding in seen.values()} == {5}


def test_exact_copies_are_partners_within_a_cluster(tmp_path, images):
    crop = images[0][8:, 7:]
    seen = found([pack(tmp_path / "a", [images[0], crop, crop], split=["train"] * 3, patient_id=["p"] * 3)])
    assert {place: one.partner for place, one in seen.items()} == {(1, "copy-near"): 0, (2, "copy-exact"): 1}


def test_reasons_of_the_measure():
    assert set(ACROSS.values()) < set(REASONS)
    image = picture(0)
    one, other = Duplicates().measure([image, image.astype(np.uint16) * 257])
    one_small, other_small = (from_text(each["thumbnail"]).astype(int) for each in (one, other))
    assert np.abs(one_small - other_small).max() <= 1
    assert one["pixels"] != other["pixels"]
