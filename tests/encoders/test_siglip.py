"""SigLIP, MedSigLIP and XraySigLIP against Transformers: pooled embedding, patches, text without a mask."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel, SiglipVisionModel

from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError
from transformers_folders import SHAPES, close, has_names, prepared, publish, radiograph

PROCESSOR = {
    "do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5],
    "processor_class": "SiglipProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
    "size": {"height": 64, "width": 64},
}  # fmt: skip
PROMPTS = ["cardiomegaly", "no pleural effusion is seen"]
NAMES = ["siglip-base", "siglip-so400m", "medsiglip", "xraysiglip"]


def published(folder, resample: int = 3, **vision) -> SiglipModel:
    text = {
        "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 16, "projection_size": 32,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 64, "patch_size": 16,
    } | vision  # fmt: skip
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    return publish(folder, model, PROCESSOR | {"resample": resample})


def with_fast_tokenizer(folder) -> PreTrainedTokenizerFast:
    words = ["<unk>", "</s>", "cardiomegaly", "no", "pleural", "effusion", "is", "seen"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="</s>", eos_token="</s>", unk_token="<unk>", model_max_length=16
    )
    fast.save_pretrained(folder)
    return fast


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "resample"), [(name, 3) for name in NAMES] + [("medsiglip", 2)])
def test_features_are_those_of_transformers(tmp_path, name, resample, shape):
    model = published(tmp_path, resample)
    image = radiograph(shape)
    encoder = load_encoder(f"{name}:{tmp_path}", device="cpu")
    features = encoder.encode(encoder.preprocess([image]))
    with torch.no_grad():
        found = model.vision_model(prepared(tmp_path, image))
    close(features.cls, found.pooler_output)
    close(features.patches.flatten(1, 2), found.last_hidden_state)
    assert features.patches.shape == (1, *encoder.grid, encoder.dim) == (1, 4, 4, 32)
    close(encoder.project(features.cls), normalize(found.pooler_output, dim=-1))


def agrees_on_text(encoder, model, tokenizer, folder):
    image = radiograph((90, 70))
    tokens = tokenizer(PROMPTS, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(input_ids=tokens["input_ids"], pixel_values=prepared(folder, image))
    close(encoder.encode_text(PROMPTS), theirs.text_embeds)
    unit = encoder.project(encoder.encode(encoder.preprocess([image])).cls)
    ours = encoder.logit_scale * unit @ encoder.encode_text(PROMPTS).T + model.logit_bias.detach()
    close(ours, theirs.logits_per_image, 1e-3)


def test_text_and_image_meet_as_in_transformers(tmp_path):
    model = published(tmp_path)
    tokenizer = with_fast_tokenizer(tmp_path)
    agrees_on_text(load_encoder(f"xraysiglip:{tmp_path}"), model, tokenizer, tmp_path)


def test_the_published_sentence_pieces(tmp_path):
    pieces = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    from transformers import SiglipTokenizer

    model = published(tmp_path)
    pieces.SentencePieceTrainer.train(
        sentence_iterator=iter([*PROMPTS, "small heart and clear lungs", "the lungs are clear"]), vocab_size=30,
        model_prefix=str(tmp_path / "spiece"), pad_id=-1, bos_id=-1, eos_id=1, unk_id=0, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "SiglipTokenizer", "model_max_length": 16, "do_lower_case": true}', encoding="utf-8"
    )
    tokenizer = SiglipTokenizer(str(tmp_path / "spiece.model"), model_max_length=16)
    agrees_on_text(load_encoder(f"medsiglip:{tmp_path}"), model, tokenizer, tmp_path)


def test_the_vision_tower_alone_has_no_text(tmp_path):
    model = published(tmp_path / "both")
    SiglipVisionModel.from_pretrained(tmp_path / "both").save_pretrained(tmp_path / "vision")
    encoder = load_encoder(str(tmp_path / "vision"))
    assert not hasattr(encoder, "encode_text")
    batch = encoder.preprocess([radiograph((90, 70))])
    with torch.no_grad():
        close(encoder.encode(batch).cls, model.vision_model(batch).pooler_output)


def test_parameters_have_their_published_names(tmp_path):
    published(tmp_path)
    assert has_names(
        tmp_path,
        "logit_bias",
        "logit_scale",
        "text_model.head.weight",
        "vision_model.embeddings.patch_embedding.bias",
        "vision_model.encoder.layers.0.mlp.fc2.weight",
        "vision_model.head.attention.in_proj_weight",
        "vision_model.head.probe",
    )


def test_the_record(tmp_path):
    published(tmp_path)
    record = load_encoder(f"medsiglip:{tmp_path}").provenance
    assert (record.gated, record.supervision, record.sources) == (True, "text", None)
    assert load_encoder(f"xraysiglip:{tmp_path}").provenance.licence == "CC-BY-NC-4.0"


def test_refusals(tmp_path):
    published(tmp_path / "a")
    encoder = load_encoder(f"siglip-base:{tmp_path / 'a'}")
    good = encoder.preprocess([radiograph((90, 70))])
    for bad in (good[:, :1], good * 3, good[0], good[..., :-16]):
        with pytest.raises(RaddinoError, match="takes"):
            encoder.encode(bad)
    with pytest.raises(RaddinoError, match="no tokenizer beside its weights"):
        encoder.encode_text(PROMPTS)
    (tmp_path / "a/spiece.model").write_bytes(b"damaged")
    with pytest.raises(RaddinoError, match="tokenizer cannot be read"):
        encoder.encode_text(PROMPTS)
    published(tmp_path / "b", vision_use_head=False)
    with pytest.raises(RaddinoError, match="no pooling head"):
        load_encoder(f"siglip-base:{tmp_path / 'b'}")


@pytest.mark.parametrize("tower", ["vision_config", "text_config"])
def test_a_tower_deeper_than_the_weights_is_refused(tmp_path, tower):
    published(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config[tower]["num_hidden_layers"] = 10**9
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(RaddinoError, match="declares 1000000000 layers"):
        load_encoder(f"medsiglip:{tmp_path}", device="cpu")
