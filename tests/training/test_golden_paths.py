"""The golden files on every way that a step can be run: with more rows, recomputed, compiled, in bfloat16, by several
processes that share the batch, and the weights too; packed for its features.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raddino.ssl import Views
from raddino.training import step, verify
from raddino.training.blocks import compile_parts, recompute_blocks
from raddino.vit.linear import has_onednn
from raddino.vit.packed import packed
from training.test_parallel import finish, launched

JOB = Path(__file__).with_name("golden_job.py")
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.safetensors"))
IN_BFLOAT16 = {"losses": 0.03, "gradient norms": 0.1, "features": 0.05}
"""Largest relative deviation from the golden figures; bfloat16 has 8 bits, a relative step of 0.4 %."""


def built(monkeypatch, *changes) -> None:
    """Let ``verify`` step a task that was changed."""
    real = verify._build

    def build(golden, tensors):
        task = real(golden, tensors)
        for change in changes:
            change(task)
        return task

    monkeypatch.setattr(verify, "_build", build)


def with_fixed_rows(monkeypatch) -> None:
    """Let the heads get as many rows at every step: all patches, those without a mask too."""
    real = verify._views

    def views(*arguments):
        found = real(*arguments)
        again = Views.build(found.global_crops, None, found.masks, rows=found.masks.numel())
        assert len(again.masked_rows) > len(found.masked_rows)
        return replace(found, masked_rows=again.masked_rows)

    monkeypatch.setattr(verify, "_views", views)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("file", GOLDEN, ids=lambda f: f.stem)
def test_with_a_fixed_number_of_rows(monkeypatch, file, precision):
    with_fixed_rows(monkeypatch)
    assert [check for check in verify.verify(file, precision) if not check.ok] == []


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("file", GOLDEN, ids=lambda f: f.stem)
def test_recomputed(monkeypatch, file, precision):
    built(monkeypatch, recompute_blocks)
    assert [check for check in verify.verify(file, precision) if not check.ok] == []


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
def test_compiled_and_recomputed(monkeypatch):
    built(monkeypatch, compile_parts, recompute_blocks)
    with_fixed_rows(monkeypatch)
    for file in GOLDEN[:2]:
        torch._dynamo.reset()
        assert [check for check in verify.verify(file, "float32") if not check.ok] == []


@pytest.mark.parametrize("file", [file for file in GOLDEN if file.stem.startswith("sharp")], ids=lambda f: f.stem)
def test_in_bfloat16(monkeypatch, file):
    """In the others images are all but alike, which bfloat16 does not resolve: their KoLeo loss is noise."""

    def compute_gradients(task, views, count, values, precision):
        return step.compute_gradients(task, views, count, values, "bf16")

    monkeypatch.setattr(verify, "compute_gradients", compute_gradients)
    monkeypatch.setattr(verify, "_features", autocast(verify._features))
    found = {check.quantity: check.deviation for check in verify.verify(file, "float32")}
    for quantity, limit in IN_BFLOAT16.items():
        assert 1e-5 < found[quantity] < limit, "deviates as bfloat16 does, and no more"


def autocast(function):
    def within(*arguments):
        with torch.autocast("cpu", torch.bfloat16):
            return function(*arguments)

    return within


@pytest.mark.parametrize("file", GOLDEN, ids=lambda f: f.stem)
def test_packed_for_its_features(monkeypatch, file):
    if not has_onednn(torch.float32):
        pytest.skip("torch without oneDNN")
    real = verify._features

    def features(checks, task, *rest):
        task.student.backbone = packed(task.student.backbone, torch.float32)
        real(checks, task, *rest)
        task.student.backbone = original[0]

    original = []
    built(monkeypatch, lambda task: original.append(task.student.backbone))
    monkeypatch.setattr(verify, "_features", features)
    assert [check for check in verify.verify(file, "float32") if not check.ok] == []


def test_by_two_processes(tmp_path):
    """Each takes half of the images, and finds what one process is held to."""
    with launched(2, JOB, tmp_path, *GOLDEN, logs=tmp_path / "logs") as process:
        finish(process, tmp_path / "logs")
    alone = {file.stem: verify.verify(file, "float64") for file in GOLDEN}
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        assert len(found) == 6 * len(GOLDEN)
        for name, rows in found.items():
            checks = [verify.Check(*row) for row in rows]
            assert [check for check in checks if not check.ok] == [], f"{name}, rank {rank}"
            expected = [(check.quantity, check.count) for check in alone[name.split(",")[0]]]
            assert [(check.quantity, check.count) for check in checks] == expected
