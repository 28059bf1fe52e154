"""Every command that writes, on a disk that is full at each of its files: one line, nothing half, and the rerun equals.

A limit on the size of files stands for the full disk (EFBIG), so that no rights and no mounts are needed; it is set just
below the size of each file that the undisturbed command leaves, and to 0.
"""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from raddino import cli
from raddino.encoders.base import Provenance
from raddino.encoders.ours import save_encoder
from raddino.vit.model import VisionTransformer, VitConfig
from test_files import file_limit

MOST = 6
"""Limits tried for a command."""
SUITE = """
tasks:
  - {name: lungs, target: mask_lungs, kind: segmentation, options: {classes: {lungs: 255}, mirror: [], steps: 2}}
  - {name: bmi, target: bmi, kind: regression}
"""
ENCODER = ["--encoder", "{}/encoder"]
SMALL = ["--resamples", "20", "--device", "cpu"]
SEGMENT = ["segment", "{}/images", "--model", "{}/model", "--encoder", "{}/encoder", "--out", "{}/masks"]
COMMANDS = {
    "sample": ["sample", "--out", "{}/drawn", "-n", "2", "--size", "40", "--workers", "1"],
    "sample dicom": ["sample", "--out", "{}/drawn", "-n", "2", "--size", "40", "--workers", "1", "--format", "dicom"],
    "embed": ["embed", "{}/corpus", *ENCODER, "--device", "cpu"],
    "embed patches": ["embed", "{}/corpus", *ENCODER, "--device", "cpu", "--patches"],
    "embed parquet": ["embed", "{}/corpus", *ENCODER, "--device", "cpu", "--out", "{}/f.parquet"],
    "embed safetensors": ["embed", "{}/corpus", *ENCODER, "--device", "cpu", "--out", "{}/f.safetensors"],
    "evaluate": ["evaluate", "{}/corpus", "--encoders", "grey={}/encoder", "--suite", "{}/suite.yaml", "--out",
                 "{}/results", *SMALL],
    "segment": [*SEGMENT, "--contours", "--device", "cpu"],
    "segment dicom-seg": [*SEGMENT, "--format", "dicom-seg", "--device", "cpu"],
    "report": ["report", "{}/judged"],
    "compare": ["compare", "{}/judged", "{}/judged", "--out", "{}/pair", "--resamples", "20"],
    "leaderboard": ["leaderboard", "{}/judged", "--out", "{}/board"],
    **{
        f"export {name}": ["export", "{}/encoder", "--format", name, "--out", "{}/export"]
        for name in ("huggingface", "official", "timm", "torch-export", "onnx")
    },
}  # fmt: skip
ANEW = ("segment dicom-seg", "export torch-export")
"""Their files carry new UIDs, or torch's own random names, at each run."""
NEEDS = {"segment dicom-seg": ["highdicom"], "export timm": ["timm"], "export onnx": ["onnx", "onnxscript"]}


def command(words: list[str], place: Path) -> int:
    """Exit status of a command line in this process."""
    before, sys.argv = sys.argv, ["raddino", *(word.replace("{}", str(place)) for word in words)]
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def content(place: Path) -> dict[str, str]:
    """Every file by its digest, without the name of the place, and safetensors without the order of its header."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_file():
            data = path.read_bytes().replace(str(place).encode(), b"")
            if path.suffix == ".safetensors":
                start = 8 + int.from_bytes(data[:8], "little")
                data = json.dumps(json.loads(data[8:start]), sort_keys=True).encode() + data[start:]
            found[path.relative_to(place).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """What the commands start from: files, a corpus, an encoder, a segmentation model, results."""
    place = tmp_path_factory.mktemp("given")
    for words in (
        ["sample", "--out", "{}/drawn", "-n", "50", "--size", "48", "--workers", "1"],
        ["prepare", "{}/drawn", "--out", "{}/corpus", "--column", "split=", "--splits", "0.2,0.2,0.6", "--workers", "1"],
        ["sample", "--out", "{}/dicom", "-n", "2", "--size", "48", "--workers", "1", "--format", "dicom"],
    ):  # fmt: skip
        assert command(words, place) == 0
    (place / "dicom" / "images").rename(place / "images")
    config = VitConfig(embed_dim=64, depth=1, num_heads=1, patch_size=14, image_size=28, layerscale_init=1.0)
    model = VisionTransformer(config).init_weights(torch.Generator().manual_seed(0))
    about = Provenance(sources=["synthetic"], supervision="self-supervised", licence="Apache-2.0", synthetic=True)
    save_encoder(place / "encoder", model, size=28, mean=0.5, std=0.25, name="grey", provenance=about)
    (place / "suite.yaml").write_text(SUITE)
    evaluate = [word.replace("results", "judged") for word in COMMANDS["evaluate"]]
    assert command(evaluate, place) == 0
    shutil.copytree(place / "judged" / "models" / "lungs" / "grey", place / "model")
    for done in ("drawn", "dicom", "corpus/features"):
        shutil.rmtree(place / done)
    return place


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_at_every_file(given, tmp_path, capsys, name):
    for library in NEEDS.get(name, []):
        pytest.importorskip(library)
    shutil.copytree(given, tmp_path / "whole")
    assert command(COMMANDS[name], tmp_path / "whole") == 0
    before, whole = content(given), content(tmp_path / "whole")
    sizes = {(tmp_path / "whole" / file).stat().st_size for file in whole if whole[file] != before.get(file)}
    limits = sorted({0, *(size - 1 for size in sizes)})
    for limit in limits[:: -(-len(limits) // MOST)]:
        place = tmp_path / f"at {limit}"
        shutil.copytree(given, place)
        capsys.readouterr()
        with file_limit(limit):
            status = command(COMMANDS[name], place)
        said = capsys.readouterr()
        assert status == 2, f"{name} at {limit} bytes: {said.out}{said.err}"
        *progress, last = said.err.strip().splitlines()
        assert all(re.search(r" \d+/\d+( |$)", line) for line in progress), said.err
        assert last.startswith(f"error: {place}")
        assert last.endswith("free some space there, or give another place")
        half = content(place)
        left = [file for file in half if ".draft" in file]
        assert not left
        assert command(COMMANDS[name], place) == 0, capsys.readouterr().err
        again = content(place)
        assert again.keys() == whole.keys()
        if name not in ANEW:
            assert [file for file in again if again[file] != whole[file]] == []
            assert [file for file, digest in half.items() if again[file] != digest and before.get(file) != digest] == []
        shutil.rmtree(place)
