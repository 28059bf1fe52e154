"""Heads that guide: their losses in closed form, where their gradients go, and that watching changes nothing."""

import math

import pytest
import torch
from torch.nn.functional import smooth_l1_loss

from raddino.config import load_config, validate
from raddino.errors import ConfigError
from raddino.ssl import SelfDistillation, SslConfig, Views
from raddino.ssl.guides import Guide, ramp, scaled, with_accuracies
from raddino.vit import VitConfig

VIT = VitConfig(embed_dim=16, depth=2, num_heads=2, patch_size=4, image_size=16, layerscale_init=0.5)
HEAD = {"prototypes": 12, "hidden": 16, "bottleneck": 8}
GUIDES = (Guide("age", True, 1), Guide("maker", False, 3))
IMAGES = 4


def task(guides=GUIDES, **changes) -> SelfDistillation:
    config = SslConfig(head=HEAD, **({"guide_ramp_steps": 0, "guide_hidden": 0} | changes))
    return SelfDistillation(VIT, config, guides).init_weights(torch.Generator().manual_seed(0)).double().train()


def targets() -> torch.Tensor:
    """(4, 2, 2): an age of each image but the second, a maker of each but the last."""
    values = torch.tensor([[0.5, 2.0], [9.0, 0.0], [-1.5, 1.0], [0.1, 0.0]])
    weights = torch.tensor([[1.0, 0.5], [0.0, 2.0], [1.0, 1.5], [1.0, 0.0]])
    return torch.stack([values, weights], -1).double()


def views(given: torch.Tensor | None = None) -> Views:
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(2 * IMAGES, 16, generator=generator) < 0.3
    crops = torch.randn(2 * IMAGES, 1, 16, 16, generator=generator).double()
    small = torch.randn(3 * IMAGES, 1, 8, 8, generator=generator).double()
    return Views.build(crops, small, masks, targets=given)


def backward(model: SelfDistillation, seen: Views, step: int = 0):
    losses = model(seen, 0.05, torch.Generator().manual_seed(3), step)
    losses.total.backward()
    return losses, {name: p.grad for name, p in model.student.named_parameters()}


def huber(error: float) -> float:
    return 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5


def test_losses_are_the_weighted_sums_of_their_definitions():
    """Linear heads by hand, image by image, for both global views, masked as the student sees them."""
    model, seen, told = task(), views(targets()), targets().tolist()
    cls = model.student.backbone(seen.global_crops, seen.masks).cls
    losses = model(seen, 0.05)
    heads = {name: head[0] for name, head in model.student.guides.heads.items()}
    number = maker = correct = known = 0.0
    for at, feature in enumerate(cls):
        (age, weight), (kind, other) = told[at % IMAGES]
        number += weight * huber((feature @ heads["age"].weight[0] + heads["age"].bias[0]).item() - age)
        logits = (heads["maker"].weight @ feature + heads["maker"].bias).tolist()
        maker += other * (math.log(sum(map(math.exp, logits))) - logits[int(kind)])
        correct += other * (max(range(3), key=logits.__getitem__) == int(kind))
        known += other
    terms = {name: value.item() for name, value in losses.terms().items()}
    assert terms["guide_loss_age"] == pytest.approx(number / 8, rel=1e-9)
    assert terms["guide_loss_maker"] == pytest.approx(maker / 8, rel=1e-9)
    assert with_accuracies(terms)["guide_accuracy_maker"] == pytest.approx(correct / known)
    assert terms.keys() - with_accuracies(terms).keys() == {"guide_correct_maker", "guide_known_maker"}
    plain = task(())(views(), 0.05).total.item()
    assert terms["loss"] == pytest.approx(plain + number / 8 - maker / 8, rel=1e-9)


@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_the_backbone_descends_what_is_kept_and_ascends_what_is_removed(weight, hidden):
    """Against autograd of each head's loss by itself, no gradient of which is changed."""
    _, found = backward(task(guide_weight=weight, guide_hidden=hidden), views(targets()))
    _, plain = backward(task((), guide_hidden=hidden), views())
    own = task(guide_hidden=hidden).student
    cls = own.backbone(views().global_crops, views().masks).cls
    told = targets().repeat(2, 1, 1)
    age, maker = (own.guides.heads[name](cls) for name in ("age", "maker"))
    losses = {
        "age": (smooth_l1_loss(age[:, 0], told[:, 0, 0], reduction="none") * told[:, 0, 1]).mean(),
        "maker": (-maker.log_softmax(1)[range(8), told[:, 1, 0].long()] * told[:, 1, 1]).mean(),
    }
    backbone = dict(own.backbone.named_parameters())
    for name, loss in losses.items():
        heads = dict(own.guides.heads[name].named_parameters())
        grads = torch.autograd.grad(loss, list(heads.values()), retain_graph=True)
        for part, grad in zip(heads, grads, strict=True):
            torch.testing.assert_close(found[f"guides.heads.{name}.{part}"], grad)
    encoder = weight * (losses["age"] - losses["maker"])
    grads = torch.autograd.grad(encoder, list(backbone.values()), allow_unused=True)
    assert any(grad is not None and grad.abs().max() > 1e-6 for grad in grads)
    for name, grad in zip(backbone, grads, strict=True):
        expected = plain[f"backbone.{name}"] + (0 if grad is None else grad)
        torch.testing.assert_close(found[f"backbone.{name}"], expected, rtol=1e-6, atol=1e-10)
    for name, grad in plain.items():
        if not name.startswith("backbone."):
            assert torch.equal(found[name], grad)


