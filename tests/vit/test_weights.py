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
    HEADER,
    IMAGENET,
    Backbone,
    Normalisation,
    check_finite,
    fold_grey,
    from_official,
    load_backbone,
    normalisation_header,
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
    assert fold_grey(folded, 0.53, 0.26) is folded
    again = fold_grey(folded, 0.1, 0.2).build()((grey - 0.1) / 0.2).patches
    torch.testing.assert_close(again, model(rgb).patches, rtol=1e-5, atol=1e-5)
    for told in (None, Normalisation((0.5,), (0.5,))):
        with pytest.raises(RaddinoError, match=r"how their input is normalised|3 channels, .* is of 1"):
            fold_grey(Backbone(config, model.state_dict(), told), 0.5, 0.5)


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
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
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
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
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
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {key: value}), encoding="utf-8")
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
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | values), encoding="utf-8")
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


def official(**shape) -> VisionTransformer:
    """A network with the heads and channels of official files, its weights all different."""
    config = VitConfig(
        embed_dim=64, depth=2, num_heads=1, patch_size=8, image_size=16, in_channels=3, interpolate_offset=0.1
    ).model_copy(update=shape)
    return VisionTransformer(config).init_weights(torch.Generator().manual_seed(0)).eval()


TRAINING_STATES = {
    "flat": lambda s: s,
    "heads beside": lambda s: s | {"dino_head.last_layer.weight_g": torch.ones(3)},
    "backbone.": lambda s: under("backbone.", s) | {"dino_head.mlp.0.bias": torch.ones(3)},
    "module.": lambda s: under("module.", s),
    "module.backbone.": lambda s: under("module.backbone.", s),
    "_orig_mod.": lambda s: under("_orig_mod.", s),
    "_orig_mod in each block": lambda s: {k.replace("blocks.1.", "blocks.1._orig_mod."): v for k, v in s.items()},
    "FSDP in each block": lambda s: {k.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."): v for k, v in s.items()},
    "_orig_mod.module.backbone.": lambda s: under("_orig_mod.module.backbone.", s),
    "module._orig_mod.": lambda s: under("module._orig_mod.", s),
    "teacher.backbone.": lambda s: under("teacher.backbone.", s) | under("student.backbone.", wrong(s)),
    "teacher_backbone.": lambda s: under("teacher_backbone.", s) | under("student_backbone.", wrong(s)),
    "student alone": lambda s: under("student.backbone.", s),
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "iteration": 7},
    "teacher_checkpoint.pth": lambda s: {"teacher": under("backbone.", s) | {"dino_head.mlp.0.bias": torch.ones(3)}},
    "teacher and student": lambda s: {
        "student": under("module.backbone.", wrong(s)), "teacher": under("backbone.", s), "epoch": 1,
    },
    "model of teacher and student": lambda s: {
        "model": under("teacher.backbone.", s) | under("student.backbone.", wrong(s)),
    },
    "state_dict, compiled and distributed": lambda s: {
        "state_dict": under("_orig_mod.module.teacher.backbone.", s) | under("module.student.backbone.", wrong(s))
    },
    "model.module": lambda s: {"model": {"module": {"backbone": s}}},
    "model.state_dict of chunks": lambda s: {
        "model": {"state_dict": {k.replace("blocks.", "blocks.0."): v for k, v in s.items()}}
    },
    "half precision": lambda s: {name: tensor.half() for name, tensor in s.items()},
}  # fmt: skip


def under(prefix: str, state: dict) -> dict:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def wrong(state: dict) -> dict:
    return {name: tensor + 1 for name, tensor in state.items()}


@pytest.mark.parametrize("layout", TRAINING_STATES)
def test_whatever_a_training_script_saved_around_a_backbone_is_taken_off(tmp_path, layout):
    model = official()
    torch.save(TRAINING_STATES[layout](dict(model.state_dict())), tmp_path / "state.pth")
    found = load_backbone(tmp_path / "state.pth").state
    assert found.keys() == model.state_dict().keys()
    rounding = {"rtol": 1e-3, "atol": 1e-6} if "half" in layout else {"rtol": 0, "atol": 0}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[name], tensor, **rounding)
        assert found[name].dtype == torch.float32


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda s: {"model": s, "model_ema": s}, r"several DINOv2 backbones, under 'model\.', 'model_ema\.'"),
        (lambda s: {"teacher": s, "ema": {"teacher": s}}, r"several .*'teacher\.', 'ema\.teacher\.'"),
        (lambda s: s | {"surplus.weight": torch.ones(1)}, "Unexpected key.*surplus"),
        (lambda s: {"a": {"b": {"c": {"d": {"e": s}}}}}, "not DINOv2 weights"),
        (lambda s: {"_flat_param": torch.ones(99), "model": {"_flat_param": torch.ones(9)}}, "not DINOv2 weights"),
        (lambda s: {name: tensor for name, tensor in s.items() if name != "mask_token"}, "Missing key.*mask_token"),
    ],
)
def test_ambiguous_and_partial_states_are_one_line(tmp_path, wrap, words):
    torch.save(wrap(dict(official().state_dict())), tmp_path / "state.pth")
    with pytest.raises(RaddinoError, match=words) as refused:
        load_backbone(tmp_path / "state.pth")
    assert "\n" not in str(refused.value)


