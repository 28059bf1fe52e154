"""What a corpus of a million images costs beside its pixels: processor seconds and peak memory of each part.

Run ``python benchmarks/million_rows.py [-n 1000000] [--part holdings]``. The manifest has as many rows, four to a
patient, of three sources, with facts of the machine and 14 labels; all rows lie in one small shard, whose few images
they share. Each part runs in a process of its own: seconds are the part's, the peak is the whole process's (``VmHWM``
of Linux), imports and what the part needs among it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.files import sha256, write_json

IMAGES, LABELS, SOURCES, SHARES = 8, 14, ("west", "east", "south"), (0.7, 0.1, 0.2)
OPEN = "from raddino.corpus.dataset import Corpus; corpus = Corpus.open(path)"
FRAME = f"{OPEN}; frame = corpus.manifest.assign(corpus=0, row=range(len(corpus)))"
HELD = f"{FRAME}; from raddino.inspection.holdings import holdings, write_holdings; held = holdings(frame)"
FOUND = (
    f"{FRAME}; from raddino.inspection.inspect import Inspection, summary, write_csv; "
    "from raddino.inspection import CHECKS; from raddino.inspection.base import Finding; "
    "found = Inspection([corpus], frame, [CHECKS['text']], [Finding(n, 'text') for n in range(0, len(corpus), 50)])"
)
PARTS = {
    "Corpus.open": (OPEN.split("; ")[0], "Corpus.open(path)"),
    "corpus.manifest": (OPEN, "corpus.manifest"),
    "rows(split=…)": (f"{OPEN}; corpus.manifest", "corpus.rows('train')"),
    "rows(split=…), nothing read before": (OPEN, "corpus.rows('train')"),
    "rows(where=…)": (f"{OPEN}; corpus.manifest", "corpus.rows('train', where=\"source == 'east' and view == 'PA'\")"),
    "inspect: what the archive holds": (
        f"{FRAME}; from raddino.inspection.holdings import holdings",
        "holdings(frame)",
    ),
    "inspect: terminal, inspection.json, page of it": (
        f"{HELD}; from raddino.report.holdings import holdings_part, holdings_text; from pathlib import Path",
        "holdings_text(held); write_holdings(Path(path) / 'x.json', held); holdings_part(held, (), '')",
    ),
    "inspect: drift by size": (f"{FRAME}; from raddino.inspection.drift import drift", "drift(frame, {})"),
    "inspect: summary, inspect.csv, 20,000 found": (
        f"{FOUND}; from pathlib import Path",
        "summary(found); write_csv(found, Path(path) / 'x.csv')",
    ),
    "plan": (
        f"{OPEN}; from raddino.training.plan import plan; from raddino.config import load_config; "
        "from raddino.training.settings import PretrainConfig",
        "plan(load_config(PretrainConfig, 'dinov2-vit-b'), corpus, hardware='h100x8')",
    ),
}
CHILD = """
import json, re, sys, time
from pathlib import Path

path = sys.argv[1]
exec(sys.argv[2])
begun = time.process_time()
exec(sys.argv[3])
spent = time.process_time() - begun
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([spent, int(peak[1]) * 1024 / 1e6]))
"""


def write_corpus(folder: Path, rows: int) -> Path:
    """A corpus of ``rows`` images that share the pixels of a few."""
    for n in range(IMAGES):
        Image.fromarray((np.arange(6400).reshape(80, 80) * (n + 1) % 251).astype(np.uint8)).save(folder / f"{n}.png")
    few = pd.DataFrame({"path": [f"{n}.png" for n in range(IMAGES)], "patient_id": range(IMAGES), "split": "train"})
    few.to_csv(folder / "few.csv", index=False)
    corpus = prepare(folder / "few.csv", folder / "corpus", key="the key of a benchmark", workers=1)
    row, rng = np.arange(rows), np.random.default_rng(0)
    patient, hexadecimal = row // 4, np.array([f"{n:064x}" for n in rng.integers(0, 2**62, 4096)])
    table = corpus.manifest.iloc[row % IMAGES].reset_index(drop=True)
    split = rng.choice(["train", "val", "test"], patient[-1] + 1, p=SHARES)[patient]
    table = table.assign(
        id=[f"{n:016x}" for n in row], patient=[f"{n:016x}" for n in patient], study=[f"{n:016x}" for n in row // 2],
        split=split, source=np.array(SOURCES)[patient % len(SOURCES)], view=np.array(["PA", "AP", None])[row % 3],
        sex=np.array(["F", "M"])[patient % 2], age=(20 + patient % 70).astype(float),
        manufacturer=np.array(["Ours", "Theirs"])[patient % 2], model=np.array(["One", "Two", "Three"])[patient % 3],
        station=hexadecimal[patient % 40], kvp=rng.normal(100, 10, rows).round(), portable=(row % 2).astype(float),
        year_band=np.array(["2010-2014", "2015-2019"])[row // 2 % 2],
        sha256=[f"{n:064x}" for n in row],
        **{f"label_finding{n}": rng.choice([0, 1, np.nan], rows).astype(np.float32) for n in range(LABELS)},
    )  # fmt: skip
    manifest = corpus.path / "manifest.parquet"
    table.to_parquet(manifest, index=False)
    counts = {name: int(n) for name, n in table["split"].value_counts().items()}
    info = {k: v for k, v in corpus.info.items() if k != "sha256"} | {
        "images": rows, "patients": int(patient[-1]) + 1, "splits": counts, "manifest_sha256": sha256(manifest),
        "manifest_bytes": manifest.stat().st_size,
    }  # fmt: skip
    write_json(corpus.path / "corpus.json", info)
    assert len(Corpus.open(corpus.path)) == rows
    return corpus.path


def cost(corpus: Path, part: str) -> tuple[float, float]:
    """Processor seconds of a part, and megabytes of its process at its largest."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(corpus), *PARTS[part]],
        stdout=subprocess.PIPE, encoding="utf-8", check=True,
    )  # fmt: skip
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=1_000_000, help="rows")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="one part; repeatable (default: all)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder), options.n)
        print(f"{options.n:,} rows, {(corpus / 'manifest.parquet').stat().st_size / 1e6:.0f} MB of manifest")
        for part in options.part or PARTS:
            seconds, megabytes = cost(corpus, part)
            print(f"{part:<50} {seconds:>8.2f} s {megabytes:>8.0f} MB", flush=True)


if __name__ == "__main__":
    main()
