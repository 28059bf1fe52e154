"""The task beyond the golden replay: switches, edge cases, and who receives gradients."""

import pytest
import torch

from raddino.ssl import SelfDistillation, SslConfig, Views
from raddino.ssl.gram import GramConfig
from raddino.ssl.head import HeadConfig
from raddino.ssl.losses import kde
from raddino.vit import VitConfig

VIT = VitConfig(embed_dim=16, depth=2, num_heads=2, patch_size=4, image_size=16, layerscale_init=0.5)
HEAD = HeadConfig(prototypes=12, hidden=16, bottleneck=8)


def task(**changes) -> SelfDistillation:
    config = SslConfig(head=HEAD, **changes)
    return SelfDistillation(VIT, config).init_weights(torch.Generator().manual_seed(0)).double().train()


def views(local: int = 3, masked: bool = True) -> Views:
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(8, 16, generator=generator) < (0.3 if masked else 0.0)
    crops = torch.randn(8, 1, 16, 16, generator=generator).double()
    small = torch.randn(local * 4, 1, 8, 8, generator=generator).double()
    return Views.build(crops, small, masks)


@pytest.mark.parametrize("centering", ["softmax", "sinkhorn_knopp"])
@pytest.mark.parametrize("separate", [False, True])
def test_gradients_reach_the_student_only(centering, separate):
    model = task(centering=centering, ibot_head=HeadConfig(prototypes=7, hidden=16, bottleneck=8) if separate else None)
    model(views(), 0.05).total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.student.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())


def test_without_masks_and_without_local_views_the_rest_is_finite():
    losses = task()(views(masked=False), 0.05)
    assert losses.ibot.item() == 0
    assert torch.isfinite(losses.total)
    losses = task()(views(local=0), 0.05)
    assert losses.dino_local.item() == 0
    assert torch.isfinite(losses.total)


def test_masked_modelling_switched_off_leaves_the_images_unmasked():
    seen = task(ibot_weight=0.0)(views(), 0.05)
    unmasked = task()(views(masked=False), 0.05)
    torch.testing.assert_close(seen.dino_global, unmasked.dino_global)


def test_total_is_the_weighted_sum_of_what_is_shown():
    losses = task(dino_weight=0.7, ibot_weight=1.3, koleo_weight=0.2)(views(), 0.05)
    expected = 0.7 * (losses.dino_local + losses.dino_global) + 2 * losses.koleo + 1.3 * 2 * losses.ibot
    torch.testing.assert_close(losses.total, expected)


def test_kde_takes_the_place_of_koleo_by_weight():
    plain, off = task(koleo_weight=0.0)(views(), 0.05), task()(views(), 0.05)
    model = task(koleo_weight=0.0, kde_weight=0.05, kde_concentration=3.0)
    losses = model(views(), 0.05)
    cls = model.student.backbone(views().global_crops, views().masks).cls
    expected = 0.05 * (kde(cls[:4], 3.0) + kde(cls[4:], 3.0))
    torch.testing.assert_close(losses.terms()["kde"], expected)
    torch.testing.assert_close(losses.total, plain.total + expected)
    assert off.terms().keys() == {"loss", "dino_local", "dino_global", "koleo", "ibot"}
    model(views(), 0.05).total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.student.parameters())


def test_teacher_is_a_moving_average():
    model = task()
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in model.teacher.parameters()]
    model.update_teacher(0.9)
    for old, new in zip(before, model.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)


def test_teacher_has_no_stochastic_depth():
    model = SelfDistillation(VIT.model_copy(update={"drop_path": 0.9}), SslConfig(head=HEAD)).init_weights().train()
    images = torch.randn(4, 1, 16, 16)
    assert torch.equal(model.teacher.backbone(images).cls, model.teacher.backbone(images).cls)


def gradients(model: SelfDistillation, seen: Views) -> dict[str, torch.Tensor]:
    """Of the student, with the terms of the loss, the targets and where the centres have moved."""
    losses = model(seen, 0.05, torch.Generator().manual_seed(3))
    losses.total.backward()
    model.update_centers()
    centers = {name: value for name, value in model.named_buffers() if name.endswith("center")}
    found = losses.terms() | centers | {"targets": losses.targets, "predictions": losses.predictions}
    return found | {name: p.grad for name, p in model.student.named_parameters()}


@pytest.mark.parametrize("rows", [60, 128], ids=["a few more", "every patch"])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("centering", ["softmax", "sinkhorn_knopp"])
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "no mask"])
def test_more_rows_for_the_heads_change_nothing(rows, separate, centering, masked):
    """Not a term, a target, a centre or a gradient, whatever the heads make of the further rows."""
    plain, further = views(masked=masked), views(masked=masked)
    further = Views.build(further.global_crops, further.local_crops, further.masks, None, rows)
    assert len(plain.masked_rows) < len(further.masked_rows) == rows
    assert torch.equal(further.masked_rows[: len(plain.masked_rows)], plain.masked_rows)
    assert len(further.masked_rows.unique()) == rows, "no token is taken twice: its gradient would be summed in turn"
    head = HeadConfig(prototypes=7, hidden=16, bottleneck=8) if separate else None
    found, expected = (
        gradients(task(centering=centering, ibot_head=head, gram=GramConfig(weight=0.1)), seen)
        for seen in (further, plain)
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:
            assert found[name] is None
        else:
            torch.testing.assert_close(
                found[name], value, rtol=1e-12, atol=1e-14, msg=lambda said, of=name: f"{of}: {said}"
            )


def test_fewer_rows_than_masked_patches_are_refused():
    seen = views()
    count = len(seen.masked_rows)
    assert len(Views.build(seen.global_crops, None, seen.masks, None, count).masked_rows) == count
    with pytest.raises(ValueError, match=f"{count} patches are masked, more than rows {count - 1}"):
        Views.build(seen.global_crops, None, seen.masks, None, count - 1)
