"""Encoder folders: equal in Transformers and here, from grey and from the RGB image a user would pass."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from raddino.encoders.base import Provenance
from raddino.encoders.load import known_encoders, load_encoder
from raddino.encoders.ours import VitEncoder, save_encoder
from raddino.errors import RaddinoError
from raddino.vit import VisionTransformer, VitConfig

PROVENANCE = Provenance(sources=["synthetic"], supervision="self-supervised", licence="Apache-2.0", synthetic=True)


def saved(folder, registers: int = 0) -> VisionTransformer:
    config = VitConfig(
        embed_dim=48, depth=2, num_heads=3, patch_size=8, image_size=64, layerscale_init=1.0,
        num_register_tokens=registers, interpolate_antialias=registers > 0,
    )  # fmt: skip
    model = VisionTransformer(config).init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    save_encoder(folder, model, size=64, mean=0.5, std=0.25, name="small", provenance=PROVENANCE)
    return model


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("shape", [(64, 64), (150, 130), (90, 200), (40, 50), (64, 99), (107, 64)])
def test_transformers_gives_the_same_features(tmp_path, registers, shape):
    saved(tmp_path / "encoder", registers)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    encoder = VitEncoder.load(tmp_path / "encoder")
    ours = encoder.encode(encoder.preprocess([image]))
    model = AutoModel.from_pretrained(tmp_path / "encoder")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "encoder")
    pixels = processor(Image.fromarray(image).convert("RGB"), return_tensors="pt")
    with torch.no_grad():
        theirs = model(**pixels).last_hidden_state
    torch.testing.assert_close(ours.cls, theirs[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.patches.flatten(1, 2), theirs[:, 1 + registers :], rtol=0, atol=1e-5)
    assert encoder.grid == ours.patches.shape[1:3] == (8, 8)


def test_a_foreign_folder_is_preprocessed_as_its_processor_says(tmp_path):
    saved(tmp_path / "encoder")
    (tmp_path / "encoder/raddino.json").unlink()
    file = tmp_path / "encoder/preprocessor_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"size": {"shortest_edge": 73}}), encoding="utf-8"
    )
    image = np.random.default_rng(0).integers(0, 256, (150, 130), dtype=np.uint8)
    encoder = VitEncoder.load(tmp_path / "encoder")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "encoder")
    theirs = processor(Image.fromarray(image).convert("RGB"), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder.preprocess([image])[0, 0], theirs[0, 0], rtol=0, atol=1e-5)
    assert encoder.provenance.sources is None


def test_what_is_saved_is_what_was_trained(tmp_path):
    model = saved(tmp_path / "encoder").eval()
    encoder = VitEncoder.load(tmp_path / "encoder")
    batch = torch.rand(2, 1, 64, 64) * 4 - 2
    torch.testing.assert_close(encoder.encode(batch).cls, model(batch).cls.detach(), rtol=0, atol=1e-5)
    assert encoder.provenance.sources == ["synthetic"]
    assert (
        encoder.provenance.sha256
        == json.loads((tmp_path / "encoder/raddino.json").read_text(encoding="utf-8"))["sha256"]
    )
    card = (tmp_path / "encoder/README.md").read_text(encoding="utf-8")
    assert "synthetic" in card
    assert "research only" in card


def test_a_batch_from_elsewhere_is_refused(tmp_path):
    saved(tmp_path / "encoder")
    encoder = VitEncoder.load(tmp_path / "encoder")
    batch = encoder.preprocess([np.zeros((70, 80), np.uint8)])
    for bad in (batch.expand(-1, 3, -1, -1), batch * 50, batch[0], batch * float("nan")):
        with pytest.raises(RaddinoError, match="small takes"):
            encoder.encode(bad)


def test_sixteen_bits_agree_with_eight(tmp_path):
    saved(tmp_path / "encoder")
    encoder = VitEncoder.load(tmp_path / "encoder")
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    eight, sixteen = encoder.preprocess([image]), encoder.preprocess([image.astype(np.uint16) * 257])
    torch.testing.assert_close(eight, sixteen)


def test_fingerprint_follows_the_weights_and_the_preprocessing(tmp_path):
    model = saved(tmp_path / "a")
    first = VitEncoder.load(tmp_path / "a").fingerprint
    assert VitEncoder.load(tmp_path / "a").fingerprint == first
    save_encoder(tmp_path / "b", model, size=56, mean=0.5, std=0.25, name="small", provenance=PROVENANCE)
    assert VitEncoder.load(tmp_path / "b").fingerprint != first


def test_attention_is_a_share_over_patches(tmp_path):
    saved(tmp_path / "encoder", 2)
    attention = VitEncoder.load(tmp_path / "encoder").attention(torch.randn(2, 1, 64, 64))
    assert attention.shape == (2, 3, 8, 8)
    assert ((attention >= 0) & (attention <= 1)).all()


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32), np.zeros((8, 8), np.int64)]
)
def test_images_that_are_not_grey_integers_are_refused(tmp_path, image):
    saved(tmp_path / "encoder")
    with pytest.raises(RaddinoError, match="takes grey"):
        VitEncoder.load(tmp_path / "encoder").preprocess([image])


def test_damaged_and_missing_folders_are_refused(tmp_path):
    saved(tmp_path / "encoder")
    weights = tmp_path / "encoder/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\0\1")
    with pytest.raises(RaddinoError, match="not the file that"):
        load_encoder(str(tmp_path / "encoder"))
    (tmp_path / "encoder/raddino.json").write_text("{", encoding="utf-8")
    with pytest.raises(RaddinoError, match="is damaged"):
        load_encoder(str(tmp_path / "encoder"))
    with pytest.raises(RaddinoError, match="no encoder at"):
        load_encoder(str(tmp_path / "absent"))
    with pytest.raises(RaddinoError, match="Did you mean 'hog'"):
        load_encoder("hogg")


def test_the_shipped_encoder_loads_and_says_what_it_saw():
    assert "raddino-tiny" in known_encoders()
    encoder = load_encoder("raddino-tiny")
    image = np.random.default_rng(0).integers(0, 256, (200, 180), dtype=np.uint8)
    features = encoder.encode(encoder.preprocess([image]))
    assert torch.isfinite(features.cls).all()
    assert "synthetic" in encoder.provenance.sources
    assert encoder.provenance.licence


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("preprocessor_config.json", "[]"),
        ("preprocessor_config.json", '{"image_mean": "a", "image_std": 3}'),
        ("preprocessor_config.json", '{"crop_size": {"height": 3}}'),
        ("raddino.json", "[]"),
        ("raddino.json", '{"provenance": {"x": 1}}'),
        ("raddino.json", '{"provenance": {}}'),
        ("preprocessor_config.json", '{"image_mean": [0.5], "image_std": [0]}'),
        ("preprocessor_config.json", '{"image_mean": [0.5], "image_std": [-0.2]}'),
        ("preprocessor_config.json", '{"image_mean": [NaN], "image_std": [0.2]}'),
        ("preprocessor_config.json", '{"image_mean": [0.5], "image_std": [0.2], "crop_size": 1000000}'),
        ("preprocessor_config.json", '{"image_mean": [0.5], "image_std": [0.2], "size": {"shortest_edge": -5}}'),
    ],
)
def test_damaged_files_beside_the_weights_are_named(tmp_path, file, text):
    model = VisionTransformer(VitConfig(embed_dim=16, depth=1, num_heads=2, patch_size=8, image_size=16))
    folder = save_encoder(
        tmp_path / "e", model, size=16, mean=0.5, std=0.2, name="e", provenance=Provenance()
    )  # fmt: skip
    (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(RaddinoError, match=file):
        VitEncoder.load(folder, device="cpu")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sources", "toy"), ("sources", 3), ("sources", [3]), ("supervision", "clean"), ("supervision", ["text"]),
        ("synthetic", "yes"), ("corpora", ["a"]), ("corpora", {"a": "train"}), ("gated", "no"), ("note", None),
        ("licence", 1),
    ],
)  # fmt: skip
def test_a_damaged_provenance_is_refused_by_field(tmp_path, field, value):
    saved(tmp_path / "encoder")
    file = tmp_path / "encoder/raddino.json"
    about = json.loads(file.read_text(encoding="utf-8"))
    del about["seal"]
    file.write_text(json.dumps(about | {"provenance": about["provenance"] | {field: value}}), encoding="utf-8")
    with pytest.raises(RaddinoError, match=rf"raddino\.json: its provenance is damaged: {field} cannot be"):
        VitEncoder.load(tmp_path / "encoder")
    for name in ("name", "sha256"):
        file.write_text(json.dumps(about | {name: ["x"]}), encoding="utf-8")
        with pytest.raises(RaddinoError, match=name if name == "name" else "sha256|not the file"):
            VitEncoder.load(tmp_path / "encoder")


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize(
    "declared",
    [
        {"num_hidden_layers": 10**9}, {"num_hidden_layers": 1}, {"hidden_size": 3 * 10**9}, {"mlp_ratio": 10**9},
        {"image_size": 8 * 10**9}, {"mlp_ratio": 1e308},
    ],
)  # fmt: skip
def test_a_shape_beyond_the_weights_is_refused_before_it_is_built(tmp_path, declared, record):
    saved(tmp_path / "encoder")
    if not record:
        (tmp_path / "encoder/raddino.json").unlink()
    file = tmp_path / "encoder/config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | declared), encoding="utf-8")
    with pytest.raises(RaddinoError, match="weights do not fit the network"):
        VitEncoder.load(tmp_path / "encoder")
