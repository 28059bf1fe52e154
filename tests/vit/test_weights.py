"""Import from and export to the formats others use, compared with Transformers' own forward pass."""

import json
import time

import pytest
import torch
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from raddino.errors import RaddinoError
from raddino.vit import VisionTransformer, VitConfig
from raddino.vit.weights import (
    Backbone,
    Normalisation,
    fold_grey,
    from_official,
    load_backbone,
    read_weights,
    resize_positions,
    to_huggingface,
)

SHAPE = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 42,
    "patch_size": 14,
}


def huggingface_folder(tmp_path, registers: int, swiglu: bool):
    torch.manual_seed(0)
    if registers:
        config = Dinov2WithRegistersConfig(**SHAPE, num_register_tokens=registers, use_swiglu_ffn=swiglu)
        model = Dinov2WithRegistersModel(config)
    else:
        model = Dinov2Model(Dinov2Config(**SHAPE, use_swiglu_ffn=swiglu))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(tmp_path)
    return model.eval()


@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("size", [(42, 42), (56, 70)])
def test_import_from_huggingface_gives_its_features(tmp_path, registers, swiglu, size):
    theirs = huggingface_folder(tmp_path, registers, swiglu)
    ours = load_backbone(tmp_path).build().eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = theirs(images).last_hidden_state
        features = ours(images)
    torch.testing.assert_close(features.cls, expected[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.patches, expected[:, 1 + registers :], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("registers", [0, 2])
def test_official_names_round_trip_and_chunked_training_states(tmp_path, registers):
    config = VitConfig(
        embed_dim=128, depth=2, num_heads=2, patch_size=14, image_size=42, in_channels=3,
        num_register_tokens=registers, interpolate_offset=0.0 if registers else 0.1,
        interpolate_antialias=bool(registers),
    )  # fmt: skip
    model = VisionTransformer(config).init_weights()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pth")
    chunked = {k.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.0.1."): v for k, v in state.items()}
    torch.save(
        {"teacher": {f"backbone.{k}": v for k, v in chunked.items()} | {"dino_head.x": state["norm.bias"]}},
        tmp_path / "t.pth",
    )
    images = torch.randn(2, 3, 42, 42)
    for name in ("w.safetensors", "w.pth", "t.pth"):
        loaded = load_backbone(tmp_path / name)
        assert loaded.config == config.model_copy(update={"layerscale_init": loaded.config.layerscale_init})
        torch.testing.assert_close(loaded.build()(images).patches, model(images).patches)


def test_folding_to_grey_is_exact_with_any_normalisation():
    config = VitConfig(embed_dim=32, depth=1, num_heads=2, patch_size=8, image_size=16, in_channels=3)
    model = VisionTransformer(config).init_weights()
    imagenet = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    grey = torch.rand(2, 1, 16, 16)
    rgb = (grey - torch.tensor(imagenet.mean).view(1, 3, 1, 1)) / torch.tensor(imagenet.std).view(1, 3, 1, 1)
    folded = fold_grey(Backbone(config, model.state_dict(), imagenet), mean=0.53, std=0.26)
    torch.testing.assert_close(folded.build()((grey - 0.53) / 0.26).patches, model(rgb).patches, rtol=1e-5, atol=1e-5)
    assert fold_grey(folded, 0.1, 0.2) is folded


def test_resized_positions_act_like_interpolation_on_the_fly():
    config = VitConfig(embed_dim=32, depth=1, num_heads=2, patch_size=8, image_size=32)
    model = VisionTransformer(config).init_weights()
    other = resize_positions(Backbone(config, model.state_dict(), None), 48).build()
    image = torch.randn(1, 1, 48, 48)
    torch.testing.assert_close(other(image).patches, model(image).patches)


def test_positions_that_transformers_cannot_have_are_not_exported():
    config = VitConfig(embed_dim=32, depth=1, num_heads=2, patch_size=8, image_size=32, interpolate_offset=0.1)
    with pytest.raises(RaddinoError, match="interpolate_offset=0"):
        to_huggingface(VisionTransformer(config))


def test_unreadable_weights_are_one_line_errors(tmp_path):
    with pytest.raises(RaddinoError, match="no weights at"):
        load_backbone(tmp_path / "absent.pth")
    with pytest.raises(RaddinoError, match=r"no config\.json"):
        load_backbone(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(RaddinoError, match="safetensors"):
        load_backbone(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(RaddinoError, match="'bert' is not dinov2"):
        load_backbone(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"not weights")
    with pytest.raises(RaddinoError, match="not a readable weights file"):
        load_backbone(tmp_path / "bad.safetensors")
    with pytest.raises(RaddinoError, match="not DINOv2 weights"):
        from_official({"cls_token": torch.zeros(1, 1, 4)})


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(RaddinoError, match="refused by the safe loader"):
        load_backbone(tmp_path / "evil.pth")


@pytest.mark.parametrize("config", ["[]", '{"model_type": "dinov2"}', '{"model_type": "dinov2", "hidden_size": "x"}'])
def test_a_config_of_something_else_is_a_one_line_error(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(RaddinoError, match="does not describe these weights") as raised:
        load_backbone(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("state", [[1, 2], {"cls_token": 3}])
def test_a_file_of_something_else_is_a_one_line_error(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(RaddinoError, match="not DINOv2 weights"):
        load_backbone(tmp_path / "w.pth")


def test_a_tensor_with_fewer_numbers_than_its_shape_is_refused(tmp_path):
    vast = torch.zeros(1, dtype=torch.half).expand(10**5, 10**5)
    for at, state in enumerate(({"model": {"pos_embed": vast}}, [(vast,)], {"pos_embed": torch.zeros(9).to_sparse()})):
        torch.save(state, tmp_path / f"{at}.pt")
        with pytest.raises(RaddinoError, match="fewer numbers than its shape"):
            load_backbone(tmp_path / f"{at}.pt")
    whole = torch.arange(12.0).view(3, 4)
    torch.save({"a": whole.T, "b": whole[1:], "c": torch.tensor(1.0)}, tmp_path / "views.pt")
    torch.testing.assert_close(read_weights(tmp_path / "views.pt")["a"], whole.T)


def test_a_far_block_number_does_not_make_a_deep_network(tmp_path):
    state = VisionTransformer(VitConfig(embed_dim=64, depth=1, num_heads=1, patch_size=8, image_size=16)).state_dict()
    torch.save(state | {"blocks.999999999.norm1.weight": torch.zeros(64)}, tmp_path / "w.pth")
    with pytest.raises(RaddinoError, match="1000000000 blocks, they 2"):
        load_backbone(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_act", "relu"), ("layer_norm_eps", 1e-5), ("qkv_bias", False), ("qkv_bias", None)]
)
def test_what_is_not_computed_here_is_refused(tmp_path, key, value):
    folder = tmp_path
    huggingface_folder(folder, 0, False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(RaddinoError, match=f"{key} .* is not computed here"):
        load_backbone(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 10**300},
        {"hidden_size": 10**12},
        {"hidden_size": -1},
        {"image_size": 10**9},
        {"mlp_ratio": 1e300},
        {"num_attention_heads": 0},
        {"patch_size": [14]},
        {"hidden_size": {"a": {}}},
    ],
)
def test_absurd_values_are_one_line_at_once(tmp_path, values):
    folder = tmp_path
    huggingface_folder(folder, 0, False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    begun = time.process_time()
    with pytest.raises(RaddinoError) as refused:
        load_backbone(folder)
    assert "\n" not in str(refused.value)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "text", ['{"image_mean": 1, "image_std": 1}', "[" * 10_000, '{"image_mean": [NaN], "image_std": [1]}', "[1]",
             "\xff", '{"image_mean": [0.5], "image_std": [0]}', '{"image_mean": [1e999], "image_std": [1]}',
             '{"image_mean": [0.5], "image_std": [1, 1]}', '{"image_mean": [], "image_std": []}']
)  # fmt: skip
def test_a_damaged_preprocessor_is_one_line(tmp_path, text):
    folder = tmp_path
    huggingface_folder(folder, 0, False)
    (folder / "preprocessor_config.json").write_text(text, encoding="latin-1")
    with pytest.raises(RaddinoError, match=r"preprocessor_config\.json is damaged") as refused:
        load_backbone(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"patch_embed.proj.weight": torch.zeros(4)},
        {"pos_embed": torch.zeros(())},
        {"register_tokens": torch.zeros(3)},
        {"blocks.0.mlp.fc1.weight": None},
        {"norm.weight": "text"},
        {"blocks.99999999999.norm1.weight": torch.zeros(4)},
        {7: torch.zeros(4)},
    ],
)
def test_official_names_with_other_things_behind_them_are_one_line(tmp_path, change):
    state = VisionTransformer(VitConfig(embed_dim=64, depth=1, num_heads=1, patch_size=8, image_size=16)).state_dict()
    state |= change
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / "odd.pth")
    with pytest.raises(RaddinoError) as refused:
        load_backbone(tmp_path / "odd.pth")
    assert "\n" not in str(refused.value)
