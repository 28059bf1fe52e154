"""The short soak, and that it sees what is not as it must be."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, shutil, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file, save_file
from tests.soak import differences, soak

place = Path(sys.argv[1])
found = soak(place, kills=4, minutes=0, seed=0)
whole, out = place / "whole-1", place / "other"
seen = [differences(whole, whole)]


def harm(weights="", figures=None, file=""):
    shutil.copytree(whole, out)
    if weights:
        tensors = load_file(out / weights)
        name = max(tensors)
        tensors[name] = np.asarray(np.nextafter(tensors[name], np.float32(9)))
        save_file(tensors, out / weights)
    if figures:
        text = (out / "metrics.jsonl").read_text(encoding="utf-8")
        (out / "metrics.jsonl").write_text(text.replace(*figures, 1), encoding="utf-8")
    if file:
        (out / file).touch()
    seen.append(differences(out, whole))
    shutil.rmtree(out)


harm(weights="checkpoints/step_24/optimizer.safetensors")
harm(weights="encoder/model.safetensors")
harm(figures=('"step": 7', '"step": 8'))
harm(figures=('"data_wait": ', '"data_wait": 1'))
harm(file="checkpoints/left")
print(json.dumps([found.kills.total(), len(found.runs), found.broken, seen]))
"""


def test_runs_that_are_killed_end_as_undisturbed_ones(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path],
        cwd=Path(__file__).parents[1], env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = [[], ["weights"], ["weights"], ["figures"], [], ["files"]]
    assert done.stdout.splitlines()[-1] == f"[4, 2, [], {seen}]".replace("'", '"'), done.stdout + done.stderr
