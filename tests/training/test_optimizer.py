"""Groups, clipping and the values of a step (multipliers by name are checked by the golden replay)."""

import pytest
import torch

from raddino.ssl import Network, SelfDistillation, SslConfig
from raddino.ssl.head import HeadConfig
from raddino.training.optimizer import OptimConfig, build_optimizer, clip_gradients, multipliers, set_step
from raddino.training.schedule import StepValues
from raddino.vit import VitConfig


def student() -> Network:
    vit = VitConfig(embed_dim=16, depth=2, num_heads=2, patch_size=4, image_size=16)
    return (
        SelfDistillation(vit, SslConfig(head=HeadConfig(prototypes=8, hidden=16, bottleneck=4))).init_weights().student
    )


def test_each_parameter_stands_in_exactly_one_group():
    network = student()
    optimizer = build_optimizer(network, OptimConfig())
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in network.parameters())


def test_a_frozen_backbone_does_not_move():
    network = student()
    optimizer = build_optimizer(network, OptimConfig())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: p.clone() for name, p in network.named_parameters()}
    set_step(optimizer, StepValues(1e-2, 0.0, 0.0, 0.1, 0.99, 0.04))
    optimizer.step()
    for name, parameter in network.named_parameters():
        moved = not torch.equal(parameter, before[name])
        assert moved == ("dino_head.mlp" in name), name


def test_parts_are_clipped_apart():
    network = student()
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e-6)
    network.dino_head.last_layer.weight_v.grad.fill_(100)
    norms = clip_gradients(network, 3.0)
    assert norms["dino_head"] > 3 > norms["backbone"]
    clipped = torch.stack([p.grad.norm() for p in network.dino_head.parameters()]).norm()
    torch.testing.assert_close(clipped, torch.tensor(3.0))
    assert network.backbone.cls_token.grad[0, 0, 0].item() == torch.tensor(1e-6).item()


@pytest.mark.parametrize(
    ("name", "lr", "weight_decay", "last_layer", "backbone"),
    [
        ("backbone.cls_token", 0.5**3, 1, False, True),
        ("backbone.pos_embed", 0.5**3, 1, False, True),
        ("backbone.mask_token", 0.5**3, 1, False, True),
        ("backbone.register_tokens", 0.5**3, 1, False, True),
        ("backbone.patch_embed.proj.weight", 0.5**3 * 0.3, 1, False, True),
        ("backbone.patch_embed.proj.bias", 0.5**3 * 0.3, 0, False, True),
        ("backbone.blocks.0.attn.qkv.weight", 0.5**2, 1, False, True),
        ("backbone.blocks.1.attn.qkv.bias", 0.5, 0, False, True),
        ("backbone.blocks.1.norm1.weight", 0.5, 0, False, True),
        ("backbone.blocks.1.ls1.gamma", 0.5, 0, False, True),
        ("backbone.norm.weight", 1, 0, False, True),
        ("dino_head.mlp.0.weight", 1, 1, False, False),
        ("dino_head.mlp.0.bias", 1, 0, False, False),
        ("ibot_head.last_layer.weight_v", 1, 1, True, False),
        ("guides.heads.label_normal.0.weight", 7, 1, False, False),
        ("guides.heads.sex.2.bias", 7, 0, False, False),
    ],
)
def test_multipliers_by_name(name, lr, weight_decay, last_layer, backbone):
    """DINOv2's rule, counted by hand for two blocks and a decay of one half."""
    found = multipliers(name, 2, OptimConfig(layer_decay=0.5, patch_embed_lr=0.3, guide_lr=7))
    assert (found.lr, found.weight_decay) == pytest.approx((lr, weight_decay))
    assert (found.last_layer, found.backbone) == (last_layer, backbone)


def test_each_group_follows_its_own_schedule():
    network = student()
    optimizer = build_optimizer(network, OptimConfig(betas=(0.8, 0.95), layer_decay=0.5, patch_embed_lr=0.3))
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.95)}
    assert {group["lr"] for group in optimizer.param_groups} == {0}
    set_step(optimizer, StepValues(2.0, 3.0, 5.0, 0.25, 0.99, 0.04))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found["dino_head.mlp.0.weight"] == (2, 0.25)
    assert found["dino_head.mlp.0.bias"] == (2, 0)
    assert found["dino_head.last_layer.weight_v"] == (3, 0.25)
    assert found["backbone.blocks.1.attn.qkv.weight"] == (2.5, 0.25)
    assert found["backbone.norm.bias"] == (5, 0)


def test_clipping_by_nothing_changes_nothing():
    network = student()
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 50.0)
    norms = clip_gradients(network, 0.0)
    assert norms["backbone"] > 50
    assert all((parameter.grad == 50).all() for parameter in network.parameters())
