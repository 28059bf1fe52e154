"""The folder: same bytes however it is made, all files there, bad arguments refused in a line."""

import hashlib
import json
import multiprocessing
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raddino.errors import RaddinoError
from raddino.sample.generate import sample


def digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return sample(tmp_path_factory.mktemp("sample") / "a", 14, seed=4, size=64, workers=1)


def test_workers_do_not_matter(made, tmp_path):
    assert digest(sample(tmp_path / "b", 14, seed=4, size=64, workers=2)) == digest(made)


def test_an_interrupted_run_ends_with_the_same_bytes(made, tmp_path):
    out = sample(tmp_path / "b", 14, seed=4, size=64, workers=1)
    (out / "manifest.csv").unlink()
    (out / "images" / "000003.png").unlink()
    (out / "masks" / "000003_lungs.png").write_bytes(b"half")
    (out / "images" / "000009.png").unlink()
    assert digest(sample(out, 14, seed=4, size=64, workers=1)) == digest(made)


def test_a_killed_process_ends_the_run_and_the_rerun_equals(made, tmp_path):
    others, out = set(multiprocessing.active_children()), tmp_path / "b"

    def kill_one() -> None:
        while not list(out.glob("images/*.png")):
            time.sleep(0.02)
        (set(multiprocessing.active_children()) - others).pop().kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(RaddinoError, match=r"a process that draws died .* run the same command again to continue"):
        sample(out, 40, seed=4, size=200, workers=2)
    killer.join()
    sample(out, 40, seed=4, size=200, workers=1)
    assert digest(out) == digest(sample(tmp_path / "c", 40, seed=4, size=200, workers=1))


def test_more_images_extend_a_sample_and_leave_the_first_alone(made, tmp_path):
    out = sample(tmp_path / "b", 5, seed=4, size=64, workers=1)
    assert digest(out).items() - {(k, v) for k, v in digest(made).items()} == {
        (k, v) for k, v in digest(out).items() if k in ("manifest.csv", "sample.json")
    }
    assert digest(sample(out, 14, seed=4, size=64, workers=1)) == digest(made)


def test_seeds_differ(made, tmp_path):
    other = sample(tmp_path / "b", 2, seed=5, size=64, workers=1)
    assert digest(other)["images/000000.png"] != digest(made)["images/000000.png"]


def test_manifest_and_files_belong_together(made):
    table = pd.read_csv(made / "manifest.csv")
    assert len(table) == 14
    assert table.id.is_unique
    assert table.synthetic.all()
    assert set(table.source) == {"synthetic"}
    assert (table.groupby("patient_id").split.nunique() == 1).all()
    assert (table.groupby("study_id").patient_id.nunique() == 1).all()
    listed = set(table.path)
    for column in (c for c in table if c.startswith("mask_")):
        name = column.removeprefix("mask_")
        if f"label_{name}" in table:
            assert (table[column].notna() == (table[f"label_{name}"] == 1)).all()
        listed |= set(table[column].dropna())
    on_disk = {str(p.relative_to(made)) for folder in ("images", "masks") for p in (made / folder).iterdir()}
    assert on_disk == listed
    assert table.mask_lungs.notna().all()
    assert (table.mask_zones.notna() == (table["view"] != "LATERAL")).all()
    for row in table.itertuples():
        pixels, lungs = np.asarray(Image.open(made / row.path)), np.asarray(Image.open(made / row.mask_lungs))
        assert pixels.dtype == np.uint16
        assert pixels.shape == lungs.shape == (64, 64)
        assert pixels.max() > 30000
        assert set(np.unique(lungs)) == {0, 255}


def test_the_folder_says_that_it_is_synthetic(made):
    facts = json.loads((made / "sample.json").read_text(encoding="utf-8"))
    assert facts["synthetic"] is True
    assert facts["seed"] == 4
    assert facts["n"] == 14
    assert facts["raddino"]
    assert "No patient" in facts["notice"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "at least 1"),
        ({"n": -3}, "at least 1"),
        ({"size": 31}, "32 to 4096"),
        ({"size": 100000}, "32 to 4096"),
        ({"seed": -1}, "seed"),
        ({"format": "jpeg"}, "unknown format 'jpeg'"),
        ({"format": "dicm"}, "Did you mean 'dicom'"),
        ({"workers": 0}, "workers"),
    ],
)
def test_bad_arguments_leave_nothing_behind(tmp_path, wrong, message):
    with pytest.raises(RaddinoError, match=message) as error:
        sample(tmp_path / "b", **{"n": 1, "size": 64, **wrong})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b").exists()


def test_foreign_folders_are_refused_untouched(tmp_path):
    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    with pytest.raises(RaddinoError, match="not empty"):
        sample(tmp_path, 1, size=64)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(RaddinoError, match="is a file"):
        sample(tmp_path / "mine.txt", 1, size=64)


@pytest.mark.parametrize(("change", "message"), [({"seed": 9}, "seed 4"), ({"size": 65}, "size 64"), ({"n": 3}, "14")])
def test_another_sample_in_the_folder_is_refused(made, change, message):
    before = digest(made)
    with pytest.raises(RaddinoError, match=message):
        sample(made, **{"n": 14, "seed": 4, "size": 64, "workers": 1, **change})
    assert digest(made) == before


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"n": "x"}', b"\xff\xfe"])
def test_a_broken_sample_json_is_refused(tmp_path, content):
    (tmp_path / "sample.json").write_bytes(content)
    with pytest.raises(RaddinoError, match=r"sample\.json cannot be read"):
        sample(tmp_path, 1, size=64)


def test_small_and_large_sizes(tmp_path):
    for size in (32, 33, 300):
        out = sample(tmp_path / str(size), 3, seed=1, size=size, workers=1)
        assert Image.open(out / "images" / "000002.png").size == (size, size)
