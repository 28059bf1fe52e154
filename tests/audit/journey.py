"""Every command that writes, once over, on the planted files; all that it writes and says in one folder."""

import contextlib
import os
import sys
from pathlib import Path

from audit.planted import write_planted
from raddino import cli

SUITE = """
probe: logistic
tasks:
  - {name: bmi, target: bmi, kind: regression}
  - {name: lungs, target: mask_lungs, kind: segmentation, options: {classes: {lungs: 255}, mirror: [], steps: 2}}
"""
SETTINGS = {
    "steps": 4, "batch_size": 4, "checkpoint_every": 2, "precision": "fp32",
    "vit": "{embed_dim: 64, depth: 1, num_heads: 1, patch_size: 8, image_size: 32, layerscale_init: 0.1}",
    "ssl.head": "{prototypes: 32, hidden: 32, bottleneck: 16}",
    "views": "{global_size: 32, local_size: 16, local_views: 2}",
    "monitor": "{every: 2, images: 16, patience: 0}",
}  # fmt: skip
SMALL = ["--resamples", "20", "--device", "cpu"]
FORMATS = ("huggingface", "official", "timm")


def said(words: list[str], log: Path) -> int:
    """Exit status of a command line in this process, all it says at the end of ``log``."""
    before, sys.argv = sys.argv, ["raddino", *words]
    with log.open("a", encoding="utf-8") as text, contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        error = os.dup(2)
        os.dup2(text.fileno(), 2)
        try:
            cli.main()
        except SystemExit as ended:
            return int(ended.code or 0)
        finally:
            sys.argv = before
            os.dup2(error, 2)
            os.close(error)
    return 0


def journey(sources: Path, out: Path) -> set[str]:
    """Make ``sources`` with planted identifiers, and ``out`` from them; returns the identifiers."""
    sources.mkdir(parents=True)
    out.mkdir(parents=True)
    manifest, strings = write_planted(sources)
    (sources / "suite.yaml").write_text(SUITE, encoding="utf-8")
    overrides = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    run, judged, first = out / "run", out / "results", next((sources / "dicom").glob("*/*"))
    for words in (
        ["prepare", f"{sources}/dicom", "--out", f"{out}/corpus-folder", "--shorter-side", "48", "--workers", "1",
         "--splits", "0.4,0.2,0.4"],
        ["prepare", f"{manifest}", "--out", f"{out}/corpus", "--shorter-side", "48", "--workers", "1",
         "--column", "split=", "--splits", "0.5,0.15,0.35"],
        ["pretrain", f"{out}/corpus", "--preset", "cpu-smoke", *overrides, "--out", f"{run}", "--device", "cpu",
         "--workers", "0"],
        ["views", f"{out}/corpus", "--preset", "cpu-smoke", *overrides, "--images", "2", "--out", f"{out}/views.png"],
        ["embed", f"{out}/corpus", "--encoder", f"{run}/encoder", "--device", "cpu"],
        ["embed", f"{out}/corpus", "--encoder", f"{run}/encoder", "--device", "cpu", "--out", f"{out}/f.parquet"],
        ["evaluate", f"{out}/corpus", "--encoders", f"trained={run}/encoder,pca", "--suite", f"{sources}/suite.yaml",
         "--run", f"{run}", "--analyses", "subgroups,confounders", "--out", f"{judged}", *SMALL],
        ["evaluate", f"{out}/corpus-folder", "--encoders", f"trained={run}/encoder", "--target", "bmi", "--out",
         f"{out}/results-folder", *SMALL],
        ["report", f"{judged}", "--run", f"{run}", "--corpus", f"{out}/corpus", "--encoder", f"{run}/encoder"],
        ["compare", f"{judged}", f"{judged}", "--out", f"{out}/pair", "--resamples", "20"],
        ["leaderboard", f"{judged}", "--out", f"{out}/board"],
        ["predict", f"{first}", "--probe", f"{judged}/probes/bmi/trained", "--out", f"{out}/predictions.csv",
         "--device", "cpu"],
        ["segment", f"{first}", "--model", f"{judged}/models/lungs/trained", "--out", f"{out}/masks", "--contours",
         "--device", "cpu"],
        ["segment", f"{first}", "--model", f"{judged}/models/lungs/trained", "--out", f"{out}/seg", "--format",
         "dicom-seg", "--device", "cpu"],
        *(["export", f"{run}/encoder", "--format", name, "--out", f"{out}/export-{name}"] for name in FORMATS),
    ):  # fmt: skip
        status = said(words, out / "log.txt")
        assert status == 0, (words, (out / "log.txt").read_text(encoding="utf-8")[-2000:])
    return strings
