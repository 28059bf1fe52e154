"""A label with several classes: which images it gets and what is measured."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from memory_corpus import toy_corpus
from raddino.tasks.base import TASKS, Absent, TaskConfig, select_examples
from raddino.tasks.multiclass.task import Multiclass


def task(**more):
    return TaskConfig(name="grade", target="grade", kind="multiclass", **more)


@pytest.fixture
def corpus(tmp_path):
    corpus = toy_corpus(tmp_path)
    corpus.manifest["grade"] = np.where(corpus.manifest["age"] < 40, "mild", "severe")
    corpus.manifest.loc[corpus.manifest["age"] > 60, "grade"] = "none"
    corpus.manifest.loc[::17, "grade"] = np.nan
    return corpus


def test_classes_are_those_of_training_or_the_listed_ones(corpus):
    examples = select_examples(corpus, task())
    assert examples.classes == examples.outputs == ("mild", "none", "severe")
    found = corpus.manifest["grade"].iloc[examples.rows].tolist()
    assert [examples.classes[int(code)] for code in examples.target] == found
    assert examples.columns.sum(1).tolist() == [1.0] * len(found)
    listed = select_examples(corpus, task(classes=("severe", "mild")))
    assert listed.classes == ("severe", "mild")
    assert listed.excluded["unusable value or split"] == found.count("none")
    counts = examples.describe()["classes"]
    assert sum(sum(splits.values()) for splits in counts.values()) == len(found)


def test_a_listed_class_that_training_lacks_is_named(corpus):
    with pytest.raises(Absent, match="no training image has 'nowhere'"):
        select_examples(corpus, task(classes=("nowhere", "mild")))


def test_a_class_that_training_lacks_is_excluded_and_counted(corpus):
    rare = corpus.manifest.index[(corpus.manifest["split"] == "test") & corpus.manifest["grade"].notna()][:3]
    corpus.manifest.loc[rare, "grade"] = "unseen"
    examples = select_examples(corpus, task())
    assert "unseen" not in examples.classes
    assert examples.excluded["unusable value or split"] == 3


def test_numbers_are_classes_too(corpus):
    corpus.manifest["grade"] = (corpus.manifest["age"] // 20).astype(float)
    assert select_examples(corpus, task(classes=(1, 2.0))).classes == ("1", "2")


def test_too_little_to_measure_is_absent(corpus):
    with pytest.raises(Absent, match="at least two need 500"):
        select_examples(corpus, task(min_positives=500))
    corpus.manifest["grade"] = np.arange(len(corpus.manifest)).astype(str)
    with pytest.raises(Absent, match="name up to 50"):
        select_examples(corpus, task())
    corpus.manifest["grade"] = "mild"
    with pytest.raises(Absent, match="are mild"):
        select_examples(corpus, task())


def test_statistics_name_the_classes_that_they_average(corpus):
    test = corpus.manifest["split"] == "test"
    severe = corpus.manifest.index[test & (corpus.manifest["grade"] == "severe")]
    corpus.manifest.loc[severe[4:], "grade"] = "none"
    examples = select_examples(corpus, task())
    rng = np.random.default_rng(0)
    val, test = (
        rng.normal(size=(len(examples.at[split]), 3)) + examples.columns[examples.at[split]]
        for split in ("val", "test")
    )
    y = examples.target[examples.at["test"]].astype(int)
    statistics = Multiclass().statistics(examples, val, test)
    assert statistics["auroc_macro_ovr"].detail == {"classes": ["mild", "none"], "left_out": ["severe"]}
    expected = np.mean([sk.roc_auc_score(y == one, softmax(test, 1)[:, one]) for one in (0, 1)])
    assert statistics["auroc_macro_ovr"].compute(None) == pytest.approx(expected)
    assert statistics["accuracy"].detail["confusion"] == sk.confusion_matrix(y, test.argmax(1)).tolist()
    assert all(one.compute(np.ones((2, len(y)))).shape == (2,) for one in statistics.values())
    assert TASKS["multiclass"].score(test).tolist() == test.argmax(1).tolist()
