"""The check of text keeps boxes and no words, and speaks of identifiers alone."""

import json

import pandas as pd

from burned_text import chestlike, drawn
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
