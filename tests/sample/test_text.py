"""The text says what the labels say, read by an independent rule."""

import re

import pytest

from raddino.sample.studies import draw_scene
from raddino.sample.text import report

NAMES = {
    "effusion": "effusion",
    "pneumothorax": "pneumothorax",
    "consolidation": "consolidation",
    "cardiomegaly": "enlarged|cardiomegaly",
    "nodule": "nodule",
    "rib_fracture": "fracture",
    "endotracheal_tube": "endotracheal tube",
    "chest_drain": "chest drain",
    "pacemaker": "pacemaker",
}


def mentioned(text: str) -> set[str]:
    """Labels that some sentence names without denying."""
    found = set()
    for sentence in re.split(r"(?<=[a-z])\. *", text.lower()):
        if not re.search(r"\b(no|without|clear|normal)\b", sentence):
            found |= {name for name, words in NAMES.items() if re.search(words, sentence)}
    return found


def drawn(index: int):
    image = draw_scene(2, index, 64)
    scene = image.scene
    return image, report(image.patient, image.study, scene.findings, scene.devices, scene.view)


@pytest.mark.parametrize("start", [0, 200, 400])
def test_text_and_labels_agree(start):
    for index in range(start, start + 200):
        image, text = drawn(index)
        labels = {**image.scene.findings.labels, **image.scene.devices.labels}
        assert mentioned(text) == {name for name, value in labels.items() if value}, text


def test_what_is_denied_is_not_there():
    denied = set()
    for index in range(300):
        image, text = drawn(index)
        labels = {**image.scene.findings.labels, **image.scene.devices.labels}
        for sentence in re.findall(r"\b(?:No|There is no)\b[^.]*", text):
            named = {name for name in ("effusion", "pneumothorax") if name in sentence}
            assert not any(labels[name] for name in named), text
            denied |= named
    assert denied == {"effusion", "pneumothorax"}


def test_sides_are_the_patients():
    for index in range(300):
        image, text = drawn(index)
        for effusion in image.scene.findings.effusion:
            assert len(image.scene.findings.effusion) == 2 or f"{effusion.side} pleural effusion" in text
        for air in image.scene.findings.pneumothorax:
            assert f"{air.side} pneumothorax" in text


def test_text_is_repeatable_and_varied():
    texts = [drawn(i)[1] for i in range(100)]
    assert texts == [drawn(i)[1] for i in range(100)]
    assert len(set(texts)) > 50
    assert all(text.endswith(".") and text[0].isupper() and "None" not in text for text in texts)
