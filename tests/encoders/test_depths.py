"""Features of several blocks, against the backbones and hidden states of Transformers and timm."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Backbone,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)

from memory_corpus import toy_corpus
from published import shaken
from raddino.encoders.depths import AtDepths
from raddino.encoders.floors import HOG
from raddino.encoders.load import load_encoder
from raddino.encoders.random_weights import write_random_weights
from raddino.errors import RaddinoError
from raddino.features.extract import embed
from raddino.features.forward import make_encode
from transformers_folders import prepared, publish, radiograph

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6, "num_attention_heads": 2}
SHAPE_OF_DINOV2 = {key: value for key, value in SHAPE.items() if key != "intermediate_size"} | {
    "image_size": 56, "patch_size": 14, "mlp_ratio": 2,
}  # fmt: skip
PROCESSOR = {
    "do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True, "do_center_crop": False,
    "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "ViTImageProcessor", "image_std": [0.5, 0.5, 0.5],
    "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"height": 64, "width": 64},
}  # fmt: skip


def dinov2(folder, **changed):
    torch.manual_seed(0)
    model = Dinov2Model(Dinov2Config(**(SHAPE_OF_DINOV2 | changed)))
    return publish(folder, model, PROCESSOR | {"size": {"height": 56, "width": 56}})


def test_ours_are_the_feature_maps_of_dinov2_s_backbone_in_each_way_to_encode(tmp_path):
    dinov2(tmp_path)
    theirs = Dinov2Backbone.from_pretrained(tmp_path, out_indices=[2, 3, 5, 6], apply_layernorm=True)
    images = [radiograph((64, 64)), radiograph((91, 70), 1)]
    encoder = AtDepths(load_encoder(tmp_path, device="cpu"))
    assert (encoder.depths, encoder.width, encoder.dim, encoder.grid) == ((2, 3, 5, 6), 32, 128, (4, 4))
    batch = encoder.preprocess(images)
    with torch.no_grad():
        maps = theirs(torch.cat([prepared(tmp_path, image) for image in images])).feature_maps
    expected = torch.cat(maps, dim=1).permute(0, 2, 3, 1)
    for found in (
        encoder.encode(batch).patches,
        encoder.read(batch)[1],
        make_encode(encoder, "fp32", compile=False)(batch).patches,
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    half = make_encode(encoder, "bf16", compile=False)(batch).patches.float()
    assert torch.nn.functional.cosine_similarity(half, expected, dim=-1).min() > 0.999


def clip_vision(folder):
    model = CLIPVisionModel(CLIPVisionConfig(**SHAPE, image_size=64, patch_size=16))
    return publish(folder, model, PROCESSOR), lambda state: state[:, 1:]


def dinov3(folder):
    model = DINOv3ViTModel(DINOv3ViTConfig(**SHAPE, image_size=64, patch_size=16, num_register_tokens=2))
    return publish(folder, model, PROCESSOR), lambda state: model.norm(state)[:, 3:]


def vit(folder):
    model = ViTModel(ViTConfig(**SHAPE, image_size=64, patch_size=16), add_pooling_layer=False)
    return publish(folder, model, PROCESSOR), lambda state: model.layernorm(state)[:, 1:]


def siglip_both(folder):
    text = SHAPE | {"vocab_size": 40, "max_position_embeddings": 16, "projection_size": 32}
    vision = SHAPE | {"image_size": 64, "patch_size": 16}
    model = publish(folder, SiglipModel(SiglipConfig(text_config=text, vision_config=vision)), PROCESSOR).vision_model
    return model, model.post_layernorm


@pytest.mark.parametrize(("name", "make"), [
    ("clip-vit-l-14", clip_vision), ("dinov3-base", dinov3), ("hf", vit), ("siglip-base", siglip_both),
])  # fmt: skip
def test_every_family_of_transformers_gives_its_hidden_states(tmp_path, name, make):
    torch.manual_seed(0)
    model, after = make(tmp_path)
    blocks = next(one for one in model.modules() if isinstance(one, torch.nn.ModuleList) and len(one) == 6)
    states = {}
    for depth, block in enumerate(blocks, start=1):
        block.register_forward_hook(lambda m, i, output, depth=depth: states.update({depth: output}))
    encoder = load_encoder(f"{name}:{tmp_path}", device="cpu")
    image = radiograph((80, 64))
    batch = encoder.preprocess([image, image[::-1].copy()])
    with torch.no_grad():
        model(pixel_values=batch)
        expected = torch.cat([after(states[depth]) for depth in (1, 4, 6)], dim=-1).unflatten(1, (4, 4))
    deep = AtDepths(encoder, (1, 4, 6))
    torch.testing.assert_close(deep.encode(batch).patches, expected, rtol=0, atol=1e-5)
    plain = encoder.encode(batch)
    torch.testing.assert_close(deep.encode(batch).patches[..., -32:], plain.patches)
    torch.testing.assert_close(deep.encode(batch).cls[:, -32:], plain.cls)
    early = AtDepths(encoder, (2,)).encode(batch)
    torch.testing.assert_close(early.patches, after(states[2]).detach().unflatten(1, (4, 4)), rtol=0, atol=1e-5)


def test_timm_s_own_intermediate_layers(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = shaken(timm.create_model("vit_tiny_patch16_224", num_classes=0))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    encoder = AtDepths(load_encoder(f"timm:vit_tiny_patch16_224@{tmp_path}", device="cpu"))
    batch = encoder.preprocess([radiograph((300, 260))])
    with torch.no_grad():
        maps = network.get_intermediate_layers(batch, n=[2, 5, 8, 11], reshape=True, norm=True)
    torch.testing.assert_close(
        encoder.encode(batch).patches, torch.cat(maps, dim=1).permute(0, 2, 3, 1), rtol=0, atol=1e-4
    )


def test_the_vision_tower_of_a_single_file_is_found(tmp_path):
    pytest.importorskip("timm")
    (spec,) = write_random_weights(tmp_path, names=["eva-x-tiny"]).values()
    encoder = load_encoder(spec, device="cpu")
    deep = AtDepths(encoder)
    assert deep.depths == (3, 6, 9, 12)
    batch = encoder.preprocess([radiograph((60, 60)), radiograph((60, 60), 1)])
    found = deep.encode(batch)
    assert found.patches.shape == (2, *encoder.grid, 4 * encoder.dim)
    torch.testing.assert_close(found.patches[..., -encoder.dim :], encoder.encode(batch).patches, rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_first_block_through_read(tmp_path):
    torch.manual_seed(0)
    dinov2(tmp_path)
    for spec in (str(tmp_path), f"hf:{tmp_path}"):
        encoder = load_encoder(spec, device="cpu")
        encoder.model.requires_grad_(True)
        deep = AtDepths(encoder, (2, 6))
        deep.read(deep.preprocess([radiograph((56, 56))]))[1].square().mean().backward()
        first = next(p for name, p in encoder.model.named_parameters() if "norm1.weight" in name)
        assert first.grad.abs().sum() > 0


def test_embedding_a_corpus_keeps_patches_of_all_depths_apart_from_the_plain_ones(tmp_path):
    dinov2(tmp_path / "weights", num_hidden_layers=4)
    corpus = toy_corpus(tmp_path, n=12)
    for spec in (str(tmp_path / "weights"), f"hf:{tmp_path / 'weights'}"):
        encoder = load_encoder(spec, device="cpu")
        deep = AtDepths(encoder, 4)
        plain, found = (embed(corpus, one, cache=tmp_path / "cache", patches=True) for one in (encoder, deep))
        assert found.encoder == f"{plain.encoder}+depths1-2-3-4"
        assert found.patches.shape == (12, 4, 4, 128)
        np.testing.assert_allclose(found.patches[:][..., 96:], plain.patches[:], atol=2e-3)
        assert not np.allclose(found.patches[:][..., :32], plain.patches[:], atol=0.1)


def test_encoders_without_blocks_and_depths_that_are_not_there_are_refused(tmp_path):
    (spec,) = write_random_weights(tmp_path / "resnet", names=["resnet50"]).values()
    for encoder in (load_encoder(spec, device="cpu"), HOG()):
        with pytest.raises(RaddinoError, match="no plain vision transformer"):
            AtDepths(encoder)
    dinov2(tmp_path, num_hidden_layers=3)
    encoder = load_encoder(tmp_path, device="cpu")
    assert AtDepths(encoder, 3).depths == (1, 2, 3)
    for depths, words in ((4, "has 3 blocks"), ((1, 4), r"within 1\.\.3"), ((2, 1), "ascend"), ((), "ascend")):
        with pytest.raises(RaddinoError, match=words):
            AtDepths(encoder, depths)
    with pytest.raises(AttributeError):
        AtDepths(encoder, 1).encode_text  # noqa: B018


def test_windowed_transformers_are_refused(tmp_path):
    timm = pytest.importorskip("timm")
    name = "swin_tiny_patch4_window7_224"
    save_file(timm.create_model(name).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(RaddinoError, match="no plain vision transformer"):
        AtDepths(load_encoder(f"timm:{name}@{tmp_path}", device="cpu"))
