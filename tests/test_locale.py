"""What is read and written does not follow the locale."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import raddino

SOURCE = Path(raddino.__file__).parent
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NAMES = {"read_text": 0, "write_text": 1, "fdopen": 2, "open": 2}


def opens_text_by_the_locale(call: ast.Call) -> bool:
    """Whether a call opens a text file without saying its encoding; ``os.open`` and classes' ``open`` do not."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in NAMES or any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if name in ("read_text", "write_text"):
        return isinstance(call.func, ast.Attribute) and len(call.args) == NAMES[name]
    modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    modes += [k.value.value for k in call.keywords if k.arg == "mode" and isinstance(k.value, ast.Constant)]
    return any(mode in ("r", "w", "a", "x", "r+", "w+") for mode in modes) or (
        isinstance(call.func, ast.Name) and not modes
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("path.read_text()", True),
        ("path.write_text(words)", True),
        ("open(path)", True),
        ("path.open('w')", True),
        ("os.fdopen(handle, 'w')", True),
        ("path.read_text(encoding='utf-8')", False),
        ("write_text(path, words)", False),
        ("path.open('rb')", False),
        ("Corpus.open(path)", False),
        ("open(path, 'rb')", False),
    ],
)
def test_what_follows_the_locale_is_known(text, found):
    assert opens_text_by_the_locale(ast.parse(text, mode="eval").body) == found


def test_text_files_say_their_encoding():
    ours = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in SOURCE.rglob("*.py")
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
