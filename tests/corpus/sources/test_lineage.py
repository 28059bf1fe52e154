"""Other names of data sets, and images that stand in two of them."""

import itertools
from pathlib import Path

import pytest

from raddino.corpus.sources import SOURCES
from raddino.corpus.sources.lineage import NAMES, PARTS, SHOWN, UNIONS, Overlap, canonical, overlap

FOLDER = "folder"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Open-i", "iu-xray"), ("openi", "iu-xray"), ("Indiana University", "iu-xray"), ("IU_XRay", "iu-xray"),
        ("NIH ChestX-ray14", "nih"), ("ChestXray14", "nih"), ("MIMIC_CXR_JPG", "mimic-cxr"), ("RSNA", "rsna-pneumonia"),
        ("VinDr", "vindr-cxr"), ("VinDr-PCXR", "vindrpcxr"), ("our hospital", "ourhospital"),
    ],
)  # fmt: skip
def test_case_and_signs_of_a_name_do_not_count(name, told):
    assert canonical(name) == told


def test_every_source_that_is_read_has_its_place_here():
    own = {name: SOURCES[name].record or name for name in SOURCES if name != FOLDER}
    assert {name for name in own if canonical(name) not in NAMES} == set()
    assert {name: canonical(name) for name in own} == {name: canonical(record) for name, record in own.items()}


def test_a_name_means_one_data_set():
    spelled = [canonical(one) for name, others in NAMES.items() for one in (name, *others)]
    assert spelled == [name for name, others in NAMES.items() for _ in (name, *others)]
    mentioned = {part.name for part in PARTS} | {part.whole for part in PARTS} | set(UNIONS)
    mentioned |= {one.name for one in SHOWN} | {name for one in SHOWN for name in one.collections}
    assert mentioned <= set(NAMES)
    assert all(one.reference for one in (*PARTS, *SHOWN))


def test_the_documentation_has_each_statement():
    text = " ".join((Path(__file__).parents[3] / "docs/sources.md").read_text(encoding="utf-8").split())
    for part in PARTS:
        assert f"| `{part.name}` | `{part.whole}` | {part.reference} |" in text
    for one in SHOWN:
        assert one.reference in text
    for name, members in UNIONS.items():
        assert f"| `{name}` | all of {', '.join(f'`{member}`' for member in members)} |" in text


def test_sources_that_share_patients_share_images():
    for one, other in itertools.combinations([name for name in SOURCES if name != FOLDER], 2):
        spaces = [SOURCES[name].namespace or SOURCES[name].record or name for name in (one, other)]
        if spaces[0] == spaces[1]:
            assert overlap(one, other) != Overlap.NONE, (one, other)


@pytest.mark.parametrize(
    ("seen", "tested", "told"),
    [
        ("nih", "rsna", Overlap.WHOLE),
        ("rsna", "nih", Overlap.PART),
        ("rsna", "siim", Overlap.MAY),
        ("chestx-det10", "ChestX-ray14", Overlap.PART),
        ("vindr-cxr", "vindr-ribcxr", Overlap.WHOLE),
        ("vindr-ribcxr", "vindr-cxr", Overlap.PART),
        ("ms-cxr", "chest-imagenome", Overlap.MAY),
        ("chexpert", "chexlocalize", Overlap.WHOLE),
        ("chexpert-plus", "chexpert", Overlap.WHOLE),
        ("padchest", "padchest-gr", Overlap.WHOLE),
        ("chexmask", "rsna", Overlap.WHOLE),
        ("rsna", "chexmask", Overlap.PART),
        ("nih", "chexmask", Overlap.PART),
        ("chexmask", "chexmask", Overlap.WHOLE),
        ("cohen", "chexmask", Overlap.NONE),
        ("nih", "chexpert", Overlap.NONE),
        ("pmc-15m", "cohen", Overlap.MAY),
        ("cohen", "pmc-15m", Overlap.MAY),
        ("pmc-15m", "nih", Overlap.NONE),
        ("vindr-pcxr", "vindr-cxr", Overlap.NONE),
        ("brax", "brax", Overlap.WHOLE),
    ],
)
def test_direction_counts(seen, tested, told):
    assert overlap(seen, tested) == told
