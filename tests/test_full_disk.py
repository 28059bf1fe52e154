"""Every command that writes, on a disk that refuses each of its files: one line, nothing half, and the rerun equals.

A limit on the size of files stands for the full disk (EFBIG), so that no rights and no mounts are needed: it is set
just below the sizes of the files that an undisturbed command leaves, and to 0. Refused renames reach the others.
"""

import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from raddino import cli
from raddino.encoders.base import Provenance
from raddino.encoders.ours import save_encoder
from raddino.vit.model import VisionTransformer, VitConfig
from test_files import file_limit, rights, umask

SEALED = re.compile(rb"(?<=raddino-sha256:)[0-9a-f]{64}")
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
    "inspect": ["inspect", "{}/corpus", "--check", "exposure", "--check", "duplicates", "--workers", "1"],
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
SLOW = ("export torch-export", "export onnx")
OWNERS_ALONE = ("inspect.html",)
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
    """Every file by its digest, without the name of the place and the seals over it, safetensors in a fixed order."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_file():
            data = SEALED.sub(64 * b"0", path.read_bytes()).replace(str(place).encode(), b"")
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
        ["prepare", "{}/drawn", "--out", "{}/corpus", "--column", "split=", "--splits", "0.2,0.2,0.6"],
        ["sample", "--out", "{}/dicom", "-n", "2", "--size", "48", "--workers", "1", "--format", "dicom"],
    ):  # fmt: skip
        assert command(words, place) == 0
    (place / "dicom" / "images").rename(place / "images")
    config = VitConfig(embed_dim=64, depth=1, num_heads=1, patch_size=14, image_size=28, layerscale_init=1.0)
    model = VisionTransformer(config).init_weights(torch.Generator().manual_seed(0))
    about = Provenance(sources=["synthetic"], supervision="self-supervised", licence="Apache-2.0", synthetic=True)
    save_encoder(place / "encoder", model, size=28, mean=0.5, std=0.25, name="grey", provenance=about)
    (place / "suite.yaml").write_text(SUITE, encoding="utf-8")
    evaluate = [word.replace("results", "judged") for word in COMMANDS["evaluate"]]
    assert command(evaluate, place) == 0
    shutil.copytree(place / "judged" / "models" / "lungs" / "grey", place / "model")
    for done in ("drawn", "dicom", "corpus/features"):
        shutil.rmtree(place / done)
    return place


@pytest.fixture(scope="module")
def undisturbed(given, tmp_path_factory):
    """What a command leaves, by file; made once a command."""
    made: dict[str, dict[str, str]] = {}

    def of(name: str) -> tuple[dict[str, str], list[int]]:
        for library in NEEDS.get(name, []):
            pytest.importorskip(library)
        place = made.get(name) or shutil.copytree(given, tmp_path_factory.mktemp("whole") / "place")
        if name not in made:
            assert command(COMMANDS[name], place) == 0
            made[name] = place
        before, whole = content(given), content(place)
        return whole, sorted({(place / file).stat().st_size for file in whole if whole[file] != before.get(file)})

    return of


def check_refused(name: str, place: Path, capsys, status: int, remedy: str) -> None:
    """One line that names a place and a remedy, no draft, status 2."""
    said = capsys.readouterr()
    assert status == 2, f"{said.out}{said.err}"
    *progress, last = said.err.strip().splitlines()
    assert all(re.search(r" \d+/\d+( |$)", line) for line in progress), said.err
    assert last.startswith(f"error: {place}")
    assert last.endswith(remedy)
    assert not [path for path in place.rglob("*") if ".draft" in path.name]


def check_rerun(name: str, place: Path, given: Path, whole: dict[str, str]) -> None:
    """What was there already is part of what an undisturbed run leaves, and so is what comes of running again."""
    before, half = content(given), content(place)
    assert command(COMMANDS[name], place) == 0
    again = content(place)
    assert again.keys() == whole.keys()
    assert not [path for path in place.rglob("*") if ".draft" in path.name]
    if name not in ANEW:
        assert [file for file in again if again[file] != whole[file]] == []
        assert [file for file in whole if half.get(file) not in (None, whole[file], before.get(file))] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk(given, undisturbed, tmp_path, capsys, name):
    whole, sizes = undisturbed(name)
    limits = [size - 1 for size in sizes[-1:] if name in SLOW] or [0, *(size - 1 for size in sizes)]
    for limit in limits[:: -(-len(limits) // MOST)]:
        place = shutil.copytree(given, tmp_path / str(limit))
        capsys.readouterr()
        with file_limit(limit):
            status = command(COMMANDS[name], place)
        check_refused(name, place, capsys, status, "free some space there, or give another place")
        check_rerun(name, place, given, whole)


class Renames:
    """``os.replace`` that counts what it moves below ``place``, and does something else at one of the calls."""

    def __init__(self, place: Path, at: int, instead) -> None:
        self.place, self.at, self.instead, self.count, self.replace = place, at, instead, 0, os.replace

    def __call__(self, source, target) -> None:
        self.count += self.place in Path(target).parents
        if self.count == self.at:
            self.instead()
        self.replace(source, target)


def refuse() -> None:
    raise OSError(errno.EROFS, "read-only")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in SLOW])
def test_a_disk_that_becomes_read_only(given, undisturbed, tmp_path, capsys, monkeypatch, name):
    whole, _ = undisturbed(name)
    count, at = 1, 1
    while at <= count:
        place = shutil.copytree(given, tmp_path / str(at))
        capsys.readouterr()
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", renames := Renames(place, at, refuse))
            status = command(COMMANDS[name], place)
        check_refused(name, place, capsys, status, "get the right to write there, or give another place")
        check_rerun(name, place, given, whole)
        if at == 1:
            with monkeypatch.context() as patched:
                patched.setattr(os, "replace", renames := Renames(other := tmp_path / "count", 0, refuse))
                assert command(COMMANDS[name], shutil.copytree(given, other)) == 0
            count = renames.count
        at += -(-count // MOST)


@pytest.mark.parametrize("name", ["segment", "evaluate", "embed patches"])
def test_kill_9_between_two_files(given, undisturbed, tmp_path, name):
    whole, _ = undisturbed(name)
    place = shutil.copytree(given, tmp_path / "place")
    at = 1 if name == "embed patches" else 2
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom test_full_disk import *\n"
        "place = Path(sys.argv[1])\nkill = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.replace = Renames(place, int(sys.argv[2]), kill)\ncommand(COMMANDS[sys.argv[3]], place)"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    job = [sys.executable, "-c", script, str(place), str(at), name]
    done = subprocess.run(job, capture_output=True, encoding="utf-8", env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(path.name.endswith(".draft") for path in place.rglob("*"))
    check_rerun(name, place, given, whole)


PLACES = {
    "sample": "drawn", "embed parquet": "f.parquet", "embed patches": "corpus/features", "evaluate": "results",
    "segment": "masks", "compare": "pair", "leaderboard": "board", "export official": "export",
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_a_file_where_a_folder_should_be_and_the_other_way_round(given, tmp_path, capsys, name):
    place = shutil.copytree(given, tmp_path / "place")
    out = place / PLACES[name]
    if out.suffix:
        out.mkdir()
    else:
        out.write_text("mine", encoding="utf-8")
    capsys.readouterr()
    assert command(COMMANDS[name], place) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert str(out) in last
    assert out.is_dir() if out.suffix else out.read_text(encoding="utf-8") == "mine"
    if name != "embed patches":
        out.rmdir() if out.suffix else out.unlink()
        (place / "file").write_text("mine", encoding="utf-8")
        below = [word.replace("{}/" + PLACES[name], "{}/file/below") for word in COMMANDS[name]]
        below = [word + out.suffix if word.endswith("below") else word for word in below]
        assert command(below, place) == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith("error: ")
        assert f"{place}/file" in last
        assert "a file" in last
    assert not [path for path in place.rglob("*") if ".draft" in path.name]


def test_rights_of_all_that_is_written(given, undisturbed, tmp_path):
    for mask, file, folder in ((0o022, 0o644, 0o755), (0o077, 0o600, 0o700)):
        for name in COMMANDS:
            if name not in SLOW and all(importlib.util.find_spec(library) for library in NEEDS.get(name, [])):
                place = shutil.copytree(given, tmp_path / oct(mask) / name)
                before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
                with umask(mask):
                    assert command(COMMANDS[name], place) == 0
                for path in place.rglob("*"):
                    if path not in before:
                        own = 0o600 if path.name in OWNERS_ALONE else file
                        assert rights(path) == (folder if path.is_dir() else own), path


IN_A_SMALL_DISK = """
import os, sys
from pathlib import Path
import numpy as np
from raddino.errors import UnwritableError
from raddino.features.patches import PatchFile
place = Path(sys.argv[1])
made = PatchFile(place, (64, 4, 4, 64))
made.create(64)
made.write(np.arange(2), [np.ones((2, 4, 4, 64))])
fill = (place / "other").open("wb", buffering=0)
try:
    while fill.write(b"0" * 4096):
        pass
except OSError:
    fill.close()
try:
    made.write(np.arange(2, 64), [np.ones((62, 4, 4, 64))])
except UnwritableError as error:
    print(error)
(place / "other").unlink()
made.write(np.arange(2, 64), [np.ones((62, 4, 4, 64))])
print(made.open().min())
"""


def test_patches_on_a_disk_that_others_fill_are_an_error_and_no_signal(tmp_path):
    mounted = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=300k none "$0" && exec "$@"', str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        [*mounted, sys.executable, "-c", IN_A_SMALL_DISK, tmp_path], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    error, least = done.stdout.splitlines()
    assert error.startswith(f"{tmp_path}/patches.npy cannot be written (No space left on device): free some space")
    assert least == "1.0"
