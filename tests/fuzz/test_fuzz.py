"""A thousand damaged files end nothing, and a fuzzer that is blind would be noticed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fuzz import run
from fuzz.mutate import mutate
from fuzz.plants import SICK
from fuzz.run import MUSTS, Trial, all_seeds, check_seeds, fuzz, make_trials, table
from fuzz.seeds import Seed, image_seeds, picture, saved

NUMBER = 1000
SILENT = {
    **{"JPEG": 0.2, "JP2": 0.2, "TIFF compressed": 0.1, "mask GIF": 0.2, "mask TIFF": 0.2, "mask PNG": 0.1},
    **{"DICOM JPEG baseline": 0.2, "DICOM JPEG extended": 0.2, "DICOM JPEG 2000": 0.1},
}
"""Shares that 5 to 20 files of a format may reach where it cannot notice all; every other one notices all."""
WORKERS = 2


@pytest.fixture(scope="module")
def seeds() -> list[Seed]:
    return all_seeds()


@pytest.fixture(scope="module")
def sick() -> Trial:
    grey = np.ascontiguousarray(picture(8)[: SICK[0], : SICK[1]])
    data = saved(grey, "PNG")
    return Trial(0, Seed("raster", "PNG", "sick.png", data, grey), data)


def test_a_thousand_damaged_files(seeds):
    findings = fuzz(list(make_trials(seeds, range(NUMBER))), WORKERS)
    assert findings.sound, f"{table(findings)}\n{findings.broken}"
    assert findings.total("tried") == NUMBER
    for row, tally in findings.rows.items():
        if tally.redundant:
            assert tally.silent_share <= SILENT.get(row, 0), (row, findings.silent)


def test_sound_files_are_read_as_they_are(seeds):
    assert check_seeds(seeds) == []


def test_a_sound_file_that_is_misread_is_told(sick):
    turned, cut = (replace(sick.seed, **one) for one in ({"pixels": sick.seed.pixels[::-1]}, {"data": sick.data[:99]}))
    told = check_seeds([turned, cut, sick.seed])
    assert [words.split(": ")[0] for words in told] == ["PNG (sick.png)"] * 2
    assert told[0].endswith("another picture")


@pytest.mark.parametrize(
    ("plant", "must"),
    [("crash", "ended"), ("traceback", "traceback"), ("panic", "traceback"), ("chatter", "printed")],
)
def test_a_planted_fault_is_seen(sick, plant, must):
    well = [Trial(1, seed, seed.data) for seed in image_seeds() if seed.format == "PNG"]
    findings = fuzz([*well, sick], 1, f"fuzz.plants:{plant}")
    assert [(broken, blamed) for broken, blamed, _ in findings.broken] == [(must, [sick])]
    assert findings.rows["PNG"].counts["tried"] == len(well) + 1


@pytest.mark.parametrize(("plant", "limit"), [("sleep", "IDLE_S"), ("spin", "LIMIT_S")])
def test_a_planted_hang_is_seen(plant, limit, sick, monkeypatch):
    monkeypatch.setattr(run, limit, 1.0)
    assert [broken for broken, _, _ in fuzz([sick], 1, f"fuzz.plants:{plant}").broken] == ["hang"]


def test_a_planted_hog_is_seen(sick, monkeypatch):
    monkeypatch.setattr(run, "LARGEST_MEMORY", 2**30)
    findings = fuzz([sick], 1, "fuzz.plants:hog")
    assert [broken for broken, _, _ in findings.broken] == ["memory"]
    assert 2**30 < findings.peak < 2**31


def test_a_wrong_picture_is_counted(sick):
    turned = Trial(0, replace(sick.seed, pixels=sick.seed.pixels[::-1]), sick.data)
    assert fuzz([turned], 1).rows["PNG"].counts["silent"] == 1
    assert fuzz([sick], 1).rows["PNG"].counts["silent"] == 0


def test_damage_depends_on_bytes_and_number_alone():
    """In another process, with another order of hashes."""
    here = [mutate(seed.data, number, seed.name, b"other").hex() for number, seed in enumerate(image_seeds())]
    code = (
        "from fuzz.mutate import mutate; from fuzz.seeds import image_seeds\n"
        "print(*(mutate(one.data, at, one.name, b'other').hex() for at, one in enumerate(image_seeds())), sep='\\n')"
    )
    place = Path(run.__file__).parents[1]
    told = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, encoding="utf-8", check=True)
    assert told.stdout.split() == here


def test_every_must_makes_the_command_fail(sick):
    for must in MUSTS:
        findings = run.Findings()
        run._count(findings, [sick], run.Answer([], must))
        assert not findings.sound
        assert f"{must} 1" in table(findings)
