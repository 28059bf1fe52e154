"""Replays golden files with one and two threads: tests start it under each code path of the processor."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from raddino.training.verify import verify


def replay(files: list[Path]) -> list[dict]:
    rows = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for file in files:
            for precision in ("float64", "float32"):
                about = {"file": file.stem, "precision": precision, "threads": torch.get_num_threads()}
                rows += [about | asdict(check) | {"ok": check.ok} for check in verify(file, precision)]
    return rows


if __name__ == "__main__":
    found = {
        "torch": torch.backends.cpu.get_cpu_capability(),
        "numpy": np.show_config(mode="dicts")["SIMD Extensions"].get("found", []),
        "rows": replay([Path(name) for name in sys.argv[1:]]),
    }
    print(json.dumps(found))
