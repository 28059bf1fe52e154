"""BiomedCLIP, images and text, against open_clip loading the same folder."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BertConfig, BertTokenizer

from published import check_missing, check_refusals, radiographs, shaken
from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError

open_clip = pytest.importorskip("open_clip")
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
PROMPTS = ["pleural  effusion", "no pneumothorax is seen " * 60]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pleural", "effusion", "no", "is", "seen", "pneumo", "##thorax"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The published repository's files; the text tower small, the vision tower timm's ViT-Ti/16."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("biomedclip")
    bert = tmp_path_factory.mktemp("bert")
    BertConfig(
        vocab_size=len(WORDS), hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=80,
    ).save_pretrained(bert)  # fmt: skip
    for place in (folder, bert):
        (place / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
        BertTokenizer(str(place / "vocab.txt")).save_pretrained(place)
    config = {
        "model_cfg": {
            "embed_dim": 64,
            "vision_cfg": {
                "timm_model_name": "vit_tiny_patch16_224",
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": 224,
            },
            "text_cfg": {
                "hf_model_name": str(bert),
                "hf_tokenizer_name": str(bert),
                "hf_proj_type": "mlp",
                "hf_pooler_type": "cls_last_hidden_state_pooler",
                "context_length": 77,
            },
        },
        "preprocess_cfg": {"mean": MEAN, "std": STD},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    network = open_clip.create_model(
        f"local-dir:{folder}", load_weights=False, pretrained_text=False, pretrained_image=False
    )
    shaken(network)
    state = network.state_dict() | {"text.transformer.embeddings.position_ids": torch.arange(80)[None]}
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    return network, folder


def test_same_image_features_as_open_clip(published):
    network, folder = published
    encoder = load_encoder(f"biomedclip:{folder}", device="cpu")
    theirs = open_clip.image_transform(224, is_train=False, mean=MEAN, std=STD)
    images = radiographs()
    batch = torch.stack([theirs(Image.fromarray(image)) for image in images])
    torch.testing.assert_close(encoder.preprocess(images), batch, rtol=0, atol=1e-5)
    ours = encoder.encode(encoder.preprocess(images))
    with torch.no_grad():
        tokens = network.visual.trunk.forward_features(batch)
        pooled, projected = network.visual.trunk(batch), network.encode_image(batch, normalize=True)
    torch.testing.assert_close(ours.cls, pooled, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.patches.flatten(1, 2), tokens[:, 1:], rtol=0, atol=1e-4)
    torch.testing.assert_close(encoder.project(ours.cls), projected, rtol=0, atol=1e-4)
    assert (encoder.dim, encoder.grid) == (192, (14, 14))


def test_same_text_features_as_open_clip(published):
    network, folder = published
    encoder = load_encoder(f"biomedclip:{folder}", device="cpu")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(PROMPTS)
    assert tokens.shape == (2, 77)
    with torch.no_grad():
        theirs = network.encode_text(tokens, normalize=True)
    torch.testing.assert_close(encoder.encode_text(PROMPTS), theirs, rtol=0, atol=1e-4)
    assert encoder.logit_scale == pytest.approx(network.logit_scale.exp().item())


def test_safetensors_and_a_lone_file_are_read_too(published, tmp_path):
    network, folder = published
    for file in folder.iterdir():
        if file.suffix != ".bin":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "open_clip_model.safetensors")
    image = radiographs()[:1]
    first, second = (load_encoder(f"biomedclip:{place}", device="cpu") for place in (folder, tmp_path))
    torch.testing.assert_close(*(e.encode(e.preprocess(image)).cls for e in (first, second)))
    third = load_encoder(f"biomedclip:{tmp_path / 'open_clip_model.safetensors'}", device="cpu")
    assert third.fingerprint == second.fingerprint != first.fingerprint


def test_damaged_folders_and_missing_tokenizers_are_refused(published, tmp_path, monkeypatch):
    _, folder = published
    weights = folder / "open_clip_pytorch_model.bin"
    encoder = load_encoder(f"biomedclip:{weights}", device="cpu")
    with pytest.raises(RaddinoError, match="list of prompts"):
        encoder.encode_text([])
    with pytest.raises(RaddinoError, match="list of prompts"):
        encoder.encode_text("pleural effusion")
    (tmp_path / weights.name).symlink_to(weights)
    config = tmp_path / "open_clip_config.json"
    for damaged in ("{", "[]", "{}", '{"model_cfg": 3, "preprocess_cfg": 3}'):
        config.write_text(damaged, encoding="utf-8")
        with pytest.raises(RaddinoError, match="open_clip_config"):
            load_encoder(f"biomedclip:{tmp_path}")
    config.write_text(
        (folder / config.name).read_text(encoding="utf-8").replace("vit_tiny", "vit_no"), encoding="utf-8"
    )
    with pytest.raises(RaddinoError, match="no vision transformer of timm"):
        load_encoder(f"biomedclip:{tmp_path}")
    config.write_text((folder / config.name).read_text(encoding="utf-8"), encoding="utf-8")
    bare = load_encoder(f"biomedclip:{tmp_path}", device="cpu")
    with pytest.raises(RaddinoError, match="beside the weights"):
        bare.encode_text(PROMPTS)
    (tmp_path / weights.name).unlink()
    check_refusals(lambda place: load_encoder(f"biomedclip:{place}"), encoder, weights, tmp_path, monkeypatch)
    check_missing("biomedclip", tmp_path, monkeypatch, "huggingface.co/microsoft/BiomedCLIP")