def test_a_gradient_is_scaled_on_its_way_back_alone():
    for factor in (-2.0, 0.5):
        x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.equal(scaled(x, factor), x)
        scaled(x, factor).square().sum().backward()
        torch.testing.assert_close(x.grad, factor * 2 * x)
    assert not scaled(torch.ones(2, requires_grad=True), 0.0).requires_grad


@pytest.mark.parametrize(
    "off", [{"guide_weight": 0.0}, {"guide_ramp_steps": 10}], ids=["weight 0", "start of the ramp"]
)
def test_guides_without_strength_leave_the_step_as_it_is_to_the_bit(off):
    losses, found = backward(task(**off), views(targets()))
    plain, expected = backward(task(()), views())
    for name, value in plain.terms().items():
        assert torch.equal(losses.terms()[name], value), name
    for name, grad in expected.items():
        assert torch.equal(found.pop(name), grad), name
    assert {name.split(".")[0] for name in found} == {"guides"}
    assert all(grad.abs().max() > 0 for grad in found.values()), "the heads learn, to watch"


def test_guides_leave_every_other_initial_weight_as_it_is():
    guided, plain = task(guide_hidden=5).state_dict(), task(()).state_dict()
    assert all(torch.equal(guided.pop(name), value) for name, value in plain.items())
    assert all(name.startswith("student.guides.") for name in guided)
    weights = [value for name, value in guided.items() if name.endswith("weight")]
    assert len(weights) == 4
    assert all(0.01 < weight.std() < 0.03 for weight in weights)


def test_the_teacher_follows_by_name_and_has_no_guides():
    model = task()
    assert model.teacher.guides is None
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in model.teacher.parameters()]
    model.update_teacher(0.9)
    for old, new in zip(before, model.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)


def test_nothing_known_is_no_loss_no_gradient_and_no_accuracy():
    nothing = targets()
    nothing[..., 1] = 0
    losses, found = backward(task(), views(nothing))
    _, expected = backward(task(()), views())
    terms = with_accuracies({name: value.item() for name, value in losses.terms().items()})
    assert terms["guide_loss_age"] == terms["guide_loss_maker"] == 0
    assert math.isnan(terms["guide_accuracy_maker"])
    assert all(torch.equal(found[name], grad) for name, grad in expected.items())
    assert all(not found[name].any() for name in found if name.startswith("guides."))


def test_bfloat16_gives_losses_in_float32():
    model = task().float()
    seen = views(targets().float())
    seen.global_crops, seen.local_crops = seen.global_crops.float(), seen.local_crops.float()
    whole = model(seen, 0.05).terms()
    with torch.autocast("cpu", torch.bfloat16):
        terms = model(seen, 0.05).terms()
    assert terms["guide_loss_maker"].dtype == torch.float32
    torch.testing.assert_close(terms["guide_loss_maker"], whole["guide_loss_maker"], rtol=0.02, atol=0.02)


def test_views_without_targets_are_refused():
    with pytest.raises(ValueError, match="bring no targets"):
        task()(views(), 0.05)
    with pytest.raises(ValueError, match="argument"):
        task()(views(targets()[:, :1]), 0.05)


def test_the_ramp_is_that_of_its_paper():
    assert ramp(0, 100) == 0
    assert ramp(100, 100) == ramp(101, 100) == ramp(0, 0) == 1
    for share in (0.1, 0.25, 0.5, 0.9):
        assert ramp(round(1000 * share), 1000) == pytest.approx(2 / (1 + math.exp(-10 * share)) - 1)
    assert SslConfig(guide_weight=0.5, guide_ramp_steps=10).guide_strength(10) == 0.5


def test_a_config_names_columns_and_what_becomes_of_them(tmp_path):
    (tmp_path / "a.yaml").write_text("guides: {sex: keep, manufacturer: remove}\n", encoding="utf-8")
    config = load_config(SslConfig, str(tmp_path / "a.yaml"), ["guides.age=keep"])
    assert config.guides == (("age", "keep"), ("manufacturer", "remove"), ("sex", "keep"))
    assert config.model_dump()["guides"] == {"age": "keep", "manufacturer": "remove", "sex": "keep"}
    assert validate(SslConfig, config.model_dump()) == SslConfig.model_validate_json(config.model_dump_json()) == config
    assert hash(config) == hash(validate(SslConfig, config.model_dump()))
    assert SslConfig().model_dump()["guides"] == {}


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"sex": "drop"}, r"guides.*'keep' or 'remove'"),
        ({"sex": None}, "guides"),
        ({"sex": ["keep"]}, "guides"),
        (["sex"], "give 'column: keep' or 'column: remove'"),
        ("sex", "give 'column: keep' or 'column: remove'"),
        (3, "give 'column: keep' or 'column: remove'"),
        ({1: "keep", "sex": "keep"}, "guides"),
    ],
)
def test_a_wrong_config_is_refused_in_a_line(wrong, match):
    with pytest.raises(ConfigError, match=match) as error:
        validate(SslConfig, {"guides": wrong})
    assert "\n" not in str(error.value)
