"""The outside engines behind one function: what they return, and what is said where they are missing."""

import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from burned_text import chestlike, drawn
from raddino.inspection import text_ocr
from raddino.inspection.text import find_text
from raddino.inspection.text_ocr import OcrError
from raddino.inspection.text_regions import Region


@pytest.fixture(autouse=True)
def _forget():
    text_ocr._rapidocr.cache_clear()
    yield
    text_ocr._rapidocr.cache_clear()


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_tesseract_reads_a_name_and_a_marker():
    image, _ = drawn(np.full((400, 400), 20, np.uint8), "SMITH 12.03.1956", (40, 120), 24)
    image, _ = drawn(image, "PORTABLE", (300, 60), 24)
    kinds = {r.word: r.kind for r in find_text(image, "tesseract")}
    assert kinds["PORTABLE"] == "marker"
    assert any(kind == "identifier" and "SMITH" in word for word, kind in kinds.items())


def test_without_tesseract_the_remedy_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OcrError, match="apt-get install tesseract-ocr"):
        find_text(chestlike(64), "tesseract")


def program(monkeypatch, stdout: str = "", code: int = 0, stderr: str = "") -> None:
    monkeypatch.setattr(text_ocr.shutil, "which", lambda _: "/usr/bin/tesseract")
    done = subprocess.CompletedProcess([], code, stdout.encode(), stderr.encode())
    monkeypatch.setattr(text_ocr.subprocess, "run", lambda *a, **k: done)


HEAD = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"


def test_its_table_is_read_in_the_pixels_of_the_image(monkeypatch):
    rows = (
        "1 1 0 0 0 0 0 0 400 400 -1 ",
        '5 1 1 1 1 1 20 40 61 20 91.5 Na"me',
        "5 1 1 1 1 2 90 40 9 20 30 x",
        "5 1 2 1 1 1 200 300 20 20 95 R",
    )
    program(monkeypatch, HEAD + "".join(row.replace(" ", "\t") + "\n" for row in rows))
    second, first = find_text(chestlike(200), "tesseract")
    assert (first.top, first.left, first.height, first.width, first.kind) == (20, 10, 10, 31, "identifier")
    assert (second.kind, second.word, second.score) == ("marker", "R", 0.95)


def test_a_failing_program_is_one_line(monkeypatch):
    program(monkeypatch, code=1, stderr="Error opening data file\nCould not initialize tesseract.")
    with pytest.raises(OcrError, match=r"Could not initialize.*tesseract-ocr-eng") as caught:
        find_text(chestlike(64), "tesseract")
    assert "\n" not in str(caught.value)


def test_a_hanging_program_is_ended(monkeypatch):
    def hang(*args, **options):
        raise subprocess.TimeoutExpired("tesseract", options["timeout"])

    monkeypatch.setattr(text_ocr.shutil, "which", lambda _: "/usr/bin/tesseract")
    monkeypatch.setattr(text_ocr.subprocess, "run", hang)
    with pytest.raises(OcrError, match="more than 60 s"):
        find_text(chestlike(64), "tesseract")


def test_without_rapidocr_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(OcrError, match=r"pip install 'raddino\[ocr\]'"):
        find_text(chestlike(64), "rapidocr")


@pytest.mark.parametrize("some", [True, False])
def test_lines_of_rapidocr(monkeypatch, some):
    seen = []
    quad = np.array([[20.0, 40.0], [120.0, 42.0], [120.0, 62.0], [20.0, 60.0]])
    answer = SimpleNamespace(boxes=[quad, quad + 200] if some else None, txts=("PA ERECT", "Smith"), scores=(0.9, 0.8))

    def engine(image):
        seen.append(image.shape)
        return answer

    monkeypatch.setitem(sys.modules, "rapidocr", SimpleNamespace(RapidOCR=lambda params: engine))
    regions = find_text(chestlike(200), "rapidocr")
    assert seen == [(400, 400, 3)]
    assert [(r.top, r.left, r.height, r.width, r.kind) for r in regions] == (
        [(20, 10, 11, 50, "marker"), (120, 110, 11, 50, "identifier")] if some else []
    )


NAMED, MARKED = Region(20, 30, 10, 40, "identifier", 0.99), Region(90, 30, 10, 40, "marker", 0.9995, "ERECT")
UNSURE = replace(NAMED, score=0.7)