def test_a_state_that_holds_itself_ends(tmp_path):
    state = dict(official().state_dict())
    state["self"] = state
    torch.save(state, tmp_path / "state.pth")
    with pytest.raises(RaddinoError, match="several DINOv2 backbones"):
        load_backbone(tmp_path / "state.pth")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path, number, dtype, suffix):
    state = {name: tensor.to(dtype).clone() for name, tensor in official().state_dict().items()}
    state["blocks.1.attn.proj.weight"][3, 5] = number
    file = tmp_path / f"state.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, file)
    with pytest.raises(
        RaddinoError, match=rf"state\.{suffix}: blocks\.1\.attn\.proj\.weight holds numbers that are not"
    ):
        load_backbone(file)


def test_every_kind_of_tensor_can_be_looked_at():
    fine = {
        "empty": torch.zeros(0), "whole": torch.arange(3), "flags": torch.tensor([True]), "scalar": torch.tensor(1.0),
        "large": torch.full((2,), torch.finfo(torch.bfloat16).max, dtype=torch.bfloat16),
        "eight": torch.ones(2).to(torch.float8_e5m2), "view": torch.ones(4, 4)[1:, ::2],
    }  # fmt: skip
    check_finite("file", fine.items())
    for dtype in (torch.float8_e5m2, torch.float16):
        with pytest.raises(RaddinoError, match="file: bad holds"):
            check_finite("file", [*fine.items(), ("bad", torch.tensor([1.0, torch.inf]).to(dtype))])


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
        ({"do_normalize": False}, ((0.0,) * 3, (1.0,) * 3)),
        ({"do_rescale": False}, ((0.485 / 255, 0.456 / 255, 0.406 / 255), (0.229 / 255, 0.224 / 255, 0.225 / 255))),
        ({"rescale_factor": 1 / 127.5}, ((0.2425, 0.228, 0.203), (0.1145, 0.112, 0.1125))),
    ],
)
def test_a_folder_tells_the_normalisation_that_its_processor_does(tmp_path, changed, wanted):
    huggingface_folder(tmp_path, 0, False)
    steps = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "rescale_factor": 1 / 255}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(steps | changed), encoding="utf-8")
    told = load_backbone(tmp_path).normalisation
    assert told.mean == pytest.approx(wanted[0], rel=1e-12)
    assert told.std == pytest.approx(wanted[1], rel=1e-12)


def test_where_a_file_says_its_normalisation(tmp_path):
    model, own = official(), Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors", metadata=normalisation_header(own))
    save_file(state, tmp_path / "b.safetensors")
    torch.save(state, tmp_path / "c.pth")
    said = {name: load_backbone(tmp_path / name).normalisation for name in ("a.safetensors", "b.safetensors", "c.pth")}
    assert said == {"a.safetensors": own, "b.safetensors": IMAGENET, "c.pth": IMAGENET}
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.7, 0.7, 0.7], "image_std": [0.2, 0.2, 0.2]}', encoding="utf-8"
    )
    beside = Normalisation((0.7,) * 3, (0.2,) * 3)
    assert load_backbone(tmp_path / "a.safetensors").normalisation == own
    assert load_backbone(tmp_path / "b.safetensors").normalisation == beside
    assert load_backbone(tmp_path / "c.pth").normalisation == beside
    grey = {name: tensor.clone() for name, tensor in official(in_channels=1).state_dict().items()}
    (tmp_path / "alone").mkdir()
    torch.save(grey, tmp_path / "alone/grey.pth")
    assert load_backbone(tmp_path / "alone/grey.pth").normalisation is None


MEANS = ["[NaN, 0, 0]", "7", '["x"]', "[1e999, 0, 0]", "[0]", f"[{10**400}, 0, 0]"]


@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, "7", *(f'{{"image_mean": {mean}, "image_std": [1, 1, 1]}}' for mean in MEANS)]
)
def test_a_damaged_header_is_one_line(tmp_path, text):
    state = {name: tensor.clone() for name, tensor in official().state_dict().items()}
    save_file(state, tmp_path / "w.safetensors", metadata={HEADER: text})
    with pytest.raises(RaddinoError, match=r"w\.safetensors is damaged") as refused:
        load_backbone(tmp_path / "w.safetensors")
    assert "\n" not in str(refused.value)
