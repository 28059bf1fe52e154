"""The command line as a user meets it: a subprocess, its words and its exit status."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raddino.cli import main

GOLDEN = Path(__file__).parent / "training" / "golden" / "mini_centering_shared_head.safetensors"


def raddino(*arguments: object, check: bool = True) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", "raddino.cli", *map(str, arguments)], capture_output=True, encoding="utf-8", timeout=300
    )
    assert "Traceback" not in done.stderr, done.stderr
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "command",
    [
        "",
        "sample",
        "prepare",
        "pretrain",
        "views",
        "embed",
        "evaluate",
        "segment",
        "predict",
        "report",
        "compare",
        "leaderboard",
        "verify",
        "presets",
        "encoders",
        "sources",
        "export",
    ],
)
def test_help_answers_without_heavy_imports(command):
    script = (
        "import sys\nfrom raddino.cli import app\n"
        f"try:\n    app({[*command.split(), '--help']!r})\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8")
    assert done.stderr.strip() == "[]"
    assert "Usage" in done.stdout


def test_the_whole_journey(tmp_path):
    raddino("sample", "--out", tmp_path / "images", "-n", 240, "--size", 64, "--workers", 1)
    said = raddino("prepare", tmp_path / "images", "--out", tmp_path / "corpus", "--shorter-side", 48, "--workers", 1)
    assert "synthetic" in said.stdout
    small = [
        "steps=4", "batch_size=8", "vit.embed_dim=32", "vit.depth=2", "vit.num_heads=2", "vit.image_size=32",
        "views.global_size=32", "views.local_size=16", "views.local_views=2", "ssl.head.prototypes=32",
        "ssl.head.hidden=32", "ssl.head.bottleneck=16", "vit.patch_size=8", "monitor.images=16", "precision=fp32",
    ]  # fmt: skip
    settings = [part for value in small for part in ("--set", value)]
    pretrain = ["pretrain", tmp_path / "corpus", "--out", tmp_path / "run", *settings, "--device", "cpu"]
    said = raddino(*pretrain)
    assert "encoder:" in said.stdout
    assert re.search(r"^pretrain on \d+ images of \d+ patients, synthetic: synthetic \d+$", said.stderr, re.MULTILINE)
    assert (tmp_path / "run/curves.png").is_file()
    refused = raddino(*pretrain, "--set", "schedule.lr=1e-5", check=False)
    assert refused.returncode == 2
    assert "schedule.lr" in refused.stderr
    raddino("embed", tmp_path / "corpus", "--encoder", tmp_path / "run/encoder", "--out", tmp_path / "f.safetensors")
    assert (tmp_path / "f.safetensors").is_file()
    encoders = {"trained": tmp_path / "run/encoder", "initial": tmp_path / "run/initial"}
    named = [f"{name}={folder}" for name, folder in encoders.items()]
    said = raddino(
        "evaluate", tmp_path / "corpus", "--out", tmp_path / "results", "--target", "bmi", "--run", tmp_path / "run",
        "--encoders", ",".join(["rad-dino:absent.pt", *named, "pca"]), "--resamples", 50,
    )  # fmt: skip
    assert "MAE" in said.stdout
    assert "data: synthetic" in said.stdout
    for name in ("predictions.parquet", "metrics.json", "report.html", "table.tex", "leaderboard.csv"):
        assert (tmp_path / "results" / name).is_file(), name
    encoders = json.loads((tmp_path / "results/metrics.json").read_text(encoding="utf-8"))["encoders"]
    assert [encoder["name"] for encoder in encoders] == ["rad-dino:absent.pt", "trained", "initial", "pca"]
    raddino("report", tmp_path / "results", "--out", tmp_path / "page.html")
    assert "synthetic" in (tmp_path / "page.html").read_text(encoding="utf-8").lower()
    raddino(
        "compare", tmp_path / "results", tmp_path / "results", "--pair", "initial=trained", "--out", tmp_path / "pair",
        "--resamples", 50,
    )  # fmt: skip
    assert "initial → trained" in (tmp_path / "pair/comparison.html").read_text(encoding="utf-8")
    assert "board" in raddino("leaderboard", tmp_path / "results", "--out", tmp_path / "board").stdout.lower()
    assert (tmp_path / "board/leaderboard.csv").is_file()
    raddino("export", tmp_path / "run/encoder", "--format", "huggingface", "--out", tmp_path / "hf")
    assert (tmp_path / "hf/README.md").is_file()


def test_verify_prints_a_row_each_and_exits_by_the_result(tmp_path):
    done = raddino("verify", GOLDEN)
    for quantity in ("losses", "gradients", "final teacher", "features"):
        assert quantity in done.stdout
    assert "all limits hold" in done.stdout
    settings = json.loads(GOLDEN.with_suffix(".json").read_text(encoding="utf-8"))
    settings["steps"][1]["ibot_loss"] *= 1.001
    (tmp_path / "wrong.safetensors").write_bytes(GOLDEN.read_bytes())
    (tmp_path / "wrong.json").write_text(json.dumps(settings), encoding="utf-8")
    done = raddino("verify", tmp_path / "wrong.safetensors", "--precision", "float64", check=False)
    assert done.returncode == 1
    assert "FAIL  losses" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pretrain", "absent", "--out", "run"], "no corpus"),
        (["pretrain", "absent", "--out", "run", "--preset", "smal-batch"], "Did you mean 'small-batch'"),
        (["pretrain", "absent", "--out", "run", "--set", "ssl.koleo=1"], "Did you mean 'koleo_weight'"),
        (["pretrain", "absent", "--out", "run", "--preset", "rad-dino-vit-b-518", "--init", "none"], "no corpus"),
        (["prepare", "absent", "--out", "corpus"], "absent"),
        (["verify", "absent.safetensors"], "is missing"),
        (["embed", "absent", "--encoder", "hog"], "no corpus"),
        (["report", "absent"], "absent"),
        (["sample", "--out", "s", "-n", "0"], "n"),
        (["prepare", "absent", "--out", "corpus", "--column", "patient"], "patient=subject_id"),
        (["prepare", "nih:absent", "--out", "corpus"], "no folder"),
        (["prepare", "nhi:absent", "--out", "corpus"], "unknown source 'nhi'. Did you mean 'nih'"),
        (["prepare", "absent", "--out", "corpus", "--option", "readers=any"], "absent"),
        (["pretrain", "absent", "--out", "run", "--weight", "nih=often"], "no corpus"),
        (["compare", "absent", "absent"], "no results"),
        (["leaderboard", "absent"], "no results"),
        (["export", "hog", "--format", "onnx", "--out", "x"], "hog"),
        (["export", "raddino-tiny", "--format", "onxx", "--out", "x"], "Did you mean 'onnx'"),
        (["prepare", "absent", "--out", "corpus", "--workers", "-1"], "at least 1"),
        (["sample", "--out", "/dev/null/sample", "-n", "1"], "/dev/null/sample"),
    ],
)
def test_mistakes_are_one_line_with_status_2(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = raddino(*arguments, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_lists():
    assert "small-batch" in raddino("presets").stdout
    listed = raddino("encoders").stdout
    assert listed.split()[0] == "name"
    assert "hog" in listed
    assert "vindr-cxr" in raddino("sources").stdout


def test_errors_that_nobody_foresaw_are_one_line_without_their_words(monkeypatch, capsys):
    def fail():
        raise KeyError("Mustermann^Max")

    monkeypatch.setattr("raddino.cli.app", fail)
    for shown in ("", "1"):
        monkeypatch.setenv("RADDINO_TRACEBACK", shown)
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr().err
        assert ended.value.code == 2
        assert told.splitlines()[-1].startswith("error: unforeseen KeyError in test_cli.py, line ")
        assert ("Traceback" in told) == ("Mustermann" in told) == bool(shown)
        assert shown or len(told.splitlines()) == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_change_nothing(tmp_path, closed):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "images" / "a.png")
    command = [sys.executable, "-m", "raddino.cli", "prepare", "images", "--out", "corpus", "--shorter-side", "32"]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "corpus/corpus.json").is_file()
