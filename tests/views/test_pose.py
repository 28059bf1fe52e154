"""Turned and shifted crops and intensity windows: against closed forms, and nothing where they are off."""

import math

import numpy as np
import pytest
import torch

from raddino.config import validate
from raddino.errors import ConfigError
from raddino.views import Multicrop, ViewPlan, ViewsConfig
from raddino.views.multicrop import BLUR_SIGMA
from raddino.views.pose import frame_size, frames

PLAIN = {"jitter": 0.0, "blur": (0, 0, 0), "solarize": 0.0, "mean": 0.0, "std": 1.0}
HEIGHT, WIDTH = 240, 200
SIZES = {"global_size": 64, "local_size": 32, "local_views": 2}


def config(**changes) -> ViewsConfig:
    return validate(ViewsConfig, PLAIN | SIZES | changes)


def plans(views: ViewsConfig, count: int, height: int = HEIGHT, width: int = WIDTH) -> ViewPlan:
    return ViewPlan.stack([ViewPlan.draw(views, height, width, seed=5, position=p) for p in range(count)])


def wave(y, x):
    """A smooth image as a function of continuous coordinates; pixel k lies from k to k + 1."""
    return 0.5 + 0.2 * np.sin(y / 17 + 0.3) + 0.2 * np.cos(x / 23 - y / 41)


