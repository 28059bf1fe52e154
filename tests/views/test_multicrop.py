"""Plans and rendered views: order, ranges, and independence of batch mates."""

import pytest
import torch

from raddino.config import validate
from raddino.errors import ConfigError
from raddino.views import Multicrop, ViewPlan, ViewsConfig
from raddino.views.randomness import generator, integer

CONFIG = ViewsConfig(global_size=32, local_size=16, local_views=3, solarize=0.5)


def stacked(positions: range, config: ViewsConfig = CONFIG) -> ViewPlan:
    return ViewPlan.stack([ViewPlan.draw(config, 60, 50, seed=7, position=p) for p in positions])


def test_a_samples_views_do_not_depend_on_its_batch():
    images = torch.rand(5, 60, 50, generator=torch.Generator().manual_seed(0))
    multicrop = Multicrop(CONFIG)
    together = multicrop(images, stacked(range(10, 15)))
    alone = multicrop(images[2:3], stacked(range(12, 13)))
    for whole, single, views in zip(together, alone, (2, 3), strict=True):
        torch.testing.assert_close(whole.unflatten(0, (views, 5))[:, 2], single.unflatten(0, (views, 1))[:, 0])


def test_shapes_and_normalisation():
    global_crops, local_crops = Multicrop(CONFIG)(torch.full((4, 60, 50), 0.25), stacked(range(4)))
    assert global_crops.shape == (8, 1, 32, 32)
    assert local_crops.shape == (12, 1, 16, 16)
    plain = CONFIG.model_copy(update={"jitter": 0.0, "solarize": 0.0})
    views, _ = Multicrop(plain)(torch.full((4, 60, 50), 0.25), stacked(range(4), plain))
    torch.testing.assert_close(views, torch.full_like(views, (0.25 - CONFIG.mean) / CONFIG.std))


def test_no_local_views():
    config = CONFIG.model_copy(update={"local_views": 0})
    assert Multicrop(config)(torch.rand(2, 60, 50), stacked(range(2), config))[1] is None


def test_probabilities_mean_what_they_say():
    plan = stacked(range(2000), ViewsConfig(blur=(0.5, 0.1, 0.3), local_views=2, solarize=0.2))
    blurred = (plan.sigma > 0).float().mean(0)
    torch.testing.assert_close(blurred, torch.tensor([0.5, 0.1, 0.3, 0.3]), rtol=0, atol=0.04)
    solarized = plan.solarize.float().mean(0)
    torch.testing.assert_close(solarized, torch.tensor([0, 0.2, 0, 0]), rtol=0, atol=0.04)
    assert plan.flip.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (plan.brightness != 1).float().mean().item() == pytest.approx(0.8, abs=0.03)


def test_streams_are_reproducible_and_apart():
    assert generator(3, "views", 9).random() == generator(3, "views", 9).random()
    drawn = {generator(seed, purpose, p).random() for seed in (0, 1) for purpose in ("views", "order") for p in (0, 1)}
    assert len(drawn) == 8
    assert integer(0, "weights") != integer(1, "weights")


@pytest.mark.parametrize("scale", [(0.5, 0.2), (0.0, 0.5), (0.5, 1.2)])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(ConfigError, match="crop scale"):
        validate(ViewsConfig, {"global_scale": scale})
