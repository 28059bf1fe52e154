"""Golden replay of DINOv2's own step, and that a wrong step is found."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from raddino.errors import RaddinoError
from raddino.ssl import losses
from raddino.training.verify import verify
from wrong_steps import WRONG

GOLDEN = Path(__file__).parent / "golden"
MINI = sorted(GOLDEN.glob("*.safetensors"))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("file", MINI, ids=lambda f: f.stem)
def test_small_golden_files_hold(file, precision):
    checks = verify(file, precision)
    assert {c.quantity for c in checks} >= {
        "losses",
        "gradients",
        "gradient norms",
        "final student",
        "features",
    }
    assert [c for c in checks if not c.ok] == []


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_all_golden_files_hold(shared, precision):
    files = sorted((shared / "golden" / "dinov2").glob("*.safetensors"))
    assert len(files) >= 4
    for file in files:
        assert [c for c in verify(file, precision) if not c.ok] == []


def test_a_wrong_loss_is_found(monkeypatch):
    monkeypatch.setattr(losses, "KOLEO_EPS", 1e-4)
    failed = {c.quantity for c in verify(MINI[0]) if not c.ok}
    assert "losses" in failed


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("one global clip", {"gradient norms", "final student"}),
        ("EMA before the optimiser step", {"final teacher"}),
        ("decay on biases", {"parameter groups", "final student"}),
        ("antialias where there is none", {"features"}),
    ],
)
def test_the_rows_tell_where_a_step_is_wrong(monkeypatch, name, rows):
    WRONG[name](monkeypatch)
    assert rows <= {c.quantity for c in verify(MINI[0]) if not c.ok}


def altered(tmp_path, settings=lambda s: s, tensors=lambda t: t) -> Path:
    """A copy of the first golden file with its settings and tensors passed through functions."""
    file = tmp_path / "altered.safetensors"
    save_file(tensors(load_file(MINI[0])), file)
    file.with_suffix(".json").write_text(
        json.dumps(settings(json.loads(MINI[0].with_suffix(".json").read_text(encoding="utf-8")))), encoding="utf-8"
    )
    return file


def test_chunked_names_and_settings_left_to_their_defaults_replay(tmp_path):
    def chunk(name: str) -> str:
        return name.replace("backbone.blocks.", "backbone.blocks.0.")

    def settings(s):
        kept = {k: v for k, v in s.items() if k in ("num_heads", "schedule", "steps")}
        return kept | {"param_groups": {chunk(k): v for k, v in s["param_groups"].items()}}

    file = altered(tmp_path, settings, lambda t: {chunk(k): v for k, v in t.items()})
    assert all(c.ok for c in verify(file))


@pytest.mark.parametrize(
    ("key", "quantity"),
    [
        ("step0/grad/backbone.norm.bias", "gradients"),
        ("final/student/backbone.cls_token", "final student"),
        ("final/teacher/dino_head.mlp.0.bias", "final teacher"),
    ],
)
def test_a_tensor_that_is_missing_fails(tmp_path, key, quantity):
    file = altered(tmp_path, tensors=lambda t: {k: v for k, v in t.items() if k != key})
    failed = [c for c in verify(file) if not c.ok]
    assert [c.quantity for c in failed] == [quantity]
    assert "missing" in failed[0].worst


def test_a_file_without_steps_is_refused(tmp_path):
    with pytest.raises(RaddinoError, match="proves nothing"):
        verify(altered(tmp_path, lambda s: s | {"steps": []}))


def test_a_tensor_of_another_shape_and_a_missing_one_are_one_line_errors(tmp_path):
    with pytest.raises(RaddinoError, match="layout of a golden file"):
        verify(altered(tmp_path, tensors=lambda t: {k: v for k, v in t.items() if k != "step1/global_crops"}))
    with pytest.raises(RaddinoError, match="golden shape"):
        verify(altered(tmp_path, tensors=lambda t: t | {"final/student/backbone.norm.bias": torch.zeros(3)}))


def test_not_a_number_fails(tmp_path):
    file = altered(tmp_path, tensors=lambda t: t | {"step0/grad/backbone.norm.bias": torch.full((24,), float("nan"))})
    assert "gradients" in {c.quantity for c in verify(file) if not c.ok}


def test_bad_files_are_one_line_errors(tmp_path):
    with pytest.raises(RaddinoError, match="is missing"):
        verify(tmp_path / "absent.safetensors")
    copy = tmp_path / "copy.safetensors"
    shutil.copy(MINI[0], copy)
    with pytest.raises(RaddinoError, match=r"copy\.json is missing"):
        verify(copy)
    settings = json.loads(MINI[0].with_suffix(".json").read_text(encoding="utf-8"))
    copy.with_suffix(".json").write_text(json.dumps(settings | {"new_switch": 1}), encoding="utf-8")
    assert all(c.ok for c in verify(copy)), "a setting that changes nothing is no reason to fail"
    copy.with_suffix(".json").write_text("{}", encoding="utf-8")
    with pytest.raises(RaddinoError, match="is it a golden file"):
        verify(copy)
    copy.with_suffix(".json").write_text("no json", encoding="utf-8")
    with pytest.raises(RaddinoError, match="cannot be read"):
        verify(copy)
