"""DINOv3 against Transformers: registers left out, images resized in floats."""

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError
from transformers_folders import SHAPES, close, has_names, prepared, publish, radiograph

PROCESSOR = {
    "crop_size": None, "data_format": "channels_first", "default_to_square": True, "device": None,
    "do_center_crop": None, "do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406], "image_processor_type": "DINOv3ViTImageProcessorFast",
    "image_std": [0.229, 0.224, 0.225], "resample": 2, "rescale_factor": 1 / 255,
    "size": {"height": 64, "width": 64},
}  # fmt: skip


def published(folder, registers: int = 4, **changes) -> DINOv3ViTModel:
    torch.manual_seed(0)
    config = DINOv3ViTConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_register_tokens=registers,
    )  # fmt: skip
    return publish(folder, DINOv3ViTModel(config), PROCESSOR | changes)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("registers", "resample"), [(4, 2), (0, 2), (4, 3)])
def test_features_are_those_of_transformers(tmp_path, registers, resample, shape):
    model = published(tmp_path, registers, resample=resample)
    image = radiograph(shape)
    encoder = load_encoder(f"dinov3-base:{tmp_path}", device="cpu")
    batch = encoder.preprocess([image])
    pixels = prepared(tmp_path, image)
    close(batch, pixels)
    features = encoder.encode(batch)
    with torch.no_grad():
        states = model(pixels).last_hidden_state
    close(features.cls, states[:, 0])
    close(features.patches.flatten(1, 2), states[:, 1 + registers :])
    assert features.patches.shape == (1, *encoder.grid, encoder.dim) == (1, 4, 4, 48)


def test_a_bare_folder_is_known_by_its_kind_and_prepared_as_published(tmp_path):
    published(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    encoder = load_encoder(str(tmp_path))
    assert type(encoder).__name__ == "Dinov3"
    assert encoder.preprocess([radiograph((30, 90))]).shape == (1, 3, 224, 224)
    assert encoder.provenance.sources is None
    assert len(encoder.provenance.sha256) == 64


def test_parameters_have_their_published_names(tmp_path):
    published(tmp_path)
    assert has_names(
        tmp_path,
        "embeddings.register_tokens",
        "embeddings.patch_embeddings.weight",
        "layer.0.attention.o_proj.bias",
        "layer.0.attention.k_proj.weight",
        "layer.1.layer_scale1.lambda1",
        "layer.1.mlp.up_proj.weight",
        "norm.weight",
    )


def test_the_licence_and_the_gate_are_on_record(tmp_path):
    published(tmp_path)
    record = load_encoder(f"dinov3-small:{tmp_path}").provenance
    assert (record.licence, record.gated) == ("DINOv3 License", True)


def test_the_wrong_batch_and_lost_weights_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    published(tmp_path)
    encoder = load_encoder(f"dinov3-base:{tmp_path}")
    good = encoder.preprocess([radiograph((70, 60))])
    with pytest.raises(RaddinoError, match=r"batches \(B, 3, H, W\)"):
        encoder.encode(good[:, :1])
    with pytest.raises(RaddinoError, match="takes values in"):
        encoder.encode(good * 100)
    state = load_file(tmp_path / "model.safetensors")
    state.pop(next(name for name in sorted(state) if "norm" in name))
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RaddinoError, match="1 weights are missing"):
        load_encoder(f"dinov3-base:{tmp_path}")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(RaddinoError, match="Transformers cannot load it"):
        load_encoder(f"dinov3-base:{tmp_path}")
