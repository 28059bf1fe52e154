"""Gram anchoring: its loss by hand, when it looks and at whom, and nothing where it is off."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from raddino.config import validate
from raddino.errors import ConfigError
from raddino.ssl import SelfDistillation, SslConfig, Views
from raddino.ssl.gram import GramConfig, gram_loss
from raddino.training.optimizer import OptimConfig, build_optimizer
from raddino.training.schedule import StepValues
from raddino.training.settings import PretrainConfig
from raddino.training.step import train_step
from raddino.views import Multicrop, ViewPlan, ViewsConfig
from raddino.vit import VitConfig

VIT = VitConfig(embed_dim=16, depth=2, num_heads=2, patch_size=4, image_size=16, layerscale_init=0.5)


def task(**gram) -> SelfDistillation:
    """A task whose student and Gram teacher differ from its teacher."""
    config = SslConfig(head={"prototypes": 12, "hidden": 16, "bottleneck": 8}, gram=gram)
    model = SelfDistillation(VIT, config).init_weights(torch.Generator().manual_seed(0)).double().train()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for part in (model.student.backbone, *([model.gram.teacher] if model.gram else [])):
            for parameter in part.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.1)
    return model


def views(gram: int | None = None) -> Views:
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(8, 16, generator=generator) < 0.3
    crops = torch.randn(8, 1, 16, 16, generator=generator, dtype=torch.float64)
    small = torch.randn(8, 1, 8, 8, generator=generator, dtype=torch.float64)
    large = None if gram is None else torch.randn(8, 1, gram, gram, generator=generator, dtype=torch.float64)
    return Views.build(crops, small, masks, large)


def gradients(model: SelfDistillation, step: int) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(views(), 0.05, step=step).total.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def frobenius(patches: torch.Tensor, target: torch.Tensor) -> float:
    """The paper's formula over N^2, image by image."""
    found = []
    for student, teacher in zip(patches.detach().numpy(), target.detach().numpy(), strict=True):
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (student, teacher))
        found.append(np.linalg.norm(x @ x.T - y @ y.T, "fro") ** 2 / len(x) ** 2)
    return float(np.mean(found))


def test_the_loss_is_the_papers_over_the_number_of_pairs():
    a, b = torch.randn(2, 3, 10, 6, dtype=torch.float64)
    assert gram_loss(a, b).item() == pytest.approx(frobenius(a, b), rel=1e-12)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    torch.testing.assert_close(gram_loss(3 * a @ turn, b), gram_loss(a, b))
    assert gram_loss(a @ turn, a).item() == pytest.approx(0, abs=1e-25)


def test_the_loss_is_never_in_half_precision():
    a, b = torch.randn(2, 3, 10, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = gram_loss(a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), gram_loss(a.double(), b.double()), rtol=1e-5, atol=0)


def test_the_term_compares_masked_student_patches_with_those_of_the_gram_teacher():
    model, seen = task(weight=1.5), views()
    losses, plain = model(seen, 0.05), task()(seen, 0.05)
    student = model.student.backbone(seen.global_crops, seen.masks).patches
    teacher = model.gram.teacher(seen.global_crops).patches
    expected = 1.5 * frobenius(student, teacher)
    assert losses.terms()["gram"].item() == pytest.approx(expected, rel=1e-9)
    assert losses.total.item() == pytest.approx(plain.total.item() + expected, rel=1e-9)
    for name, term in plain.terms().items():
        assert name == "loss" or torch.allclose(losses.terms()[name], term, rtol=1e-12), name


def test_off_or_before_its_start_the_step_is_the_plain_one_to_the_bit():
    plain = gradients(task(), step=0)
    assert "gram" not in task()(views(), 0.05).terms()
    waiting = gradients(task(weight=2.0, start=10), step=9)
    assert plain.keys() == waiting.keys()
    assert all(torch.equal(plain[name], waiting[name]) for name in plain)
    begun = gradients(task(weight=2.0, start=10), step=10)
    assert not torch.equal(
        begun["student.backbone.blocks.1.attn.qkv.weight"], plain["student.backbone.blocks.1.attn.qkv.weight"]
    )
    assert {name.partition(".")[0] for name in begun} == {"student"}
    assert all(torch.isfinite(gradient).all() for gradient in begun.values())


