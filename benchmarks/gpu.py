"""All that can only be run on a machine with a GPU, as one Markdown table (``make gpu``).

    python benchmarks/gpu.py [--out docs/results/gpu.md] [--only golden step] [--device cpu]

Every row is a command in a process of its own: whether it passed, the figure it printed, how long it took. A row that
fails or hangs costs no other. ``--device cpu`` is a rehearsal of the same rows at the smallest sizes, for machines
without a GPU. The status is 0 where all rows passed, 1 where one failed, 2 where there is no such device.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
BENCHMARKS, GOLDEN = ROOT / "benchmarks", ROOT / "tests" / "training" / "golden"
LONGEST = 1800.0
"""Seconds that a row may take."""


@dataclass(frozen=True)
class Check:
    """A row: its name, the commands that make it one after another, and what of their output is its figure."""

    name: str
    commands: list[list[str]]
    figure: str


def checks(device: str, folder: Path) -> list[Check]:
    """The rows for a device; ``folder`` is for what they write."""
    gpu, python = device == "cuda", sys.executable
    raddino = [python, "-m", "raddino"]
    size, batch = ("224", "64") if gpu else ("48", "8")
    small = ["--set", f"batch_size={batch}", "--set", "steps=6", "--set", "checkpoint_every=3",
             "--set", "monitor.images=16", "--set", "schedule.warmup_steps=2"]  # fmt: skip
    train = ["pretrain", f"{folder}/corpus", "--preset", "small-batch" if gpu else "cpu-smoke", *small]
    corpus = [
        [*raddino, "sample", "--out", f"{folder}/drawn", "--number", "160", "--size", size],
        [*raddino, "prepare", f"{folder}/drawn", "--out", f"{folder}/corpus", "--shorter-side", size],
    ]
    one_rank = [python, "-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", "raddino"]
    step = [python, f"{BENCHMARKS}/pretrain_step.py", "--device", device]
    presets = [("rad-dino-vit-b-518", "40"), ("dinov2-vit-b", "64")] if gpu else [("cpu-smoke", "8")]
    goldens = [str(file) for file in sorted(GOLDEN.glob("*.safetensors"))]
    found = [
        Check("golden files", [[*raddino, "verify", *goldens, "--device", device]], r"(all limits hold)"),
        Check("the step waits for no value", [[python, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider",
              str(ROOT / "tests/training/test_step.py")]], r"(\d+ passed.*)"),
        Check("train", [*corpus, [*raddino, *train, "--out", f"{folder}/run", "--device", device]], r"(encoder: )"),
        Check("resume on one rank of torchrun", [[*one_rank, *train, "--set", "steps=9", "--fork", "--out",
              f"{folder}/run", "--device", device]], r"(encoder: )"),
        Check("activation checkpointing", [[*raddino, *train, "--set", "activation_checkpointing=true", "--out",
              f"{folder}/lean", "--device", device]], r"(encoder: )"),
        Check("blocks and heads compiled", [[*raddino, *train, "--set", "compile=true", "--out", f"{folder}/compiled",
              "--device", device]], r"(encoder: )"),
        Check("compiled once; graphs and varlen_attn are exact", [[python, "-m", "pytest", "-n", "0", "-p",
              "no:cacheprovider", str(ROOT / "tests/training/test_blocks.py"), str(ROOT / "tests/vit/test_varlen.py")]],
              r"(\d+ passed.*)"),
        Check("varlen_attn for all views", [[python, f"{BENCHMARKS}/varlen.py", "--device", device]],
              r"^(\w.*ratio.*)$"),
        Check("FSDP2 on one rank", [[*one_rank, *train, "--set", "sharding=fsdp", "--out", f"{folder}/sharded",
              "--device", device]], r"(encoder: )"),
        Check("embed, compiled", [[*raddino, "embed", f"{folder}/corpus", "--encoder", f"{folder}/run/encoder",
              "--compile", "--precision", "bf16", "--device", device]], r"features: .*\((.*)\)"),
        Check("memory beside its estimate", [[python, f"{BENCHMARKS}/memory.py", "--device", device, "--size",
              size if gpu else "56", "--only", "ti-4-2-bf16", "ti-4-2-bf16-lean"]], r"^\| (ti.*) \|$"),
    ]  # fmt: skip
    if gpu:  # a CPU refuses them
        graphs = ["--set", "cuda_graphs=true", "--set", "accumulate=2"]
        found += [
            Check("CUDA graphs", [[*raddino, *train, *graphs, "--out", f"{folder}/graphs"]], r"(encoder: )"),
            Check("CUDA graphs, activation checkpointing", [[*raddino, *train, *graphs, "--set",
                  "activation_checkpointing=true", "--out", f"{folder}/lean-graphs"]], r"(encoder: )"),
        ]  # fmt: skip
    for preset, images in presets:
        values = ["--set", f"batch_size={images}", "accumulate=1", "init=none"]
        if gpu:
            found.append(
                Check(f"step, CUDA graphs, {preset}", [[*step, "--preset", preset, "--precision", "bf16", *values,
                      "compile=true", "cuda_graphs=true"]], r"^(\w+: .*images/s.*)$")
            )  # fmt: skip
        found += [
            Check(f"step, {preset}", [[*step, "--preset", preset, *values, "compile=false"]],
                  r"^(\w+: .*images/s.*)$"),
            Check(f"step, compiled, {preset}", [[*step, "--preset", preset, "--precision", "bf16", *values,
                  "compile=true"]], r"^(\w+: .*images/s.*)$"),
            Check(f"profile, {preset}", [[*step, "--preset", preset, "--precision", "bf16", "--profile", *values]],
                  r"^\| (views \| .*|\*\*step\*\* .*) \|$"),
        ]  # fmt: skip
    embed = ["--images", "64", "--batch-size", "32"] if gpu else ["--images", "2", "--size", "56", "--model", "small"]
    found.append(
        Check("embed", [[python, f"{BENCHMARKS}/embed.py", "--device", device, *embed]], r"^(\w.*images/s.*?)  ")
    )
    return found


def row(check: Check, device: str) -> tuple[bool, str]:
    """Run a check; whether it passed, and its row of the table."""
    begun, said, status = time.perf_counter(), "", 0
    for command in check.commands:
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace", timeout=LONGEST,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            )  # fmt: skip
            said, status = said + done.stdout, done.returncode
            error = done.stderr.strip().splitlines()[-1:] or [f"status {status}"]
        except subprocess.TimeoutExpired:
            status, error = -1, [f"took more than {LONGEST:g} s"]
        if status:
            break
    figures = re.findall(check.figure, said, re.M)
    passed = status == 0 and bool(figures)
    words = "; ".join(" ".join(one.split()) for one in figures) if passed else (error[0] if status else "no figure")
    cells = (check.name, "passed" if passed else "**failed**", words, f"{time.perf_counter() - begun:.0f}")
    return passed, "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def main() -> None:
    """Parse options, run the rows, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "gpu.md")
    parser.add_argument("--only", nargs="+", default=[], help="rows whose names begin so")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing was run (--device cpu rehearses the rows)", file=sys.stderr)
        raise SystemExit(2)
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU ({platform.machine()}), a rehearsal"
    lines = [
        f"# What was run on {name}\n",
        f"`python benchmarks/gpu.py --device {options.device}`, torch {torch.__version__}.\n",
        "| check | | figure | seconds |\n|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for check in checks(options.device, Path(folder)):
            if options.only and not check.name.startswith(tuple(options.only)):
                continue
            passed, line = row(check, options.device)
            failed += not passed
            lines.append(line)
            print(line, flush=True)
            options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
