"""The outside engines behind one function: what they return, and what is said where they are missing."""

import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from burned_text import chestlike, drawn
from raddino.inspection import text_ocr
from raddino.inspection.text import find_text
from raddino.inspection.text_ocr import OcrError


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
