"""CLIP against Transformers: both towers, in the files in which the weights are published."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import normalize
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPVisionModel

from raddino.encoders.clip import MEAN, STD
from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError
from raddino.files import sha256
from transformers_folders import SHAPES, close, has_names, prepared, publish, radiograph

PROCESSOR = {
    "crop_size": 64, "do_center_crop": True, "do_normalize": True, "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": list(MEAN), "image_std": list(STD),
    "resample": 3, "size": 64,
}  # fmt: skip
PROMPTS = ["Cardiomegaly.", "no pleural effusion is seen", "a" * 90]


def published(folder, legacy: bool = False) -> CLIPModel:
    letters = "abcdefghijklmnopqrstuvwxyz.,"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "no</w>", "<|startoftext|>", "<|endoftext|>"]
    text = {
        "vocab_size": len(words), "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 64, "patch_size": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    model = publish(folder, CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)), PROCESSOR)
    if legacy:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        position = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
        torch.save(state | position, folder / "pytorch_model.bin")
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\nn o</w>\n", encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            special | {"pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer", "model_max_length": 20}
        ),
        encoding="utf-8",
    )
    return model


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("legacy", [False, True])
def test_features_are_those_of_transformers(tmp_path, legacy, shape):
    model = published(tmp_path, legacy)
    image = radiograph(shape)
    encoder = load_encoder(f"clip-vit-l-14:{tmp_path}", device="cpu")
    features = encoder.encode(encoder.preprocess([image]))
    pixels = prepared(tmp_path, image)
    with torch.no_grad():
        found = model.vision_model(pixels)
        projected = model.visual_projection(found.pooler_output)
    close(features.cls, found.pooler_output)
    close(features.patches.flatten(1, 2), found.last_hidden_state[:, 1:])
    assert features.patches.shape == (1, *encoder.grid, encoder.dim) == (1, 4, 4, 32)
    close(encoder.project(features.cls), normalize(projected, dim=-1))


def test_parameters_have_their_published_names(tmp_path):
    published(tmp_path)
    assert has_names(
        tmp_path,
        "logit_scale",
        "text_model.embeddings.token_embedding.weight",
        "text_model.final_layer_norm.weight",
        "text_projection.weight",
        "vision_model.embeddings.class_embedding",
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_model.pre_layrnorm.weight",
        "vision_model.post_layernorm.bias",
        "visual_projection.weight",
    )


def test_text_and_image_meet_as_in_transformers(tmp_path):
    model = published(tmp_path)
    encoder = load_encoder(f"clip-vit-l-14:{tmp_path}")
    image = radiograph((90, 70))
    tokens = AutoTokenizer.from_pretrained(tmp_path)(PROMPTS, padding=True, truncation=True, return_tensors="pt")
    assert tokens["input_ids"].shape == (3, 20)
    with torch.no_grad():
        theirs = model(**tokens, pixel_values=prepared(tmp_path, image))
    close(encoder.encode_text(PROMPTS), theirs.text_embeds)
    unit = encoder.project(encoder.encode(encoder.preprocess([image])).cls)
    close(encoder.logit_scale * unit @ encoder.encode_text(PROMPTS).T, theirs.logits_per_image, 1e-3)
    many = encoder.encode_text(PROMPTS * 30)
    close(many[87:], theirs.text_embeds)


def test_weights_in_parts_are_read_and_each_is_in_the_digest(tmp_path):
    model = published(tmp_path)
    whole = load_encoder(f"clip-vit-l-14:{tmp_path}")
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    parts = load_encoder(f"clip-vit-l-14:{tmp_path}")
    assert parts.fingerprint == whole.fingerprint
    assert parts.provenance.synthetic is False
    assert parts.provenance.sha256 == sha256(*sorted(tmp_path.glob("model-*.safetensors")))


def test_the_vision_tower_alone_has_no_text(tmp_path):
    model = published(tmp_path / "both")
    CLIPVisionModel.from_pretrained(tmp_path / "both").save_pretrained(tmp_path / "vision")
    for spec in (str(tmp_path / "vision"), f"clip-vit-l-14:{tmp_path / 'vision'}"):
        (tmp_path / "vision/preprocessor_config.json").unlink(missing_ok=True)
        encoder = load_encoder(spec)
        assert not hasattr(encoder, "encode_text")
        batch = encoder.preprocess([radiograph((90, 70))])
        with torch.no_grad():
            close(encoder.encode(batch).cls, model.vision_model(batch).pooler_output)


def test_refusals(tmp_path):
    published(tmp_path)
    encoder = load_encoder(f"clip-vit-l-14-336:{tmp_path}")
    good = encoder.preprocess([radiograph((90, 70))])
    for bad in (good[:, :1], good.abs() * 50, good[0], good[..., :-16]):
        with pytest.raises(RaddinoError, match="takes"):
            encoder.encode(bad)
    for prompts in ([], "Cardiomegaly"):
        with pytest.raises(RaddinoError, match="list of prompts"):
            encoder.encode_text(prompts)
    (tmp_path / "merges.txt").unlink()
    fresh = load_encoder(f"clip-vit-l-14:{tmp_path}")
    with pytest.raises(RaddinoError, match="no tokenizer beside its weights"):
        fresh.encode_text(PROMPTS)
    with pytest.raises(RaddinoError, match="read from a folder"):
        load_encoder(f"clip-vit-l-14:{tmp_path / 'model.safetensors'}")
