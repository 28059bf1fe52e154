"""Groups, clipping and the values of a step (multipliers by name are checked by the golden replay)."""

import torch

from raddino.ssl import Network, SelfDistillation, SslConfig
from raddino.ssl.head import HeadConfig
from raddino.training.optimizer import OptimConfig, build_optimizer, clip_gradients, set_step
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
