"""Balanced targets: the invariants that each way promises."""

import torch

from raddino.ssl.centering import SinkhornKnopp, SoftmaxCentering


def test_sinkhorn_rows_are_distributions_and_prototypes_are_used_equally():
    logits = torch.randn(64, 8)
    targets = SinkhornKnopp(iterations=50)(logits, 0.5)
    torch.testing.assert_close(targets.sum(1), torch.ones(64))
    torch.testing.assert_close(targets.sum(0), torch.full((8,), 8.0), rtol=1e-3, atol=1e-3)


def test_sinkhorn_ignores_a_prototype_that_all_prefer():
    logits = torch.randn(32, 6)
    favoured = logits + torch.tensor([3.0, 0, 0, 0, 0, 0])
    many = SinkhornKnopp(iterations=200)
    torch.testing.assert_close(many(logits, 0.5), many(favoured, 0.5), rtol=1e-3, atol=1e-4)


def test_centre_is_that_of_earlier_calls():
    centering = SoftmaxCentering(5, momentum=0.9)
    first, second = torch.randn(2, 8, 5)
    torch.testing.assert_close(centering(first, 0.1), (first / 0.1).softmax(-1))
    centre = 0.1 * first.mean(0)
    torch.testing.assert_close(centering(second, 0.1), ((second - centre) / 0.1).softmax(-1))
    torch.testing.assert_close(centering.center[0], 0.9 * centre + 0.1 * second.mean(0))
