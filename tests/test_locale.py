"""What is read and written does not follow the locale."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import raddino

SOURCE = Path(raddino.__file__).parent
TESTS = Path(__file__).parent
BENCHMARKS = TESTS.parent / "benchmarks"
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NAMES = {"read_text": 0, "write_text": 1, "fdopen": 2, "open": 2}
PROCESSES = ("run", "Popen", "check_output")
MODES = ("r", "w", "a", "x", "r+", "w+", "rt", "wt", "at", "xt")


def opens_text_by_the_locale(call: ast.Call) -> bool:
    """Whether a call opens a text file, or a process's streams as text, without saying the encoding.

    ``os.open`` and classes' ``open`` do not.
    """
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    said = {keyword.arg for keyword in call.keywords}
    if "encoding" in said:
        return False
    if name not in NAMES:
        return bool(said & {"text", "universal_newlines"}) and name in PROCESSES
    if name in ("read_text", "write_text"):
        return isinstance(call.func, ast.Attribute) and len(call.args) == NAMES[name]
    modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    modes += [k.value.value for k in call.keywords if k.arg == "mode" and isinstance(k.value, ast.Constant)]
    return any(mode in MODES for mode in modes) or (isinstance(call.func, ast.Name) and not modes)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("path.read_text()", True),
        ("path.write_text(words)", True),
        ("open(path)", True),
        ("path.open('w')", True),
        ("os.fdopen(handle, 'w')", True),
        ("gzip.open(path, 'rt')", True),
        ("subprocess.run(job, text=True)", True),
        ("subprocess.run(job, encoding='utf-8')", False),
        ("subprocess.run(job)", False),
        ("path.read_text(encoding='utf-8')", False),
        ("write_text(path, words)", False),
        ("path.open('rb')", False),
        ("Corpus.open(path)", False),
        ("open(path, 'rb')", False),
    ],
)
def test_what_follows_the_locale_is_known(text, found):
    assert opens_text_by_the_locale(ast.parse(text, mode="eval").body) == found


@pytest.mark.parametrize("folder", [SOURCE, TESTS, BENCHMARKS], ids=lambda folder: folder.name)
def test_text_files_say_their_encoding(folder):
    ours = [
        f"{file.relative_to(folder)}:{node.lineno}"
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and opens_text_by_the_locale(node)
    ]
    assert ours == []


@pytest.mark.parametrize(
    "command", [["presets"], ["encoders"], ["sources"], ["prepare", "Größe".encode(), "--out", "corpus"]]
)
def test_words_are_shown_where_the_terminal_knows_ascii_alone(tmp_path, command):
    done = subprocess.run(
        [sys.executable, "-m", "raddino.cli", *command], env=os.environ | ASCII_ONLY, cwd=tmp_path, capture_output=True
    )
    assert done.returncode == (2 if "prepare" in command else 0)
    assert b"Traceback" not in done.stderr
    assert b"unforeseen" not in done.stderr
    assert (done.stdout + done.stderr).isascii()
