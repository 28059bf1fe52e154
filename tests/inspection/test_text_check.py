"""The check of text keeps boxes and no words, and speaks of identifiers alone."""

import json

import pandas as pd
import pytest

from burned_text import chestlike, drawn
from raddino.errors import ConfigError
from raddino.inspection.text import ENGINES
from raddino.inspection.text_check import Text


def test_identifiers_are_found_and_markers_are_not_spoken_of():
    named, _ = drawn(chestlike(), "SMITH, ANNA", (40, 150))
    marked, _ = drawn(chestlike(), "PORTABLE", (40, 150))
    check = Text()
    measures = check.measure([chestlike(), named, marked])
    assert [len(m["identifiers"]) for m in measures] == [0, 1, 0]
    assert [len(m["markers"]) for m in measures] == [0, 0, 1]
    assert check.measure([named])[0] == measures[1]
    assert "SMITH" not in json.dumps(measures)
    (finding,) = check.judge(pd.DataFrame(), pd.DataFrame(measures))
    assert (finding.row, finding.reason) == (1, "text")
    top, left, *_ = finding.boxes[0]
    assert abs(top - 40) < 4
    assert abs(left - 150) < 4
    assert finding.reason in check.reasons


def test_the_engine_is_the_one_that_is_asked_for_and_part_of_the_version(monkeypatch):
    shown = []
    monkeypatch.setitem(ENGINES, "both", lambda image: shown.append(image.shape) or [])
    assert Text("both").measure([chestlike(40)]) == [{"identifiers": [], "markers": [], "score": 0.0}]
    assert shown == [(40, 40)]
    assert len({Text(engine).version for engine in ENGINES}) == len(ENGINES)
    with pytest.raises(ConfigError, match=r"unknown text engine 'boht'\. Did you mean 'both'"):
        Text("boht")
