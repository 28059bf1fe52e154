"""How messages count."""

import ast
from pathlib import Path

import pytest

import raddino
from raddino.errors import counted

SOURCE = Path(raddino.__file__).parent


@pytest.mark.parametrize(
    ("n", "noun", "verb", "words"),
    [
        (0, "image", "", "0 images"),
        (1, "image", "", "1 image"),
        (2, "labelled image", "", "2 labelled images"),
        (1, "patient", "stand", "1 patient stands"),
        (3, "patient", "stand", "3 patients stand"),
        (1, "row", "have", "1 row has"),
        (2, "row", "have", "2 rows have"),
    ],
)
def test_one_is_one(n, noun, verb, words):
    assert counted(n, noun, verb) == words


def test_no_message_leaves_the_number_open():
    texts = [
        (file.name, node.value)
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        for node in node.values
        if isinstance(node, ast.Constant)
    ]
    assert [text for text in texts if text[1].lstrip().partition(" ")[0].endswith("(s)")] == []
