"""Plans and rendered views: order, ranges, and independence of batch mates."""

from functools import partial

import numpy as np
import pytest
import torch
from tests.views.test_crop import dense_matrix as dense
from torchvision.transforms.v2 import functional as tv

from raddino.config import validate
from raddino.errors import ConfigError
from raddino.views import Multicrop, ViewPlan, ViewsConfig, multicrop
from raddino.views.crop import crop_taps, random_boxes, resample
from raddino.views.photometric import blur, jitter, solarize
from raddino.views.randomness import generator, integer

CONFIG = ViewsConfig(global_size=32, local_size=16, local_views=3, solarize=0.5)
XRAY = CONFIG.model_copy(update={"rotate": 10.0, "translate": 0.1, "window": 0.3})


def stacked(positions: range, config: ViewsConfig = CONFIG) -> ViewPlan:
    return ViewPlan.stack([ViewPlan.draw(config, 60, 50, seed=7, position=p) for p in positions])


@pytest.mark.parametrize("config", [CONFIG, XRAY])
def test_a_samples_views_do_not_depend_on_its_batch(config):
    images = torch.rand(5, 60, 50, generator=torch.Generator().manual_seed(0))
    together = Multicrop(config)(images, stacked(range(10, 15), config))
    alone = Multicrop(config)(images[2:3], stacked(range(12, 13), config))
    for whole, single, views in zip(together, alone, (2, 3), strict=True):
        torch.testing.assert_close(whole.unflatten(0, (views, 5))[:, 2], single.unflatten(0, (views, 1))[:, 0])


@pytest.mark.parametrize("config", [CONFIG, XRAY])
@pytest.mark.parametrize("cached", [1, 5000, 2**30])
def test_views_do_not_depend_on_how_many_are_made_at_once(monkeypatch, cached, config):
    images = torch.randint(0, 256, (5, 60, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = Multicrop(config)(images, stacked(range(5), config))
    monkeypatch.setattr(multicrop, "CACHED", cached)
    for one, other in zip(Multicrop(config)(images, stacked(range(5), config)), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", [CONFIG, XRAY])
def test_bytes_are_grey_values_in_0_to_1(config):
    images = torch.randint(0, 256, (3, 60, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plan, render = stacked(range(3), config), Multicrop(config)
    for one, other in zip(render(images, plan), render(images / 255, plan), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


def test_views_are_crop_jitter_blur_solarisation_and_normalisation_in_this_order():
    config = CONFIG.model_copy(update={"blur": (0.5, 0.5, 0.5)})
    images = torch.rand(6, 60, 50, generator=torch.Generator().manual_seed(0))
    plan = stacked(range(6), config)
    found = torch.cat([views.flatten(1).sum(1) for views in Multicrop(config)(images, plan)])
    assert plan.solarize.any()
    expected = []
    for v in range(5):
        for b in range(6):
            across, down = crop_taps(
                plan.boxes[b, v][None, None], plan.flip[b, v][None, None], 32 if v < 2 else 16, torch.ones(1, 1), 60
            )
            view = resample(images[b : b + 1].transpose(1, 2).contiguous(), across, down)[0].clamp(0, 1)
            view = jitter(view, *(x[b, v][None] for x in (plan.brightness, plan.contrast, plan.contrast_first)))
            view = blur(view, plan.sigma[b, v][None]) if plan.sigma[b, v] else view
            view = solarize(view) if plan.solarize[b, v] else view
            expected.append(((view - config.mean) / config.std).sum())
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=2e-3)


@pytest.mark.parametrize("cached", [1, 2**30])
def test_every_pixel_is_that_of_dense_products_and_torchvision(monkeypatch, cached):
    """Whether the views made at once are all blurred, none of them, or some."""
    monkeypatch.setattr(multicrop, "CACHED", cached)
    config = CONFIG.model_copy(update={"blur": (0.5, 0.5, 0.5)})
    images = torch.rand(6, 60, 50, generator=torch.Generator().manual_seed(0))
    plan = stacked(range(6), config)
    for kind, first, size in zip(Multicrop(config)(images, plan), (0, 2), (32, 16), strict=True):
        for v, views in enumerate(kind.unflatten(0, (-1, 6)), first):
            for b, view in enumerate(views):
                top, left, h, w = plan.boxes[b, v].tolist()
                rows, columns = dense(top, h, 60, size, False), dense(left, w, 50, size, bool(plan.flip[b, v]))
                expected = (rows.double() @ images[b].double() @ columns.double().T).float().clamp(0, 1)[None]
                brighter = partial(tv.adjust_brightness, brightness_factor=plan.brightness[b, v].item())
                starker = partial(tv.adjust_contrast, contrast_factor=plan.contrast[b, v].item())
                for change in (starker, brighter) if plan.contrast_first[b, v] else (brighter, starker):
                    expected = change(expected)
                if plan.sigma[b, v]:
                    expected = tv.gaussian_blur(expected, [9, 9], [plan.sigma[b, v].item()] * 2)
                if plan.solarize[b, v]:
                    expected = tv.solarize(expected, 0.5)
                torch.testing.assert_close(view, (expected - config.mean) / config.std, rtol=0, atol=1e-5)


def test_plans_stay_as_published_runs_had_them():
    """Draw by draw: boxes of the global and of the local views, jitter, blur, solarisation, flip, the factors."""
    for position in range(20):
        plan, rng = ViewPlan.draw(CONFIG, 60, 50, 7, position), generator(7, "views", position)
        boxes = [random_boxes(rng, 2, 60, 50, CONFIG.global_scale), random_boxes(rng, 3, 60, 50, CONFIG.local_scale)]
        assert np.array_equal(plan.boxes, np.concatenate(boxes))
        jittered, blurred = rng.random(5) < CONFIG.jitter, rng.random(5) < [0.5, 0.1, 0.5, 0.5, 0.5]
        assert plan.solarize.tolist() == [at == 1 and draw < 0.5 for at, draw in enumerate(rng.random(5))]
        assert plan.flip.tolist() == (rng.random(5) < CONFIG.flip).tolist()
        for strength, found in ((CONFIG.brightness, plan.brightness), (CONFIG.contrast, plan.contrast)):
            factor = np.where(jittered, rng.uniform(1 - strength, 1 + strength, 5), 1).astype(np.float32)
            assert np.array_equal(found, factor)
        assert plan.contrast_first.tolist() == (rng.random(5) < 0.5).tolist()
        assert np.array_equal(plan.sigma, np.where(blurred, rng.uniform(0.1, 2.0, 5), 0).astype(np.float32))


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