@pytest.mark.parametrize(
    ("start", "every", "expected"), [(0, None, [0]), (2, 3, [2, 5, 8]), (4, None, [4]), (0, 1, list(range(10)))]
)
def test_when_the_gram_teacher_is_renewed(start, every, expected):
    config = GramConfig(weight=1, start=start, every=every)
    assert [step for step in range(10) if config.renews(step)] == expected
    assert [step for step in range(10) if config.begun(step)] == list(range(start, 10))
    assert not any(GramConfig(start=start).begun(step) for step in range(10))


def test_steps_renew_the_gram_teacher_with_the_teacher_before_them():
    model = task(weight=1.0, start=1, every=2)
    optimizer = build_optimizer(model.student, OptimConfig())
    copies, held = [], []
    for step in range(5):
        copies.append(model.teacher.backbone.cls_token.clone())
        values = StepValues(1e-2, 1e-2, 1e-2, 0.0, 0.5, 0.05, step=step)
        train_step(model, optimizer, [views()], 1, values, 3.0)
        held.append(model.gram.teacher.cls_token.clone())
    for step, taken in ((1, 1), (2, 1), (3, 3), (4, 3)):
        assert torch.equal(held[step], copies[taken]), step
    assert not torch.equal(copies[1], copies[3])
    assert not model.gram.teacher.cls_token.requires_grad


def test_a_gram_teacher_with_larger_views_is_brought_to_the_students_grid():
    model, seen = task(weight=1.0, size=32), views(32)
    student = model.student.backbone(seen.global_crops, seen.masks).patches
    teacher = model.gram.teacher(seen.gram_crops).patches
    grid = interpolate(teacher.transpose(1, 2).reshape(8, 16, 8, 8), size=(4, 4), mode="bicubic")
    expected = frobenius(student, grid.flatten(2).transpose(1, 2))
    assert model(seen, 0.05).terms()["gram"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("pose", "tolerance"), [({}, 1e-6), ({"rotate": 10.0, "translate": 0.1}, 0.05)])
def test_larger_views_show_the_same_part_of_the_image_without_changes_of_grey(pose, tolerance):
    """On a smooth image: frames of turned crops have another pixel size."""
    config = ViewsConfig(global_size=32, local_size=16, solarize=1.0, window=0.5, **pose)
    y, x = torch.meshgrid(torch.arange(90) / 9, torch.arange(80) / 7, indexing="ij")
    images = (0.5 + 0.4 * (y.sin() * x.cos())).expand(3, -1, -1)

    def drawn(one: ViewsConfig) -> ViewPlan:
        return ViewPlan.stack([ViewPlan.draw(one, 90, 80, 0, position) for position in range(3)])

    plan = drawn(config)
    before = plan.solarize.clone()
    found = Multicrop(config).undistorted(images, plan, 64)
    plain = {"jitter": 0.0, "blur": (0, 0, 0), "solarize": 0.0, "window": 0.0, "global_size": 64}
    clean = config.model_copy(update=plain)
    expected = Multicrop(clean)(images, drawn(clean))[0]
    assert found.shape == (6, 1, 64, 64)
    torch.testing.assert_close(found[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8], rtol=0, atol=tolerance)
    assert torch.equal(plan.solarize, before)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"weight": -1}, "weight"), ({"start": -1}, "start"), ({"every": 0}, "every"), ({"size": 0}, "size"),
        ({"weight": float("inf")}, "weight"), ({"size": 36}, r"ssl\.gram\.size 36 is no multiple of patch_size 14"),
        ({"refresh": 5}, "unknown config key"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(values, words):
    with pytest.raises(ConfigError, match=words) as refused:
        validate(PretrainConfig, {"ssl": {"gram": values}})
    assert "\n" not in str(refused.value)
