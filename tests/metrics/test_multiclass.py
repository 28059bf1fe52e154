"""Metrics of several classes against scikit-learn, weighted and degenerate."""

from functools import partial

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from raddino.metrics.multiclass import accuracy, auprc_macro, auroc_macro, balanced_accuracy, confusion

CLASSES = [0, 1, 2]


@pytest.fixture(params=[False, True], ids=["continuous", "ties"])
def scored(request):
    rng = np.random.default_rng(0)
    y = rng.choice(3, 200, p=[0.6, 0.3, 0.1])
    p = softmax(rng.normal(size=(200, 3)) + 1.5 * np.eye(3)[y], axis=1)
    p = np.round(p, 1) + 1e-3 if request.param else p
    return y, p / p.sum(1, keepdims=True)


def test_equal_to_scikit_learn(scored):
    y, p = scored
    one_hot = np.eye(3)[y]
    assert accuracy(y, p) == pytest.approx(sk.accuracy_score(y, p.argmax(1)))
    assert balanced_accuracy(y, p, CLASSES) == pytest.approx(sk.balanced_accuracy_score(y, p.argmax(1)))
    assert auroc_macro(y, p, CLASSES) == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr", average="macro"))
    assert auprc_macro(y, p, CLASSES) == pytest.approx(sk.average_precision_score(one_hot, p, average="macro"))
    np.testing.assert_array_equal(confusion(y, p), sk.confusion_matrix(y, p.argmax(1)))


def test_resamples_are_weights(scored):
    y, p = scored
    counts = np.random.default_rng(1).multinomial(200, np.full(200, 1 / 200), size=3)
    macro = [partial(one, classes=CLASSES) for one in (balanced_accuracy, auroc_macro, auprc_macro)]
    for metric in (accuracy, *macro):
        expected = [metric(np.repeat(y, one), np.repeat(p, one, axis=0)) for one in counts]
        np.testing.assert_allclose(metric(y, p, weights=counts), expected)


def test_a_missing_class_is_undefined_unless_left_out(scored):
    y, p = scored
    y = np.where(y == 2, 0, y)
    for metric in (balanced_accuracy, auroc_macro, auprc_macro):
        assert np.isnan(metric(y, p, CLASSES))
        assert np.isfinite(metric(y, p, [0, 1]))
    assert np.isfinite(accuracy(y, p))


@pytest.mark.parametrize(
    ("target", "score", "message"),
    [
        ([0, 3], np.eye(2), "none of the 2 classes"),
        ([0, 1], np.eye(3), "do not belong together"),
        ([0, 1], np.full((2, 2), np.nan), "not finite"),
        ([0, np.nan], np.eye(2), "none of the 2 classes"),
    ],
)
def test_bad_input(target, score, message):
    with pytest.raises(ValueError, match=message):
        accuracy(target, score)
