"""Any Transformers network: class tokens, registers, pooled tokens, feature maps; and what is refused."""

import json

import pytest
import torch
import transformers as hf

from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError
from transformers_folders import SHAPES, close, prepared, publish, radiograph

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SQUARE = {
    "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 2,
    "rescale_factor": 1 / 255, "size": {"height": 64, "width": 64},
}  # fmt: skip
CONVNEXT = SQUARE | {"image_processor_type": "ConvNextImageProcessor", "resample": 3, "crop_pct": 0.875} | {
    "size": {"shortest_edge": 64}
}  # fmt: skip


def vit():
    return hf.ViTModel(hf.ViTConfig(**TINY, image_size=64, patch_size=16))


def deit():
    return hf.DeiTModel(hf.DeiTConfig(**TINY, image_size=64, patch_size=16))


def swin():
    config = hf.SwinConfig(image_size=64, patch_size=4, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=4)
    return hf.SwinModel(config)


def convnext():
    return hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1]))


def resnet():
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
    return hf.ResNetModel(config)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("make", "processor", "prefix"),
    [(vit, SQUARE, 1), (deit, SQUARE, 2), (swin, SQUARE, 0), (convnext, CONVNEXT, None), (resnet, CONVNEXT, None)],
)
def test_features_are_those_of_transformers(tmp_path, make, processor, prefix, shape):
    torch.manual_seed(0)
    model = publish(tmp_path, make(), processor)
    image = radiograph(shape)
    pixels = prepared(tmp_path, image)
    with torch.no_grad():
        found = model(pixels)
    encoder = load_encoder(f"hf:{tmp_path}", device="cpu")
    batch = encoder.preprocess([image])
    close(batch, pixels)
    features = encoder.encode(batch)
    states = found.last_hidden_state
    if prefix is None:
        close(features.patches.permute(0, 3, 1, 2), states)
        close(features.cls, found.pooler_output.flatten(1))
    else:
        close(features.patches.flatten(1, 2), states[:, prefix:])
        close(features.cls, states[:, 0] if prefix else found.pooler_output)
    assert features.patches.shape[1:] == (*encoder.grid, encoder.dim)
    assert encoder.provenance.sources is None
    assert len(encoder.provenance.sha256) == 64


def test_a_pooler_that_nobody_reads_may_be_missing_and_one_that_is_read_may_not(tmp_path):
    classifier = hf.ViTForImageClassification(hf.ViTConfig(**TINY, image_size=64, patch_size=16, num_labels=3))
    publish(tmp_path / "vit", classifier, SQUARE)
    encoder = load_encoder(str(tmp_path / "vit"))
    batch = encoder.preprocess([radiograph((50, 70))])
    with torch.no_grad():
        theirs = classifier.vit(batch).last_hidden_state
    close(encoder.encode(batch).cls, theirs[:, 0])
    from safetensors.torch import load_file, save_file

    publish(tmp_path / "swin", swin(), SQUARE)
    state = load_file(tmp_path / "swin/model.safetensors")
    state.pop("layernorm.weight")
    save_file(state, tmp_path / "swin/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RaddinoError, match=r"1 weights are missing .* layernorm\.weight"):
        load_encoder(str(tmp_path / "swin"))


def refused(tmp_path, model, processor, words):
    publish(tmp_path, model, processor)
    with pytest.raises(RaddinoError, match=words):
        load_encoder(f"hf:{tmp_path}")


def test_networks_that_cannot_be_read_are_refused(tmp_path):
    text = hf.BertModel(hf.BertConfig(**TINY, vocab_size=20))
    refused(tmp_path / "text", text, SQUARE, "a bert model does not run on prepared images")
    masked = hf.ViTMAEModel(hf.ViTMAEConfig(**TINY, image_size=64, patch_size=16, mask_ratio=0.0))
    refused(tmp_path / "mae", masked, SQUARE, "hides or shuffles")
    bare = hf.IJepaModel(hf.IJepaConfig(**TINY, image_size=64, patch_size=16))
    refused(tmp_path / "jepa", bare, SQUARE, "no class token or pooled embedding")
    refused(tmp_path / "size", vit(), SQUARE | {"size": {"height": 48, "width": 48}}, "does not run on prepared images")


def test_image_processors_that_cannot_be_followed_are_refused(tmp_path):
    for i, (processor, words) in enumerate(
        (
            (None, r"preprocessor_config\.json is missing"),
            (SQUARE | {"resample": 1}, "cannot be read"),
            (SQUARE | {"do_resize": False}, "different sizes"),
            (SQUARE | {"size": {"shortest_edge": 64}}, "cannot be read|different sizes|does more than"),
            (SQUARE | {"image_processor_type": "NoSuchProcessor"}, "cannot be read"),
            (SQUARE | {"image_processor_type": "EfficientNetImageProcessor", "rescale_offset": True}, "does more than"),
        )
    ):
        refused(tmp_path / str(i), vit(), processor, words)


def test_code_from_the_hub_is_not_run(tmp_path):
    publish(tmp_path, vit(), SQUARE)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    code = {"model_type": "foreign", "auto_map": {"AutoConfig": "code.Foreign", "AutoModel": "code.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config | code), encoding="utf-8")
    (tmp_path / "code.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    with pytest.raises(RaddinoError, match="Transformers cannot load it"):
        load_encoder(f"hf:{tmp_path}")


def test_an_adapter_that_names_another_model_is_refused(tmp_path):
    publish(tmp_path / "other", vit(), SQUARE)
    publish(tmp_path / "given", vit(), SQUARE)
    told = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "other")}
    (tmp_path / "given" / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(RaddinoError, match="given holds an adapter"):
        load_encoder(f"hf:{tmp_path / 'given'}", device="cpu")


def test_hf_needs_a_place():
    with pytest.raises(RaddinoError, match="hf:org/name"):
        load_encoder("hf")


@pytest.mark.parametrize(
    ("make", "processor", "declared", "words"),
    [
        (vit, SQUARE, {"num_hidden_layers": 10**9}, "declares 1000000000 layers"),
        (vit, SQUARE, {"hidden_size": 10**6, "num_attention_heads": 2}, "parameters, the weights hold"),
        (vit, SQUARE, {"intermediate_size": 10**11}, "parameters, the weights hold"),
        (vit, SQUARE, {"image_size": 16 * 10**6}, "parameters, the weights hold"),
        (vit, SQUARE, {"hidden_size": 10**12}, "cannot load it"),
        (convnext, CONVNEXT, {"depths": [1, 10**9, 1, 1]}, "declares 1000000000 layers"),
    ],
)
@pytest.mark.parametrize("pickled", [False, True])
def test_a_network_beyond_the_weights_is_refused_before_it_is_built(
    tmp_path, make, processor, declared, words, pickled
):
    model = publish(tmp_path, make(), processor)
    if pickled:
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | declared), encoding="utf-8")
    with pytest.raises(RaddinoError, match=words):
        load_encoder(f"hf:{tmp_path}", device="cpu")


@pytest.mark.parametrize(
    "damage", [{"image_std": [0, 0, 0]}, {"size": {"height": 10**6, "width": 10**6}}, {"size": {"shortest_edge": -5}}]
)
def test_impossible_preprocessing_is_refused(tmp_path, damage):
    publish(tmp_path, vit(), SQUARE | damage)
    with pytest.raises(RaddinoError, match=r"preprocessor_config\.json"):
        load_encoder(f"hf:{tmp_path}", device="cpu")