def places(plan: ViewPlan, b: int, v: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in the image each pixel's middle of a view lies, by hand."""
    top, left, h, w = plan.boxes[b, v].tolist()
    down, right = plan.shift[b, v].tolist()
    steps = (np.arange(size) + 0.5) / size - 0.5
    dy, dx = steps[:, None] * h, (-steps if plan.flip[b, v] else steps)[None] * w
    angle = math.radians(plan.turn[b, v].item())
    y = top + h / 2 + down * h + dy * math.cos(angle) + dx * math.sin(angle)
    x = left + w / 2 + right * w + dx * math.cos(angle) - dy * math.sin(angle)
    return y, x


def rendered(views: ViewsConfig, images: torch.Tensor, plan: ViewPlan):
    """(sample, view, size, pixels) of each view."""
    count = len(images)
    for kind, first in zip(Multicrop(views)(images, plan), (0, 2), strict=True):
        for v, view in enumerate(kind.unflatten(0, (-1, count))):
            for b in range(count):
                yield b, first + v, view.shape[-1], view[b, 0].numpy()


@pytest.mark.parametrize("changes", [{"rotate": 15.0}, {"translate": 0.2}, {"rotate": 30.0, "translate": 0.1}])
def test_pixels_are_those_of_the_turned_and_shifted_box(changes):
    views = config(**changes)
    plan = plans(views, 6)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    images = torch.from_numpy(wave(y, x)).float().expand(6, -1, -1)
    compared = 0
    for b, v, size, view in rendered(views, images, plan):
        y, x = places(plan, b, v, size)
        edge = 3 * plan.boxes[b, v, 2:].max().item() / size
        inside = (y > edge) & (y < HEIGHT - edge) & (x > edge) & (x < WIDTH - edge)
        np.testing.assert_allclose(view[inside], wave(y, x)[inside], atol=8e-3)
        compared += inside.sum()
    assert compared > 0.7 * 6 * (2 * 64**2 + 2 * 32**2)


@pytest.mark.parametrize("changes", [{"rotate": 30.0}, {"translate": 0.4}, {"rotate": 20.0, "translate": 0.4}])
def test_black_lies_where_there_is_no_image_and_nowhere_else(changes):
    """On a white image, also where its batch mates are larger."""
    views = config(global_scale=(0.5, 1.0), **changes)
    plan = plans(views, 4)
    images = torch.zeros(4, HEIGHT + 90, WIDTH + 50)
    images[:, :HEIGHT, :WIDTH] = 1
    black = 0
    for b, v, size, view in rendered(views, images, plan):
        y, x = places(plan, b, v, size)
        edge = 3 * plan.boxes[b, v, 2:].max().item() / size
        depth = np.minimum(np.minimum(y, HEIGHT - y), np.minimum(x, WIDTH - x))
        np.testing.assert_allclose(view[depth > edge], 1, atol=1e-5)
        np.testing.assert_allclose(view[depth < -edge], 0, atol=1e-5)
        black += (depth < -edge).sum()
    assert black > 100


def test_a_turn_of_nearly_nothing_is_the_plain_view():
    """But for one more resampling: its cubic is torch's sharper one (-0.75)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    images = torch.from_numpy(wave(y, x)).float()[None]
    off, on = config(), config(rotate=1e-6)
    for one, other in zip(Multicrop(off)(images, plans(off, 1)), Multicrop(on)(images, plans(on, 1)), strict=True):
        torch.testing.assert_close(one[..., 4:-4, 4:-4], other[..., 4:-4, 4:-4], rtol=0, atol=8e-3)


def test_options_change_nothing_else_that_is_drawn_and_not_each_other():
    base = {"jitter": 0.8, "blur": (0.5, 0.5, 0.5), "solarize": 0.2}
    options = {"rotate": 10.0, "translate": 0.1, "window": 0.3}
    fields = {"rotate": "turn", "translate": "shift", "window": "window"}
    off, on = plans(config(**base), 20), plans(config(**base, **options), 20)
    for name in ("boxes", "flip", "brightness", "contrast", "contrast_first", "sigma", "solarize"):
        assert torch.equal(getattr(off, name), getattr(on, name)), name
    for option, field in fields.items():
        alone = plans(config(**base, **{option: options[option]}), 20)
        assert torch.equal(getattr(alone, field), getattr(on, field))
        for other in fields.values():
            assert other == field or torch.equal(getattr(alone, other), getattr(off, other)), (option, other)
    assert on.sigma.max() <= BLUR_SIGMA[1]


def test_off_is_no_turn_no_shift_no_window():
    plan = plans(config(), 10)
    assert not plan.turn.any()
    assert not plan.shift.any()
    assert torch.equal(plan.frames, plan.boxes)
    assert plan.window.unique().tolist() == [0, 1]


def test_what_is_drawn_fills_its_range_and_no_more():
    plan = plans(config(rotate=10.0, translate=0.2, window=0.4), 500)
    black, white = plan.window.unbind(-1)
    for found, limit in ((plan.turn, 10), (plan.shift[..., 0], 0.2), (plan.shift[..., 1], 0.2)):
        assert found.abs().max() <= limit
        assert found.min() < -0.98 * limit
        assert found.max() > 0.98 * limit
        assert abs(found.mean()) < 0.05 * limit
    hidden = 1 - (white - black)
    assert 0.39 < hidden.max() <= 0.4
    assert hidden.mean().item() == pytest.approx(0.2, abs=0.01)
    assert black.min() >= 0
    assert white.max() <= 1
    assert (black / hidden).mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_window_spreads_what_lies_in_it_over_all_grey_values(dtype):
    """Against the plain views: clipped, spread, and only then changed by brightness and contrast."""
    jitter = {"jitter": 1.0, "brightness": 0.3, "contrast": 0.0}
    images = torch.randint(0, 256, (4, HEIGHT, WIDTH), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = images if dtype == torch.uint8 else images / 255
    views = config(window=0.6, **jitter)
    plan, plain = plans(views, 4), config()
    expected = {(b, v): view for b, v, _, view in rendered(plain, images, plans(plain, 4))}
    for b, v, _, view in rendered(views, images, plan):
        black, white = plan.window[b, v].tolist()
        spread = ((expected[b, v] - black) / (white - black)).clip(0, 1)
        brighter = (spread * plan.brightness[b, v].item()).clip(0, 1)
        inner = (expected[b, v] > 0) & (expected[b, v] < 1)
        np.testing.assert_allclose(view[inner], brighter[inner], atol=1e-4)


def test_frames_hold_what_is_shown_and_stay_inside_the_image():
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (3, 500), (500, 3), (64, 48)):
        h, w = rng.integers(1, height + 1, 200), rng.integers(1, width + 1, 200)
        top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        boxes = np.stack([top, left, h, w], axis=1)
        turn, shift = rng.uniform(-30, 30, 200), rng.uniform(-0.499, 0.499, (200, 2))
        found = frames(boxes, turn, shift, np.full(200, 32), height, width)
        assert (found[:, 2:] > 0).all()
        assert (found[:, :2] >= 0).all()
        assert (found[:, :2] + found[:, 2:] <= [height, width]).all()
        angle = np.radians(turn)
        for sy, sx in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            dy, dx = sy * h / 2, sx * w / 2
            y = top + h / 2 + shift[:, 0] * h + dy * np.cos(angle) + dx * np.sin(angle)
            x = left + w / 2 + shift[:, 1] * w + dx * np.cos(angle) - dy * np.sin(angle)
            for place, low, length, most in (
                (y, found[:, 0], found[:, 2], height),
                (x, found[:, 1], found[:, 3], width),
            ):
                assert (place.clip(0, most) >= low - 1e-9).all()
                assert (place.clip(0, most) <= low + length + 1e-9).all()


@pytest.mark.parametrize(("size", "rotate"), [(224, 0.0), (224, 10.0), (518, 30.0), (14, 30.0)])
def test_pixels_of_a_frame_are_no_larger_than_those_of_its_view(size, rotate):
    rng = np.random.default_rng(1)
    sides = np.stack([rng.integers(300, 400, 100), rng.integers(300, 400, 100)], axis=1)
    boxes = np.concatenate([np.full((100, 2), 2000), sides], axis=1)
    turn = rng.uniform(-rotate, rotate, 100)
    found = frames(boxes, turn, np.zeros((100, 2)), np.full(100, size), 5000, 5000)
    assert (found[:, 2:] / frame_size(size, rotate) <= sides / size + 2 / frame_size(size, rotate)).all()


def test_smallest_images_and_all_options_at_once():
    views = config(rotate=30.0, translate=0.49, window=0.9, local_views=2)
    for height, width in ((1, 1), (2, 300), (300, 2)):
        plan = plans(views, 3, height, width)
        for *_, view in rendered(views, torch.rand(3, height, width), plan):
            assert np.isfinite(view).all()
            assert view.min() >= 0
            assert view.max() <= 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rotate": -1}, "rotate"), ({"rotate": 30.1}, "rotate"), ({"rotate": float("nan")}, "rotate"),
        ({"translate": -0.1}, "translate"), ({"translate": 0.5}, "translate"), ({"window": -0.1}, "window"),
        ({"window": 1.0}, "window"), ({"window": [0.1, 0.2]}, "window"), ({"rotation": 5}, "rotate"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(values, words):
    with pytest.raises(ConfigError, match=words) as refused:
        validate(ViewsConfig, values)
    assert "\n" not in str(refused.value)
