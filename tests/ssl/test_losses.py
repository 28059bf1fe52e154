"""Losses against torch's own cross-entropy and closed forms."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy as torch_cross_entropy

from raddino.ssl import losses
from raddino.ssl.losses import cross_entropy, kde, koleo, nearest_other


def test_cross_entropy_is_torchs():
    logits, targets = torch.randn(6, 9).double(), torch.randn(6, 9).double().softmax(-1)
    expected = torch_cross_entropy(logits / 0.1, targets, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, targets, 0.1), expected)


@pytest.mark.parametrize("chunk", [1, 20, 1 << 18])
@pytest.mark.parametrize("views", [(), (3,)], ids=["rows", "views of rows"])
def test_chunks_do_not_show(monkeypatch, chunk, views):
    monkeypatch.setattr(losses, "CACHED_CHUNK", chunk)
    logits = torch.randn(*views, 5, 7, dtype=torch.float64, requires_grad=True)
    targets, weights = torch.rand(5, 7, dtype=torch.float64), torch.rand(*views, 5, dtype=torch.float64)
    found = cross_entropy(logits, targets, 0.3)
    expected = -(targets * (logits / 0.3).log_softmax(-1)).sum(-1)
    torch.testing.assert_close(found, expected)
    (gradient,), (plain,) = (torch.autograd.grad((loss * weights).sum(), logits) for loss in (found, expected))
    torch.testing.assert_close(gradient, plain)


def test_no_rows_cost_nothing():
    logits = torch.zeros(0, 7, requires_grad=True)
    cross_entropy(logits, torch.zeros(0, 7), 0.1).sum().backward()
    assert logits.grad.shape == (0, 7)


def test_summed_targets_cost_both():
    logits = torch.randn(4, 9).double()
    a, b = torch.randn(2, 4, 9).double().softmax(-1)
    both = cross_entropy(logits, a + b, 0.2)
    torch.testing.assert_close(both, cross_entropy(logits, a, 0.2) + cross_entropy(logits, b, 0.2))


def test_bf16_logits_are_summed_in_float32():
    logits = torch.randn(4, 9).bfloat16()
    assert cross_entropy(logits, torch.full((4, 9), 1 / 9), 0.1).dtype == torch.float32


def test_koleo_of_points_on_a_circle():
    angles = torch.arange(6).double() * (2 * math.pi / 6)
    points = torch.stack([angles.cos(), angles.sin()], 1) * torch.arange(1, 7)[:, None]
    assert koleo(points).item() == pytest.approx(-math.log(1.0), abs=1e-7), "the hexagon's side is its radius"


def test_koleo_survives_equal_features():
    x = torch.ones(4, 8, requires_grad=True)
    koleo(x).backward()
    assert torch.isfinite(x.grad).all()


def test_nearest_other_is_never_itself():
    x = torch.randn(50, 8)
    cosines = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1).fill_diagonal_(-2)
    assert torch.equal(nearest_other(x), cosines.argmax(1))


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_koleo_is_torchs_pairwise_distance_with_the_published_epsilon(scale):
    features = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
    unit = torch.nn.functional.normalize(features, eps=1e-8, dim=-1)
    cosines = torch.nn.functional.cosine_similarity(features[:, None] / scale, features[None] / scale, dim=-1)
    nearest = unit[cosines.fill_diagonal_(-2).argmax(1)]
    expected = -torch.log(torch.nn.PairwiseDistance(2, eps=1e-8)(unit, nearest) + 1e-8).mean()
    torch.testing.assert_close(koleo(features), expected, rtol=1e-12, atol=0)


def test_koleo_of_equal_features_is_finite_in_closed_form():
    assert koleo(torch.ones(4, 9).double()).item() == pytest.approx(-math.log(1e-8 * (math.sqrt(9) + 1)), rel=1e-12)


def test_the_opposite_feature_is_another_one_too():
    generator = torch.Generator().manual_seed(0)
    for one in torch.randn(50, 7, generator=generator):
        assert nearest_other(torch.stack([one, -one])).tolist() == [1, 0]


def features(rows: int, width: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(rows), dtype=dtype)


@pytest.mark.parametrize("concentration", [0.5, 5.0, 40.0])
def test_kde_is_scikit_learns_density(concentration):
    """Its Gaussian kernel of squared bandwidth 1 / concentration, but for that kernel's own height."""
    from sklearn.neighbors import KernelDensity

    x = features(30, 4)
    unit = torch.nn.functional.normalize(x, dim=1).numpy()
    fitted = KernelDensity(bandwidth=concentration**-0.5).fit(unit)
    height = -2 * math.log(2 * math.pi / concentration)
    assert kde(x, concentration).item() == pytest.approx(fitted.score_samples(unit).mean() - height, rel=1e-9)


def test_kde_in_closed_form():
    assert kde(torch.ones(5, 3), 5.0).item() == pytest.approx(0, abs=1e-7)
    right_angles = kde(torch.eye(6).double() * torch.arange(1, 7)[:, None], 5.0)
    assert right_angles.item() == pytest.approx(math.log((1 + 5 * math.exp(-5)) / 6), rel=1e-12)


def test_kde_pushes_apart():
    x = features(20, 3).requires_grad_(True)
    before = kde(x, 5.0)
    before.backward()
    assert kde(x.detach() - 0.1 * x.grad, 5.0) < before


def test_kde_has_a_bounded_gradient_where_two_rows_are_nearly_the_same():
    rows = torch.ones(2, 8, dtype=torch.float64)
    rows[0, 0] += 1e-5
    slopes = []
    for loss in (lambda x: kde(x, 5.0), koleo):
        x = rows.clone().requires_grad_(True)
        loss(x).backward()
        slopes.append(x.grad.norm().item())
    assert slopes[0] < 1e-3
    assert slopes[1] > 1e4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kde_under_autocast_is_not_in_half_precision(dtype):
    x = features(16, 8, torch.float32).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = kde(x, 5.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), kde(x.double(), 5.0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("ranks", [2, 3])
def test_kde_on_several_ranks_is_that_of_one(monkeypatch, ranks):
    """Ranks played one after another: the mean of their losses, and of the gradients that all have for all rows."""
    whole = features(12, 5).requires_grad_(True)
    expected = kde(whole, 5.0)
    (gradient,) = torch.autograd.grad(expected, whole)
    found, gradients = [], []
    for rank in range(ranks):
        rows = whole.detach().clone().requires_grad_(True)
        monkeypatch.setattr(losses, "all_rows", lambda _, rows=rows: rows)
        monkeypatch.setattr(losses, "rank", lambda rank=rank: rank)
        found.append(kde(rows.chunk(ranks)[rank], 5.0))
        gradients += torch.autograd.grad(found[-1], rows)
    torch.testing.assert_close(torch.stack(found).mean(), expected)
    torch.testing.assert_close(torch.stack(gradients).mean(0), gradient)
