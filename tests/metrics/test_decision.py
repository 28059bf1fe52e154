"""Net benefit by hand and in closed form."""

import numpy as np
import pytest

from raddino.metrics.decision import net_benefit

Y = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
P = np.array([0.9, 0.3, 0.6, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])


def test_net_benefit_by_hand():
    assert net_benefit(Y, P, 0.25) == pytest.approx(2 / 10 - 1 / 10 * 1 / 3)
    assert net_benefit(Y, P, 0.5) == pytest.approx(1 / 10 - 1 / 10)
    assert net_benefit(Y, P, 0.9) == pytest.approx(1 / 10), "who is at the threshold is treated"
    assert net_benefit(Y, P, 0.95) == 0


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.8])
def test_treat_all_none_and_the_perfect_model(threshold):
    assert net_benefit(Y, np.ones(10), threshold) == pytest.approx(0.2 - 0.8 * threshold / (1 - threshold))
    assert net_benefit(Y, np.zeros(10), threshold) == 0
    assert net_benefit(Y, Y, threshold) == pytest.approx(0.2)


def test_treat_all_is_worth_nothing_at_the_prevalence():
    assert net_benefit(Y, np.ones(10), 0.2) == pytest.approx(0)


def test_weights_are_copies_and_nothing_is_undefined():
    weights = np.random.default_rng(0).integers(0, 4, (5, 10))
    expected = [net_benefit(np.repeat(Y, w), np.repeat(P, w), 0.25) for w in weights]
    np.testing.assert_allclose(net_benefit(Y, P, 0.25, weights), expected)
    assert np.isnan(net_benefit(Y, P, 0.25, np.zeros(10)))
    for wrong in (0, 1, -0.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            net_benefit(Y, P, wrong)
    with pytest.raises(ValueError, match="outside"):
        net_benefit(Y, P * 2, 0.5)
