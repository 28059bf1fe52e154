"""A record of where weights come from: what it says of all trainings together, and how it is read back."""

import json

import pytest

from raddino.encoders.base import Provenance
from raddino.errors import RaddinoError

DINO = Provenance(sources=["lvd-142m"], supervision="self-supervised", synthetic=False, reference="a paper")
OURS = Provenance(sources=["nih", "cohen"], supervision="self-supervised", synthetic=True, before=[DINO])


def test_a_record_is_read_back_with_all_that_was_before():
    assert Provenance.from_dict(json.loads(json.dumps(OURS.to_dict()))) == OURS
    assert Provenance.from_dict({"sources": None, "supervision": "unknown"}).before == []


def test_corpora_are_names_of_splits_by_fingerprint():
    sound = DINO.to_dict() | {"corpora": {"f1": ["train", "val"], "f2": []}}
    assert Provenance.from_dict(sound).corpora == sound["corpora"]
    assert Provenance.from_dict(DINO.to_dict() | {"corpora": None}).corpora is None
    for damaged in ({"f1": ["train"], "f2": "train"}, {"f1": ["train"], "f2": [1]}, ["f1"], "f1"):
        with pytest.raises(RaddinoError, match="its provenance is damaged"):
            Provenance.from_dict(DINO.to_dict() | {"corpora": damaged})


@pytest.mark.parametrize(
    "before",
    ["dinov2", {}, [7], [{}], [DINO.to_dict() | {"sources": 7}], [OURS.to_dict()], [DINO.to_dict() | {"more": 1}]],
)
def test_a_damaged_past_is_refused_in_one_line(before):
    with pytest.raises(RaddinoError, match="its provenance is damaged") as refused:
        Provenance.from_dict(OURS.to_dict() | {"before": before})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("record", "sources", "known", "synthetic", "told"),
    [
        (OURS, ["cohen", "lvd-142m", "nih"], True, "mixed", "cohen, lvd-142m, nih"),
        (DINO, ["lvd-142m"], True, False, "lvd-142m"),
        (Provenance(), [], True, None, "none"),
        (Provenance(sources=None), [], False, None, "?"),
        (
            Provenance(sources=["nih"], synthetic=False, before=[Provenance(sources=None)]),
            ["nih"], False, None, "nih; before: ?",
        ),
        (Provenance(sources=["a"], synthetic=True, before=[Provenance(synthetic=None)]), ["a"], True, True, "a"),
    ],
)  # fmt: skip
def test_all_trainings_count(record, sources, known, synthetic, told):
    assert (record.all_sources, record.all_known, record.all_synthetic) == (sources, known, synthetic)
    assert record.told_sources("?", "none") == told
    assert all(one.before == [] for one in record.trainings)
