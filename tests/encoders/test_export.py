"""Exports, run by the libraries they are for, against the encoder itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from raddino.encoders import export as module
from raddino.encoders.base import Provenance
from raddino.encoders.export import FORMATS, export
from raddino.encoders.export_weights import at_input_size, timm_model, timm_state
from raddino.encoders.ours import VitEncoder, save_encoder
from raddino.errors import ConfigError, RaddinoError
from raddino.files import sha256, write_json
from raddino.vit import VisionTransformer, VitConfig
from raddino.vit.weights import fold_grey, load_backbone

MEAN, STD, NATIVE = 0.5, 0.25, 42
RECORD = Provenance(sources=["synthetic"], supervision="self-supervised", licence="Apache-2.0", synthetic=True)
SHAPES = [(0, "mlp"), (4, "mlp"), (0, "swiglu"), (2, "swiglu")]


def encoder_folder(folder: Path, registers=0, ffn="mlp", size=NATIVE, heads=2, record=RECORD) -> Path:
    config = VitConfig(
        embed_dim=128, depth=2, num_heads=heads, patch_size=14, image_size=NATIVE, layerscale_init=1.0, ffn=ffn,
        num_register_tokens=registers, interpolate_antialias=registers > 0,
    )  # fmt: skip
    model = VisionTransformer(config).init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)) * 0.05)
    return save_encoder(folder, model, size=size, mean=MEAN, std=STD, name="small", provenance=record)


def images(batch: int, size: int = NATIVE) -> torch.Tensor:
    """Grey (B, 1, S, S) in [0, 1]."""
    return torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(batch))


def rgb(grey: torch.Tensor) -> torch.Tensor:
    return ((grey - MEAN) / STD).expand(-1, 3, -1, -1)


def expected(folder: Path, grey: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    features = VitEncoder.load(folder, "cpu").encode((grey - MEAN) / STD)
    return features.cls, features.patches


def assert_same(found, wanted, atol: float) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(
            torch.as_tensor(ours).flatten(1), theirs.flatten(1), rtol=0, atol=atol, check_stride=False
        )


@pytest.mark.parametrize(("registers", "ffn"), SHAPES)
@pytest.mark.parametrize("size", [42, 70])
def test_official_names_come_back_and_timms_converter_takes_them(tmp_path, registers, ffn, size):
    source = encoder_folder(tmp_path / "e", registers, ffn, size)
    file = export(source, tmp_path / "out", "official") / "model.safetensors"
    wanted = expected(source, images(2, size))
    back = fold_grey(load_backbone(file), MEAN, STD).build().eval()
    with torch.no_grad():
        tokens = back((images(2, size) - MEAN) / STD)
    assert_same((tokens.cls, tokens.patches), wanted, 1e-6)
    timm = pytest.importorskip("timm")
    from timm.models.vision_transformer import checkpoint_filter_fn

    name, arguments = timm_model(back.config)
    other = timm.create_model(name, num_classes=0, **arguments).eval()
    other.load_state_dict(checkpoint_filter_fn(load_file(file), other))
    with torch.no_grad():
        found = other.forward_features(rgb(images(2, size)))
    assert_same((found[:, 0], found[:, 1 + registers :]), wanted, 1e-5)


@pytest.mark.parametrize(("registers", "ffn"), SHAPES)
@pytest.mark.parametrize("size", [28, 42, 98])
def test_timm_gives_the_same_features(tmp_path, registers, ffn, size):
    timm = pytest.importorskip("timm")
    source = encoder_folder(tmp_path / "e", registers, ffn, size)
    out = export(source, tmp_path / "out", "timm")
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    for model in (
        timm.create_model(f"local-dir:{out}", pretrained=True),
        timm.create_model(
            config["architecture"], checkpoint_path=out / "model.safetensors", num_classes=0, **config["model_args"]
        ),
    ):
        with torch.no_grad():
            tokens = model.eval().forward_features(rgb(images(2, size)))
        assert_same((tokens[:, 0], tokens[:, 1 + registers :]), expected(source, images(2, size)), 1e-5)


def test_timm_interpolates_registers_positions_alike(tmp_path):
    timm = pytest.importorskip("timm")
    source = encoder_folder(tmp_path / "e", registers=4)
    out = export(source, tmp_path / "out", "timm")
    model = timm.create_model(f"local-dir:{out}", pretrained=True, dynamic_img_size=True).eval()
    grey = torch.rand(1, 1, 56, 28)
    with torch.no_grad():
        tokens = model.forward_features(rgb(grey))
    assert_same((tokens[:, 0], tokens[:, 5:]), expected(source, grey), 1e-5)


@pytest.mark.parametrize("dim_depth_heads", [(384, 12, 6), (768, 12, 12), (1024, 24, 16), (1536, 40, 24)])
@pytest.mark.parametrize("registers", [0, 4])
def test_published_shapes_are_timms_own_models(dim_depth_heads, registers):
    timm = pytest.importorskip("timm")
    dim, depth, heads = dim_depth_heads
    shape = VitConfig(
        embed_dim=dim, depth=depth, num_heads=heads, ffn="swiglu" if dim == 1536 else "mlp",
        num_register_tokens=registers,
    )  # fmt: skip
    with torch.device("meta"):
        ours = timm_state(VisionTransformer(shape))
        theirs = timm.create_model(timm_model(shape)[0], num_classes=0).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {n: t.shape for n, t in theirs.items()}


@pytest.mark.parametrize(("shorter", "shape"), [(42, (90, 60)), (50, (80, 101)), (73, (300, 211))])
def test_timms_transform_is_our_preparation(tmp_path, shorter, shape):
    timm = pytest.importorskip("timm")
    source = encoder_folder(tmp_path / "e")
    file = source / "preprocessor_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"size": {"shortest_edge": shorter}}),
        encoding="utf-8",
    )
    about = json.loads((source / "raddino.json").read_text(encoding="utf-8"))
    about["settings"]["preprocessor_config.json"] = sha256(file)
    write_json(source / "raddino.json", about)
    out = export(source, tmp_path / "out", "timm")
    model = timm.create_model(f"local-dir:{out}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    grey = np.add.outer(np.linspace(0, 120, shape[0]), np.linspace(0, 120, shape[1])).astype(np.uint8)
    ours = VitEncoder.load(source, "cpu").preprocess([grey])[0]
    difference = (transform(Image.fromarray(grey).convert("RGB")) - ours).abs().max() * STD * 255
    assert difference < 6  # a pixel beside where the border is odd: the slope is at most 4 grey levels a pixel
    ours_out = export(source, tmp_path / "hf", "huggingface")
    again = VitEncoder.load(ours_out, "cpu").preprocess([grey])[0]
    torch.testing.assert_close(again, ours)


@pytest.mark.parametrize(("registers", "size"), [(0, 42), (2, 70)])
def test_huggingface_folder_is_an_encoder_again(tmp_path, registers, size):
    source = encoder_folder(tmp_path / "e", registers, size=size)
    out = export(source, tmp_path / "out", "huggingface")
    assert_same(expected(out, images(2, size)), expected(source, images(2, size)), 1e-6)
    again = VitEncoder.load(out, "cpu")
    assert again.provenance.sources == ["synthetic"]
    assert again.size == size


def test_the_program_runs_without_raddino(tmp_path):
    source = encoder_folder(tmp_path / "e", registers=2, ffn="swiglu")
    export(source, tmp_path / "out", "torch-export")
    for batch in (1, 2, 5):
        torch.save(images(batch), tmp_path / f"{batch}.pt")
    code = (
        "import sys; sys.modules['raddino'] = None\n"
        "import torch\n"
        "model = torch.export.load('out/model.pt2').module()\n"
        "for batch in (1, 2, 5):\n"
        "    torch.save(model(torch.load(f'{batch}.pt')), f'{batch}.out')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"})
    for batch in (1, 2, 5):
        found = torch.load(tmp_path / f"{batch}.out")
        assert found["patches"].shape == (batch, 3, 3, 128)
        assert_same((found["cls"], found["patches"]), expected(source, images(batch)), 1e-5)


@pytest.mark.parametrize(("precision", "atol"), [("fp32", 1e-4), ("fp16", 0.05)])
def test_onnx_runs_at_any_batch_size(tmp_path, precision, atol):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    source = encoder_folder(tmp_path / "e", registers=2, ffn="swiglu", size=56)
    out = export(source, tmp_path / "out", "onnx", precision=precision)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(out / "model.onnx", options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.shape, given.type) == ("images", ["batch", 1, 56, 56], "tensor(float)")
    assert [(o.name, o.shape, o.type) for o in session.get_outputs()] == [
        ("cls", ["batch", 128], "tensor(float)"),
        ("patches", ["batch", 4, 4, 128], "tensor(float)"),
    ]
    for batch in (1, 2, 5):
        found = session.run(["cls", "patches"], {"images": images(batch, 56).numpy()})
        assert_same(found, expected(source, images(batch, 56)), atol)
    weights = sum(p.numel() for p in VitEncoder.load(source, "cpu").model.parameters())
    assert (out / "model.onnx").stat().st_size < weights * (2 if precision == "fp16" else 4) + 60_000


@pytest.mark.parametrize("format", ["official", "torch-export"])
def test_the_record_and_the_card_tell_what_was_written(tmp_path, format):
    gated = Provenance(sources=["mimic-cxr"], supervision="text", licence="PhysioNet", gated=True)
    source = encoder_folder(tmp_path / "e", record=gated)
    out = export(source, tmp_path / "out", format)
    record, card = (
        json.loads((out / "export.json").read_text(encoding="utf-8")),
        (out / "README.md").read_text(encoding="utf-8"),
    )
    ((name, about),) = record["files"].items()
    assert about == {"bytes": (out / name).stat().st_size, "sha256": sha256(out / name)}
    assert record["fingerprint"] == VitEncoder.load(source, "cpu").fingerprint
    assert record["provenance"]["sources"] == ["mimic-cxr"]
    assert record["check"]["difference"] <= record["check"]["limit"] == 1e-4
    for word in (about["sha256"], "mimic-cxr", "Do not pass these weights on", "research only", "42 x 42"):
        assert word in card
    for file in out.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
        assert str(Path(module.__file__).parent).encode() not in file.read_bytes()


def test_an_export_replaces_only_an_earlier_export(tmp_path):
    source = encoder_folder(tmp_path / "e")
    out = export(source, tmp_path / "out", "official")
    with pytest.raises(ConfigError, match="exists: give another folder, or --overwrite"):
        export(source, out, "official")
    export(source, out, "huggingface", overwrite=True)
    assert json.loads((out / "export.json").read_text(encoding="utf-8"))["format"] == "huggingface"
    with pytest.raises(ConfigError, match="no earlier export"):
        export(source, source, "official", overwrite=True)
    assert VitEncoder.load(source, "cpu").name == "small"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "out"]


@pytest.mark.parametrize("error", [1e-3, float("nan")])
def test_an_export_that_is_not_the_encoder_is_not_handed_over(tmp_path, monkeypatch, error):
    source = encoder_folder(tmp_path / "e")
    out = export(source, tmp_path / "out", "official")
    before = sha256(out / "model.safetensors")
    monkeypatch.setitem(
        module.FORMATS._things,
        "official",
        module.Format(
            FORMATS["official"].write,
            lambda folder, encoder, grey: tuple(
                part + error for part in FORMATS["huggingface"].run(source, encoder, grey)
            ),
            FORMATS["official"].interface,
            "",
        ),
    )
    with pytest.raises(RaddinoError, match="small as official: features read back differ"):
        export(source, out, "official", overwrite=True)
    assert sha256(out / "model.safetensors") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "out"]


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path, monkeypatch):
    source = encoder_folder(tmp_path / "e", heads=4)
    out = tmp_path / "out"
    for arguments, message in [
        ((source, out, "onxx"), "unknown export format 'onxx'. Did you mean 'onnx'"),
        ((source, tmp_path / "model.onnx", "onnx"), "would be a folder"),
        ((source, out, "official"), "num_heads 4"),
        (("hog", out, "official"), "hog cannot be exported"),
        ((tmp_path / "absent", out, "official"), "no encoder at"),
    ]:
        with pytest.raises(RaddinoError) as raised:
            export(*arguments)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match="Did you mean 'fp16'"):
        export(source, out, "onnx", precision="fp61")
    with pytest.raises(ConfigError, match="fp16 is for torch-export, onnx"):
        export(source, out, "timm", precision="fp16")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RaddinoError, match=r"needs onnx, onnxscript, onnxruntime: pip install 'raddino\[export\]'"):
        export(source, out, "onnx")
    assert not out.exists()


def test_a_preparation_that_a_config_cannot_say_is_refused(tmp_path):
    from dataclasses import replace

    encoder = VitEncoder.load(encoder_folder(tmp_path / "e"), "cpu")
    encoder.preparation = replace(encoder.preparation, resize=(60, 60))
    for write in (FORMATS["timm"].write, FORMATS["huggingface"].write):
        with pytest.raises(RaddinoError, match="not resized by the shorter side"):
            write(encoder, tmp_path, "fp32")


def test_positions_are_stored_for_the_input_size(tmp_path):
    encoder = VitEncoder.load(encoder_folder(tmp_path / "e", registers=2, size=70), "cpu")
    stored = at_input_size(encoder)
    assert stored.pos_embed.shape == (1, 26, 128)
    assert (stored.config.image_size, stored.config.interpolate_antialias) == (70, True)