def both(
    monkeypatch, taken: list[Region], *answers: tuple[str, float], doubted: tuple[Region, ...] = ()
) -> tuple[list[Region], list[tuple[int, ...]]]:
    """What ``both`` makes of what the built-in detector found, if rapidocr reads the answers in turn."""
    seen, coming = [], iter(answers)

    def engine(image, *, use_det, use_cls, use_rec):
        assert (use_det, use_cls, use_rec) == (False, False, True)
        seen.append(image.shape)
        word, score = next(coming)
        return SimpleNamespace(txts=(word,), scores=(score,)) if word else SimpleNamespace(txts=None, scores=None)

    text_ocr._rapidocr.cache_clear()
    monkeypatch.setattr(text_ocr.text_find, "found", lambda _: (taken, list(doubted)))
    monkeypatch.setitem(sys.modules, "rapidocr", SimpleNamespace(RapidOCR=lambda params: engine))
    return find_text(chestlike(200), "both"), seen


@pytest.mark.parametrize("word", ["PORTABLE", "a-p", "L"])
def test_what_is_surely_read_as_a_marker_becomes_one(monkeypatch, word):
    (region,), seen = both(monkeypatch, [UNSURE], ("SMITH", 0.99), (word, 0.95))
    assert (region.kind, region.word, region.score) == ("marker", word.upper(), 0.95)
    assert (region.top, region.left, region.height, region.width) == (20, 30, 10, 40)
    assert seen == [(16, 46, 3)] * 2


@pytest.mark.parametrize(
    "answer", [("PORTABLE", 0.89), ("PORTER", 0.99), ("R 1234", 0.99), ("SMITH", 0.5), ("L7", 0.6)]
)
def test_words_that_are_not_surely_markers_are_identifiers(monkeypatch, answer):
    for region in (UNSURE, replace(MARKED, score=0.998)):
        (one,), _ = both(monkeypatch, [region], answer, ("", 0.0))
        assert (one.kind, one.top, one.left, one.width) == ("identifier", region.top, 30, 40)
        assert one.score >= answer[1]


@pytest.mark.parametrize("answer", [("", 0.0), ("0", 0.99), ("-", 0.99), ("J.", 0.8), ("SMITH", 0.49)])
def test_without_a_word_only_what_the_detector_is_sure_of_stays(monkeypatch, answer):
    assert both(monkeypatch, [UNSURE], answer, answer)[0] == []
    for region in (NAMED, replace(MARKED, score=0.96)):
        assert both(monkeypatch, [region], answer, answer)[0] == [region]


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        (("SMITH", 0.85), ["identifier"]), (("SMIT", 0.8), ["identifier"]), (("SMITH", 0.79), []), (("SMI", 0.99), []),
        (("ERECT", 0.95), ["marker"]), (("", 0.0), []),
    ],
)  # fmt: skip
def test_what_the_detector_took_for_no_text_needs_a_long_sure_word(monkeypatch, answer, kinds):
    regions, _ = both(monkeypatch, [], answer, ("", 0.0), doubted=(NAMED,))
    assert [r.kind for r in regions] == kinds


def test_sure_markers_are_not_read_again_and_square_regions_in_four_turns(monkeypatch):
    assert both(monkeypatch, [MARKED]) == ([MARKED], [])
    regions, seen = both(monkeypatch, [replace(UNSURE, width=12)], ("", 0.0), ("", 0.0), ("", 0.0), ("R", 0.99))
    assert regions[0].kind == "marker"
    assert seen == [(16, 18, 3), (18, 16, 3), (16, 18, 3), (18, 16, 3)]


def test_a_marker_read_beside_an_identifier_is_part_of_it(monkeypatch):
    beside = Region(20, 74, 10, 60, "identifier", 0.99)
    regions, _ = both(monkeypatch, [NAMED, beside], ("PA", 0.95), ("", 0), ("SMITH", 0.9), ("", 0))
    assert [(r.kind, r.left, r.right) for r in regions] == [("identifier", 30, 134)]


def test_no_region_shows_what_was_read(monkeypatch):
    regions, _ = both(monkeypatch, [UNSURE], ("ZANZIBAR", 0.99), ("", 0.0))
    assert regions[0].word is None


def test_both_without_rapidocr_says_the_remedy(monkeypatch):
    monkeypatch.setattr(text_ocr.text_find, "found", lambda _: ([NAMED], []))
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(OcrError, match=r"pip install 'raddino\[ocr\]'"):
        find_text(chestlike(64), "both")
