"""Statistics of writing on texts whose numbers are known by hand."""

import numpy as np
import pytest

from raddino.tasks.findings import writing

TEXTS = ["The lungs are clear.", "the lungs  are\nclear.", "", "Heart normal. " * 10, "The lungs are clear."]


def test_length_and_empty():
    assert writing.length(TEXTS).tolist() == [4, 4, 0, 20, 4]
    assert writing.empty([*TEXTS, " \n"]).tolist() == [0, 0, 1, 0, 0, 1]


def test_repetition_is_one_minus_distinct_n():
    found = writing.repetition(TEXTS)
    assert found[0] == 0
    assert np.isnan(found[2])
    assert found[3] == pytest.approx(1 - 2 / 17)
    assert writing.repetition(["a b A B"], n=2)[0] == pytest.approx(1 / 3)
    assert writing.repetition(["a x b x c x", "x a x b x c"], n=2).tolist() == [0, 0]
    assert writing.repetition(["a a a b"], n=1)[0] == pytest.approx(2 / 4)


def test_verbatim_ignores_white_space_alone_and_empty_texts():
    training = ["The lungs are clear. ", "", "Heart large."]
    assert writing.verbatim(TEXTS, training).tolist() == [1, 0, 0, 0, 1]
    assert writing.verbatim(TEXTS, iter(())).sum() == 0


def test_the_mean_of_distinct_is_the_share_of_different_texts():
    assert writing.distinct(TEXTS).mean() == pytest.approx(4 / 5)
    assert writing.distinct(["same"] * 8).mean() == pytest.approx(1 / 8)
    assert writing.distinct([]).shape == (0,)


def test_other_scripts_are_counted_by_white_space():
    assert writing.length(["肺野清晰", "Лёгкие чистые"]).tolist() == [1, 2]
