"""The packed network against the one it was made of."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from raddino.vit import VisionTransformer, VitConfig, packed
from raddino.vit.linear import has_onednn


def network(ffn: str = "mlp", registers: int = 0) -> VisionTransformer:
    config = VitConfig(
        embed_dim=48, depth=3, num_heads=3, patch_size=8, image_size=64, ffn=ffn, num_register_tokens=registers
    )
    model = VisionTransformer(config).init_weights(torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return model


@pytest.mark.parametrize(("ffn", "registers"), [("mlp", 0), ("swiglu", 2)])
@torch.inference_mode()
def test_equal_but_for_rounding(ffn, registers):
    if not has_onednn(torch.float32):
        pytest.skip("torch without oneDNN")
    model = network(ffn, registers)
    images = torch.randn(3, 1, 64, 48, generator=torch.Generator().manual_seed(2))
    before, expected = {name: value.clone() for name, value in model.state_dict().items()}, model(images)
    found = packed.packed(model, torch.float32)(images)
    torch.testing.assert_close(found.cls, expected.cls, rtol=0, atol=2e-5)
    torch.testing.assert_close(found.patches, expected.patches, rtol=0, atol=2e-5)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    if has_onednn(torch.bfloat16):
        rounded = packed.packed(model, torch.bfloat16)(images.bfloat16())
        assert cosine_similarity(rounded.patches.float(), expected.patches, dim=-1).min() > 0.999


@pytest.mark.parametrize(("tokens", "expected"), [(10, 546), (1_000_000, 1)])
def test_a_pass_fits_the_bound(tokens, expected):
    size = packed.images_a_pass(VisionTransformer(VitConfig(depth=1)), tokens, torch.bfloat16)
    assert size == expected
