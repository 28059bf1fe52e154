"""What the two kinds of task measure, and that nothing of it is chosen on test images."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, mean_absolute_error, roc_auc_score

from memory_corpus import toy_corpus
from raddino.tasks.base import TASKS, TaskConfig, select_examples
from raddino.tasks.classification.task import Classification
from raddino.tasks.metadata.task import Metadata


@pytest.fixture
def examples(tmp_path):
    config = TaskConfig(name="noise", target="label_noise", kind="binary")
    return select_examples(toy_corpus(tmp_path), config)


def outputs(examples, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=len(examples.at[s])) + examples.target[examples.at[s]] for s in ("val", "test")]


def test_classification(examples):
    val, test = outputs(examples)
    y = examples.target[examples.at["test"]]
    statistics = Classification().statistics(examples, val, test)
    values = {name: float(one.compute(None)) for name, one in statistics.items()}
    assert values["auroc"] == pytest.approx(roc_auc_score(y, test))
    assert values["auprc"] == pytest.approx(average_precision_score(y, test))
    assert values["brier"] == pytest.approx(np.mean((expit(test) - y) ** 2))
    assert set(values) >= {"ece", "ece_temperature", "brier_temperature", "sensitivity_at_specificity_95"}
    assert statistics["sensitivity_at_specificity_95"].detail["specificity_reached"] <= 1
    weights = np.ones((4, len(y)))
    assert all(one.compute(weights).shape == (4,) for one in statistics.values())


def test_thresholds_and_temperature_come_from_validation(examples):
    val, test = outputs(examples)
    before, after = (Classification().statistics(examples, val, one) for one in (test, test[::-1] * 3))
    for name in ("sensitivity_at_specificity_90", "ece_temperature"):
        fixed = set(before[name].detail) - {"specificity_reached"}
        assert {key: before[name].detail[key] for key in fixed} == {key: after[name].detail[key] for key in fixed}


@pytest.mark.parametrize("level", [90, 95])
def test_the_threshold_is_the_lowest_that_keeps_the_specificity_on_validation(examples, level):
    many = np.repeat(np.arange(len(examples.target)), 8)
    enough = replace(examples, target=examples.target[many], split=examples.split[many])
    val, test = outputs(enough)
    detail = Classification().statistics(enough, val, test)[f"sensitivity_at_specificity_{level}"].detail
    negatives = np.sort(expit(val[enough.target[enough.at["val"]] == 0]))
    below = (negatives < detail["threshold"]).sum()
    assert below == np.ceil(level / 100 * len(negatives))
    assert len(negatives) > 150


@pytest.mark.parametrize("scale", [0.0, 1.0, 80.0])
def test_the_stored_threshold_gives_the_stored_sensitivity(examples, scale):
    """Constant and saturated scores too: expit of 80 times a logit is 1 for many."""
    val, test = (scale * one for one in outputs(examples))
    y = examples.target[examples.at["test"]]
    found = Classification().statistics(examples, val, test)["sensitivity_at_specificity_90"]
    reached = (expit(test) >= found.detail["threshold"])[y == 1].mean()
    assert found.compute(None) == pytest.approx(reached)


def test_metadata(tmp_path):
    config = TaskConfig(name="age", target="age", kind="regression")
    examples = select_examples(toy_corpus(tmp_path), config)
    val, test = outputs(examples)
    y = examples.target[examples.at["test"]]
    statistics = Metadata().statistics(examples, val, test)
    assert statistics["mae"].compute(None) == pytest.approx(mean_absolute_error(y, test))
    train = examples.target[examples.at["train"]]
    np.testing.assert_allclose(statistics["auroc_binned"].detail["edges"], np.quantile(train, [0.25, 0.5, 0.75]))
    assert set(statistics) == {"mae", "r2", "auroc_binned"}
    np.testing.assert_array_equal(statistics["auroc_binned"].outputs, rankdata(test))
    np.testing.assert_array_equal(statistics["mae"].outputs, test)


def test_scores_are_what_a_person_reads():
    assert TASKS["binary"].score(np.array([0.0])) == 0.5
    assert TASKS["regression"].score(np.array([40.0])) == 40
