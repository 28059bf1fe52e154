"""Golden files hold whatever the processor's code path and the number of threads."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class CodePath:
    """How torch, oneDNN, MKL and numpy are kept to an instruction set, and the flags that show a processor has it."""

    torch: str
    onednn: str
    mkl: str
    mkl_results: str
    beyond: tuple[str, ...]
    flags: frozenset[str]

    def environment(self) -> dict[str, str]:
        found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
        return os.environ | {
            "ATEN_CPU_CAPABILITY": self.torch.lower(),
            "ONEDNN_MAX_CPU_ISA": self.onednn,
            "MKL_ENABLE_INSTRUCTIONS": self.mkl,
            "MKL_CBWR": self.mkl_results,
            "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in found if name.startswith(self.beyond)),
            "OMP_NUM_THREADS": "2",
            "OMP_WAIT_POLICY": "passive",
        }


WIDEST = ("AVX512", "X86_V4")
PATHS = {
    "SSE4.2": CodePath("DEFAULT", "SSE41", "SSE4_2", "COMPATIBLE", ("AVX", "FMA", "F16C", "X86_V3", *WIDEST),
                       frozenset({"sse4_2"})),
    "AVX2": CodePath("AVX2", "AVX2", "AVX2", "AVX2", WIDEST, frozenset({"avx2", "fma"})),
    "AVX-512": CodePath("AVX512", "AVX512_CORE", "AVX512", "AVX512", ("AVX512_SPR",),
                        frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "fma"})),
}  # fmt: skip


def golden_files() -> list[Path]:
    """Those of this repository and, where they are, the larger ones beside it."""
    shared = Path(os.environ.get("RADDINO_SHARED", HERE.parents[2] / "shared")) / "golden" / "dinov2"
    return [
        *{file.name: file for folder in (shared, HERE / "golden") for file in folder.glob("*.safetensors")}.values()
    ]


@pytest.mark.parametrize("name", PATHS)
def test_golden_files_hold_on_every_code_path_with_one_and_two_threads(name):
    path = PATHS[name]
    flags = set(CPUINFO.read_text(encoding="utf-8").split()) if CPUINFO.is_file() else set()
    if absent := sorted(path.flags - flags):
        pytest.skip(f"the processor has no {', '.join(absent)}, so it cannot run the {name} path")
    files = golden_files()
    done = subprocess.run(
        [sys.executable, HERE / "replay_job.py", *files], env=path.environment(), capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["torch"] == path.torch
    assert not [feature for feature in found["numpy"] if feature.startswith(path.beyond)]
    rows = found["rows"]
    assert {(row["file"], row["precision"], row["threads"]) for row in rows} == {
        (file.stem, precision, threads) for file in files for precision in ("float64", "float32") for threads in (1, 2)
    }
    assert [row for row in rows if not row["ok"]] == []
