"""Balanced targets: the invariants that each way promises."""

import pytest
import torch

from raddino.ssl.centering import SinkhornKnopp, SoftmaxCentering


def test_sinkhorn_rows_are_distributions_and_prototypes_are_used_equally():
    logits = torch.randn(64, 8)
    targets = SinkhornKnopp(iterations=50)(logits, 0.5)
    torch.testing.assert_close(targets.sum(1), torch.ones(64))
    torch.testing.assert_close(targets.sum(0), torch.full((8,), 8.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_is_its_definition(iterations):
    """Equal totals of prototypes, then of rows, the plan rewritten each time (SwAV, listing 1)."""
    logits = torch.randn(9, 7, dtype=torch.float64)
    plan = (logits / 0.5).exp()
    plan /= plan.sum()
    for _ in range(iterations):
        plan /= plan.sum(0, keepdim=True) * 7
        plan /= plan.sum(1, keepdim=True) * 9
    found = SinkhornKnopp(iterations)(logits, 0.5).double()
    torch.testing.assert_close(found, plan * 9, rtol=1e-5, atol=1e-7)


def test_sinkhorn_ignores_a_prototype_that_all_prefer():
    logits = torch.randn(32, 6)
    favoured = logits + torch.tensor([3.0, 0, 0, 0, 0, 0])
    many = SinkhornKnopp(iterations=200)
    torch.testing.assert_close(many(logits, 0.5), many(favoured, 0.5), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("temperature", "gain"), [(0.01, 1), (0.002, 1), (0.04, 4), (0.02, 2)])
def test_sinkhorn_survives_cold_temperatures_and_large_logits(temperature, gain):
    cosines = torch.nn.functional.normalize(torch.randn(16, 12), dim=1) * gain
    targets = SinkhornKnopp()(cosines, temperature)
    torch.testing.assert_close(targets.sum(1), torch.ones(16))


def test_centre_is_that_of_earlier_calls():
    centering = SoftmaxCentering(5, momentum=0.9)
    first, second = torch.randn(2, 8, 5)
    torch.testing.assert_close(centering(first, 0.1), (first / 0.1).softmax(-1))
    centering.update()
    centre = 0.1 * first.mean(0)
    torch.testing.assert_close(centering(second, 0.1), ((second - centre) / 0.1).softmax(-1))
    centering.update()
    torch.testing.assert_close(centering.center[0], 0.9 * centre + 0.1 * second.mean(0))


def test_micro_batches_move_the_centre_once():
    halves, whole = SoftmaxCentering(5, momentum=0.9), SoftmaxCentering(5, momentum=0.9)
    logits = torch.randn(8, 5)
    whole(logits, 0.1)
    for half in logits.chunk(2):
        halves(half, 0.1)
    halves.update()
    whole.update()
    torch.testing.assert_close(halves.center, whole.center)
