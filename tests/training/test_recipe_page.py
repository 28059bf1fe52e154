"""docs/pretrain.md against the preset, the schedules and the code that it describes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from raddino.config import PRESETS, load_config
from raddino.ssl import SelfDistillation, SslConfig, Views
from raddino.training.optimizer import OptimConfig, build_optimizer
from raddino.training.pretrain import PretrainConfig
from raddino.training.schedule import StepValues
from raddino.training.step import train_step
from raddino.views import masks
from raddino.views.masks import MaskConfig, batch_masks
from raddino.vit import VitConfig

PAGE = Path(__file__).parents[2] / "docs/pretrain.md"
STANDINGS = ("card", "paper", "second hand", "DINOv2", "ours")


def leaves(values: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def table() -> dict[str, tuple[str, str]]:
    """Setting to (value as written, standing)."""
    text = PAGE.read_text(encoding="utf-8").partition("## Where the RAD-DINO preset's values come from")[2]
    rows = re.findall(r"^\| (`.+`) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    found = {}
    for names, values, standing in rows:
        for name, value in zip(names.split("; "), values.split("; "), strict=True):
            found[name.strip("`")] = (value, standing)
    return found


def test_the_table_has_every_value_of_the_preset_with_its_standing():
    config = load_config(PretrainConfig, "rad-dino-vit-b-518").model_dump(mode="json")
    told, actual = table(), leaves(config)
    assert told.keys() == actual.keys()
    for name, (value, standing) in told.items():
        assert written(value) == actual[name], name
        assert standing.startswith(STANDINGS), name
    given = leaves(yaml.safe_load((PRESETS / "rad-dino-vit-b-518.yaml").read_text(encoding="utf-8")))
    assert given.keys() <= told.keys()


def written(text: str):
    value = yaml.safe_load(text)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def views(batch: int, seed: int) -> Views:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(2 * batch, 16, dtype=torch.bool)
    masks[::2, :5] = True
    crops = [torch.randn(n * batch, 1, side, side, generator=generator) for n, side in ((2, 32), (2, 16))]
    return Views.build(*crops, masks)


def joined(parts: list[Views]) -> Views:
    """One batch of the micro-batches' images, view by view."""

    def by_view(tensors, count):
        return torch.cat([torch.cat([tensor.chunk(count)[view] for tensor in tensors]) for view in range(count)])

    return Views.build(
        by_view([part.global_crops for part in parts], 2),
        by_view([part.local_crops for part in parts], 2),
        by_view([part.masks for part in parts], 2),
    )


def task(**changed) -> SelfDistillation:
    vit = VitConfig(embed_dim=32, depth=1, num_heads=2, patch_size=8, image_size=32, layerscale_init=0.5)
    head = {"prototypes": 24, "hidden": 16, "bottleneck": 8}
    return SelfDistillation(vit, SslConfig(head=head, **changed)).init_weights(torch.Generator().manual_seed(1))


def gradient(one: SelfDistillation, batches: list[Views]) -> torch.Tensor:
    one.zero_grad()
    for batch in batches:
        (one(batch, 0.07).total / len(batches)).backward()
    return torch.cat([p.grad.flatten() for p in one.student.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"centering": "softmax", "koleo_weight": 0.0}, True),
        ({"centering": "softmax", "koleo_weight": 0.1}, False),
        ({"centering": "sinkhorn_knopp", "koleo_weight": 0.0}, False),
    ],
)
def test_koleo_and_sinkhorn_see_the_micro_batch_and_softmax_centering_does_not(changed, same):
    parts = [views(4, 0), views(4, 1)]
    one = task(**changed)
    apart = gradient(one, parts)
    together = gradient(one, [joined(parts)])
    one.dino_centering.seen = []
    assert torch.allclose(apart, together, rtol=1e-4, atol=1e-6) == same


def test_mim_off_leaves_views_whole_and_the_mask_token_and_the_centre_as_they_are():
    values = StepValues(1e-2, 1e-2, 1e-2, 0.4, 0.9, 0.07)
    head = {"prototypes": 24, "hidden": 16, "bottleneck": 8}
    off = task(ibot_weight=0.0, ibot_head=head)
    before = {name: p.clone() for name, p in off.student.named_parameters()}
    batch = views(4, 0)
    whole = Views.build(batch.global_crops, batch.local_crops, torch.zeros_like(batch.masks))
    assert torch.equal(off(batch, 0.07).dino_global, off(whole, 0.07).dino_global)
    on = task(ibot_weight=1e-9, ibot_head=head)
    assert not torch.equal(on(batch, 0.07).dino_global, on(whole, 0.07).dino_global)
    for one in (off, on):
        one.dino_centering.seen, one.ibot_centering.seen = [], []
    train_step(off, build_optimizer(off.student, OptimConfig()), [whole], 1, values, 3.0)
    after = dict(off.student.named_parameters())
    assert torch.equal(after["backbone.mask_token"], before["backbone.mask_token"])
    assert not off.ibot_centering.center.any()
    assert off.dino_centering.center.any()
    decayed = "ibot_head.mlp.0.weight"
    torch.testing.assert_close(after[decayed], before[decayed] * (1 - values.lr * values.weight_decay))


def test_the_cap_on_blocks_binds_only_above_one_half(monkeypatch):
    def drawn(low: float, high: float) -> np.ndarray:
        return batch_masks(0, 0, 80, (37, 37), MaskConfig(probability=1, ratio=(low, high)))

    below, above = drawn(0.1, 0.5), drawn(0.8, 0.9)
    monkeypatch.setattr(masks, "LARGEST_BLOCK_SHARE", 1.0)
    assert np.array_equal(drawn(0.1, 0.5), below)
    assert not np.array_equal(drawn(0.8, 0.9), above)
