"""DINOv2 and RAD-DINO from folders and official files, against Transformers' own model and image processor."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from raddino.encoders import dinov2, rad_dino
from raddino.encoders.base import ENCODERS
from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError
from raddino.files import sha256
from raddino.vit import VisionTransformer
from raddino.vit.weights import load_backbone
from transformers_folders import SHAPES, close, has_names, prepared, publish, radiograph

SHAPE = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "image_size": 56, "patch_size": 14,
}  # fmt: skip
RAD_DINO = ((0.5307,) * 3, (0.2583,) * 3)


def processor(size: int, crop: int, mean, std) -> dict:
    return {
        "crop_size": {"height": crop, "width": crop}, "do_center_crop": True, "do_convert_rgb": True,
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": list(mean),
        "image_processor_type": "BitImageProcessor", "image_std": list(std), "resample": 3,
        "rescale_factor": 1 / 255, "size": {"shortest_edge": size},
    }  # fmt: skip


def published(folder, name: str) -> Dinov2Model:
    steps = processor(56, 56, *RAD_DINO) if "rad" in name else processor(64, 45, *dinov2.IMAGENET)
    if "registers" in name:
        return publish(
            folder, Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SHAPE, num_register_tokens=4)), steps
        )
    return publish(folder, Dinov2Model(Dinov2Config(**SHAPE, use_swiglu_ffn="giant" in name)), steps)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "name", ["dinov2-small", "dinov2-giant", "dinov2-base-registers", "rad-dino", "rad-dino-maira-2"]
)
def test_features_are_those_of_transformers(tmp_path, name, shape):
    model = published(tmp_path, name)
    image = radiograph(shape)
    encoder = load_encoder(f"{name}:{tmp_path}", device="cpu")
    features = encoder.encode(encoder.preprocess([image]))
    with torch.no_grad():
        states = model(prepared(tmp_path, image)).last_hidden_state
    leading = 1 + getattr(model.config, "num_register_tokens", 0)
    close(features.cls, states[:, 0])
    close(features.patches.flatten(1, 2), states[:, leading:])
    assert features.patches.shape[1:] == (*encoder.grid, encoder.dim)


def test_parameters_have_their_published_names(tmp_path):
    published(tmp_path, "rad-dino")
    assert has_names(
        tmp_path,
        "embeddings.cls_token",
        "embeddings.position_embeddings",
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layer.0.attention.attention.query.weight",
        "encoder.layer.0.attention.output.dense.bias",
        "encoder.layer.1.layer_scale1.lambda1",
        "encoder.layer.1.mlp.fc1.weight",
        "layernorm.bias",
    )


def test_the_record_names_the_file_and_the_images_seen(tmp_path):
    published(tmp_path, "rad-dino")
    record = load_encoder(f"rad-dino:{tmp_path}").provenance
    assert record.sha256 == sha256(tmp_path / "model.safetensors")
    assert record.sources == ["brax", "chexpert", "mimic-cxr", "nih", "padchest"]
    assert (record.licence, record.gated, record.supervision) == ("MIT", False, "self-supervised")
    assert "nih" in ENCODERS["rad-dino-maira-2"].provenance.sources
    assert "nih" not in ENCODERS["dinov2-base"].provenance.sources


def test_an_official_file_is_prepared_as_published(tmp_path):
    published(tmp_path / "folder", "rad-dino")
    backbone = load_backbone(tmp_path / "folder")
    file = tmp_path / "backbone_compatible.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in backbone.state.items()}, file)
    encoder = load_encoder(f"rad-dino:{file}")
    batch = encoder.preprocess([radiograph((600, 640))])
    assert batch.shape == (1, 1, 518, 518)
    assert encoder.grid == (37, 37)
    assert encoder.provenance.sha256 == sha256(file)
    model: VisionTransformer = backbone.build().eval()
    small = torch.rand(1, 1, 56, 56)
    with torch.no_grad():
        theirs = model(((small - 0.5307) / 0.2583).expand(-1, 3, -1, -1)).cls
    batch = (small - encoder.mean) / encoder.std
    close(encoder.encode(batch).cls, theirs)
    before = load_encoder(str(tmp_path / "folder")).fingerprint
    file.rename(tmp_path / "folder" / file.name)
    assert load_encoder(str(tmp_path / "folder")).fingerprint == before


def test_without_an_image_processor_the_published_steps_are_taken(tmp_path):
    published(tmp_path, "rad-dino")
    (tmp_path / "preprocessor_config.json").unlink()
    assert load_encoder(f"rad-dino:{tmp_path}").size == rad_dino.PUBLISHED.crop
    with pytest.raises(RaddinoError, match=r"preprocessor_config\.json is missing"):
        load_encoder(str(tmp_path))


def test_what_preprocess_did_not_make_is_refused(tmp_path):
    published(tmp_path, "rad-dino")
    encoder = load_encoder(f"rad-dino:{tmp_path}")
    good = encoder.preprocess([radiograph((70, 60))])
    for bad, words in (
        (good.expand(-1, 3, -1, -1), r"batches \(B, 1, H, W\)"),
        (good[0], r"batches \(B, 1, H, W\)"),
        (torch.full_like(good, 255.0), "takes values in"),
        (torch.full_like(good, np.nan), "takes values in"),
    ):
        with pytest.raises(RaddinoError, match=words):
            encoder.encode(bad)


def test_folders_of_another_kind_and_damaged_ones_are_named(tmp_path):
    published(tmp_path, "dinov2-base")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}', encoding="utf-8")
    with pytest.raises(RaddinoError, match="dinov2-base reads model_type dinov2"):
        load_encoder(f"dinov2-base:{tmp_path}")
    (tmp_path / "config.json").write_text("[", encoding="utf-8")
    with pytest.raises(RaddinoError, match=r"config\.json is damaged"):
        load_encoder(f"dinov2-base:{tmp_path}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RaddinoError, match=r"holds none of config\.json"):
        load_encoder(f"dinov2-base:{tmp_path / 'empty'}")
