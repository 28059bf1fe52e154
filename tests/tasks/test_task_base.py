"""Which images a task gets: missing, textual, one-sided and unusable labels."""

import numpy as np
import pandas as pd
import pytest

from memory_corpus import MemoryCorpus, toy_corpus
from raddino.errors import RaddinoError
from raddino.tasks.base import Absent, TaskConfig, select_examples


def binary(target, **more) -> TaskConfig:
    return TaskConfig(name=target, target=target, kind="binary", **more)


@pytest.fixture
def corpus(tmp_path) -> MemoryCorpus:
    return toy_corpus(tmp_path)


def test_missing_labels_are_excluded_and_counted(corpus):
    examples = select_examples(corpus, binary("label_left"))
    manifest = corpus.manifest
    assert examples.rows.tolist() == np.flatnonzero(manifest["label_left"].notna()).tolist()
    assert examples.excluded == {"no value": 24}
    described = examples.describe()
    for split in ("train", "val", "test"):
        labels = manifest.loc[manifest["split"] == split, "label_left"].dropna()
        assert described["n"][split] == len(labels)
        assert described["positives"][split] == labels.sum()
        assert described["prevalence"][split] == pytest.approx(labels.mean())
        assert examples.target[examples.at[split]].tolist() == labels.tolist()


def test_where_restricts(corpus):
    examples = select_examples(corpus, binary("label_noise", where="view == 'AP'"))
    assert (corpus.manifest["view"].iloc[examples.rows] == "AP").all()


def test_text_needs_a_positive_value(corpus):
    sex = select_examples(corpus, binary("sex", positive="M"))
    assert sex.target.tolist() == (corpus.manifest["sex"] == "M").astype(float).tolist()
    with pytest.raises(Absent, match="say which value is positive"):
        select_examples(corpus, binary("sex"))


def test_text_labels_of_a_spreadsheet_are_read(corpus):
    plain = select_examples(corpus, binary("label_left"))
    corpus.manifest["label_left"] = corpus.manifest["label_left"].map({1.0: "1", 0.0: "0"}).fillna("")
    assert select_examples(corpus, binary("label_left")).target.tolist() == plain.target.tolist()


def test_uncertain_and_wild_values_are_excluded_and_counted(corpus):
    corpus.manifest.loc[[1, 2, 3], "label_noise"] = [-1.0, 0.5, np.inf]
    corpus.manifest.loc[4, "split"] = None
    examples = select_examples(corpus, binary("label_noise"))
    assert examples.excluded == {"unusable value or split": 4}
    assert set(examples.target) == {0, 1}


def test_numbers_keep_their_unit(corpus):
    corpus.manifest.loc[[0, 5], "age"] = [np.nan, np.inf]
    examples = select_examples(corpus, TaskConfig(name="age", target="age", kind="regression"))
    expected = corpus.manifest["age"].iloc[examples.rows]
    assert examples.target.tolist() == expected.tolist()
    assert examples.describe()["positives"] is None


def test_an_image_without_patient_is_its_own(corpus):
    corpus.manifest["patient"] = corpus.manifest["patient"].where(np.arange(240) > 1, None)
    examples = select_examples(corpus, binary("label_noise"))
    assert examples.patients[:2].tolist() == ["image0", "image1"]


@pytest.mark.parametrize(
    ("change", "config", "reason"),
    [
        ({}, binary("label_lefd"), "Did you mean 'label_left'"),
        ({}, binary("label_none"), "all 120 values are 0"),
        ({}, binary("label_noise", min_positives=60), "at least 60 of either class"),
        ({}, binary("label_noise", where="view == 'LL'"), "no image of the train split"),
        ({"label_noise": np.nan}, binary("label_noise"), "no image of the train split"),
        ({"age": 40.0}, TaskConfig(name="age", target="age", kind="regression"), "all 120 values are 40"),
        ({"age": "old"}, TaskConfig(name="age", target="age", kind="regression"), "no image"),
        ({"patient": "one"}, binary("label_noise"), "test split has 1 patient;"),
        ({"split": "train"}, binary("label_noise"), "no image of the val split"),
        ({"split": "test"}, binary("label_noise"), "no image of the train split"),
    ],
)
def test_too_little_is_absent_with_the_reason(corpus, change, config, reason):
    corpus.manifest = corpus.manifest.assign(**change)
    with pytest.raises(Absent, match=reason) as error:
        select_examples(corpus, config)
    assert "\n" not in str(error.value)


def test_a_query_that_does_not_hold_is_refused(corpus):
    with pytest.raises(RaddinoError, match="sauce"):
        select_examples(corpus, binary("label_noise", where="sauce == 'nih'"))


def test_positive_may_be_a_number(corpus):
    corpus.manifest["grade"] = pd.Series(np.arange(240) % 5)
    examples = select_examples(corpus, binary("grade", positive=2))
    assert examples.target.tolist() == (np.arange(240) % 5 == 2).astype(float).tolist()
