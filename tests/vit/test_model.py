"""The token-list forward against plain passes, and the shapes it promises."""

import pytest
import torch

from raddino.config import validate
from raddino.errors import ConfigError
from raddino.vit import VisionTransformer, VitConfig


def make(**changes) -> VisionTransformer:
    config = VitConfig(
        **{
            "embed_dim": 32,
            "depth": 3,
            "num_heads": 4,
            "patch_size": 8,
            "image_size": 48,
            "layerscale_init": 0.5,
        }
        | changes
    )
    model = VisionTransformer(config).init_weights(torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return model


@pytest.fixture
def crops() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(shape, generator=generator).double() for shape in ((3, 1, 48, 48), (5, 1, 24, 32))]


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_one_pass_over_all_crops_equals_a_pass_each(crops, registers, ffn):
    model = make(num_register_tokens=registers, ffn=ffn).eval()
    mask = torch.rand(3, 36, generator=torch.Generator().manual_seed(3)) < 0.4
    together = model.forward_list(crops, [mask, None])
    for crop, one_mask, features in zip(crops, [mask, None], together, strict=True):
        alone = model(crop, one_mask)
        for kind in ("cls", "registers", "patches"):
            torch.testing.assert_close(getattr(features, kind), getattr(alone, kind), rtol=1e-10, atol=1e-10)
    assert together[1].patches.shape == (5, 12, 32)
    assert together[1].grid == (3, 4)


def test_images_do_not_see_each_other(crops):
    model = make().eval()
    changed = crops[0].clone()
    changed[1:] = 0
    torch.testing.assert_close(model(crops[0]).cls[0], model(changed).cls[0])


def test_masked_pixels_have_no_influence(crops):
    model = make().eval()
    mask = torch.zeros(3, 36, dtype=torch.bool)
    mask[:, 7] = True
    changed = crops[0].clone()
    changed[:, :, 8:16, 8:16] += 5
    torch.testing.assert_close(model(crops[0], mask).patches, model(changed, mask).patches)
    assert not torch.allclose(model(crops[0]).patches, model(changed).patches)


def test_stochastic_depth_adds_to_kept_samples_only_and_keeps_the_mean(crops):
    model = make(drop_path=0.5, depth=1).train()
    with torch.no_grad():
        model.blocks[0].ls2.gamma.zero_()
        plain = model.eval().token_list(crops[:1], [None])[0].view(3, 37, 32)
        before = model._embed(crops[:1], [None])[0].view(3, 37, 32)
        model.train()
        dropped = model.token_list(crops[:1], [None], torch.Generator().manual_seed(0))[0].view(3, 37, 32)
    ratio = (dropped - before).flatten(1).norm(dim=1) / (plain - before).flatten(1).norm(dim=1)
    assert sorted(ratio.round(decimals=6).tolist()) == [0, 0, 3], "one of three is kept and counts three times"


def test_stochastic_depth_follows_its_generator(crops):
    model = make(drop_path=0.4).train()
    runs = [model.forward_list(crops, [None, None], torch.Generator().manual_seed(s))[0].cls for s in (1, 1, 3)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_intermediate_ends_with_the_output_and_attention_is_a_share(crops):
    model = make(num_register_tokens=2).eval()
    layers = model.intermediate(crops[0], 2)
    assert len(layers) == 2
    torch.testing.assert_close(layers[-1].patches, model(crops[0]).patches)
    attention = model.cls_attention(crops[0])
    assert attention.shape == (3, 4, 6, 6)
    assert (attention >= 0).all()
    assert (attention.sum((2, 3)) < 1).all()


@pytest.mark.parametrize(
    ("size", "match"), [((1, 1, 50, 48), "no multiple of the patch size"), ((1, 3, 48, 48), "3 channels")]
)
def test_wrong_input_is_refused(size, match):
    with pytest.raises(ValueError, match=match):
        make()(torch.zeros(size).double())


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"embed_dim": 30, "num_heads": 4}, "no multiple of num_heads"),
        ({"image_size": 50}, "no multiple of patch_size"),
        ({"embed_dims": 3}, "Did you mean 'embed_dim'"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_impossible_shapes_are_refused(values, match):
    with pytest.raises(ConfigError, match=match):
        validate(VitConfig, values)
