"""F1 of findings against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from raddino.corpus.labels import snake_case
from raddino.corpus.sources.chexpert import LABELS
from raddino.metrics import clinical


def draw(n=60, labels=14, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.choice([1.0, 0.0, -1.0, np.nan], (n, labels), p=[0.25, 0.15, 0.1, 0.5]) for _ in range(2))


def test_the_14_are_chexperts():
    assert sorted(clinical.FINDINGS_14) == sorted(snake_case(name) for name in LABELS)
    assert set(clinical.FINDINGS_5) < set(clinical.FINDINGS_14)


@pytest.mark.parametrize("uncertain", ["negative", "positive"])
@pytest.mark.parametrize("case", ["random", "nothing", "all", "one label silent", "nothing said"])
def test_f1_equals_scikit_learn(uncertain, case):
    wanted, given = draw()
    if case == "nothing":
        wanted[:], given[:] = np.nan, 0
    if case == "all":
        wanted[:], given[:] = 1, 1
    if case == "one label silent":
        wanted[:, 3], given[:, 3] = 0, np.nan
    if case == "nothing said":
        given[:] = np.nan
    true, said = ((part == 1) | ((part == -1) & (uncertain == "positive")) for part in (wanted, given))
    sums = clinical.label_counts(wanted, given, uncertain).sum(0)
    for average, ours in (("micro", clinical.f1_micro), ("macro", clinical.f1_macro), (None, clinical.f1_each)):
        np.testing.assert_allclose(ours(sums), f1_score(true, said, average=average, zero_division=0))


def test_weights_equal_duplicated_reports():
    wanted, given = draw()
    counts = clinical.label_counts(wanted, given)
    weights = np.random.default_rng(1).integers(0, 4, (5, len(wanted)))
    sums = np.einsum("rn,nlk->rlk", weights, counts)
    for row, weight in enumerate(weights):
        rows = np.repeat(np.arange(len(wanted)), weight)
        expected = f1_score(wanted[rows] == 1, given[rows] == 1, average="macro", zero_division=0)
        np.testing.assert_allclose(clinical.f1_macro(sums)[row], expected)
        assert clinical.f1_micro(sums).shape == (5,)


def test_the_table_equals_scikit_learn_and_an_absent_finding_has_no_f1():
    wanted, given = draw()
    wanted[:, 2], given[0, 2] = 0, 1
    table = clinical.finding_table(clinical.label_counts(wanted, given).sum(0))
    precision, recall, f1, support = precision_recall_fscore_support(wanted == 1, given == 1, zero_division=np.nan)
    for at, name in enumerate(clinical.FINDINGS_14):
        row = table[name]
        assert row["support"] == support[at]
        np.testing.assert_allclose([row["precision"], row["recall"]], [precision[at], recall[at]])
        np.testing.assert_allclose(row["f1"], np.nan if at == 2 else f1[at])
    absent = table[clinical.FINDINGS_14[2]]
    assert absent["support"] == 0
    assert absent["said"] >= 1


def test_labels_are_placed_by_name():
    found = [{"edema": 1, "no_finding": 0}, {}, {"edema": -1}]
    matrix = clinical.label_matrix(found, ("no_finding", "edema"))
    np.testing.assert_array_equal(matrix, [[0, 1], [np.nan, np.nan], [np.nan, -1]])
    shuffled = clinical.FINDINGS_14[::-1]
    np.testing.assert_array_equal(clinical.label_matrix(found)[:, ::-1], clinical.label_matrix(found, shuffled))
    with pytest.raises(ValueError, match="'oedema' is none of the 14 findings"):
        clinical.label_matrix([{"oedema": 1}])


def test_bad_labels_are_refused():
    with pytest.raises(ValueError, match="do not belong together"):
        clinical.label_counts(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="none of 1, 0, -1"):
        clinical.label_counts([[0.5, 1, np.nan]], [[1, 0, -1]])
    with pytest.raises(ValueError, match="none of 1, 0, -1"):
        clinical.label_counts([[1, 0, -1]], [[1, np.nan, 2]])
