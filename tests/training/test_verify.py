"""Golden replay of DINOv2's own step, and that a wrong step is found."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from raddino.errors import RaddinoError
from raddino.ssl import losses, task
from raddino.training import optimizer
from raddino.training.verify import verify

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


def test_a_wrong_clipping_is_found(monkeypatch):
    def globally(student, largest):
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), largest)
        return {part: norm for part in student}

    monkeypatch.setattr("raddino.training.step.clip_gradients", globally)
    failed = {c.quantity for c in verify(MINI[0]) if not c.ok}
    assert {"gradient norms", "final student"} <= failed


def test_unswapped_teacher_views_are_found(monkeypatch):
    real = task.needed_tokens

    def unswapped(backbone, crops, masks, rows, generator=None):
        cls, masked = real(backbone, crops, masks, rows, generator)
        if masks is None:
            cls = torch.cat(cls.chunk(2)[::-1])
        return cls, masked

    monkeypatch.setattr(task, "needed_tokens", unswapped)
    assert "losses" in {c.quantity for c in verify(MINI[0]) if not c.ok}


def test_decayed_biases_are_found(monkeypatch):
    real = optimizer.multipliers

    def decayed(name, depth, config):
        found = real(name, depth, config)
        return optimizer.Multipliers(found.lr, 1.0, found.last_layer, found.backbone)

    monkeypatch.setattr("raddino.training.verify.multipliers", decayed)
    assert "parameter groups" in {c.quantity for c in verify(MINI[0]) if not c.ok}


def test_bad_files_are_one_line_errors(tmp_path):
    with pytest.raises(RaddinoError, match="is missing"):
        verify(tmp_path / "absent.safetensors")
    copy = tmp_path / "copy.safetensors"
    shutil.copy(MINI[0], copy)
    with pytest.raises(RaddinoError, match=r"copy\.json is missing"):
        verify(copy)
    settings = json.loads(MINI[0].with_suffix(".json").read_text())
    copy.with_suffix(".json").write_text(json.dumps(settings | {"new_switch": 1}))
    with pytest.raises(RaddinoError, match="new_switch"):
        verify(copy)
    copy.with_suffix(".json").write_text("{}")
    with pytest.raises(RaddinoError, match="is it a golden file"):
        verify(copy)
    copy.with_suffix(".json").write_text("no json")
    with pytest.raises(RaddinoError, match="cannot be read"):
        verify(copy)
