"""The page of a study and its sentences, on an outcome that is made by hand."""

import copy
import re

import pytest

from raddino.report.study import study_page
from raddino.report.study_words import summary

from .test_html import Page


def cell(task, value, metric="auroc", unit="findings", x=None):
    return {"unit": unit, "task": task, "metric": metric, "value": value, "low": value - 0.05, "high": value + 0.05,
            "seed_sd": 0.004, "seeds": 2, "points": [[x, value - 0.01], [x, value + 0.01]]}  # fmt: skip


def condition(series, name, cells, x=None, state="finished"):
    arm = {"label": f"{name}, seed 0", "digest": f"d{name}", "seed": "0", "state": state, "steps": 100, "images": 50,
           "patients": 20, "parameters": 10**6, "flops": 1e12}  # fmt: skip
    return {"series": series, "condition": name, "x": x, "arms": [arm], "cells": cells}


def gap(series, name, against, task, value, p):
    return {"series": series, "condition": name, "against": against, "unit": "findings", "task": task,
            "metric": "auroc", "seeds": 2, "difference": {"value": value, "low": value - 0.02, "high": value + 0.02,
            "p": p, "p_holm": p, "test": "DeLong"}}  # fmt: skip


LAW = {"series": "quantity", "axis": "images", "unit": "findings", "metric": "auroc", "a": 0.2, "b": 0.31, "c": 0.1,
       "unit_x": 300.0, "b_low": 0.22, "b_high": 0.45, "c_low": 0.05, "c_high": 0.12, "losses": 8, "sizes": 4,
       "told": True, "refused": ""}  # fmt: skip
OUTCOME = {
    "study": "scaling", "size": "", "question": "Do <more> images help?", "description": "", "synthetic": False,
    "corpus": {"images": 900, "fingerprint": "f" * 16, "judged_on": "e" * 16}, "seed": 0, "resamples": 100,
    "series": [
        {"name": "quantity", "title": "Quantity", "axis": "images", "against": "fraction 10 %",
         "compute": {"equal": True, "spread": 0.004, "worst": "fraction 100 %", "held": True, "flops": 1e12}},
        {"name": "encoders", "title": "Encoders", "axis": None, "against": "rad-dino", "compute": None},
    ],
    "tasks": [{"unit": "findings", "task": task, "metric": "auroc", "n": n, "positives": 20, "patients": 40,
               "site": site, "lower_is_better": False}
              for task, n, site in (("sex", 60, None), ("sex at nih", 300, "nih"))],
    "conditions": [
        condition("quantity", "fraction 10 %", [cell("sex", 0.6, x=90)], x=90),
        condition("quantity", "fraction 100 %", [cell("sex", 0.7, x=900)], x=900),
        condition("encoders", "rad-dino", [cell("sex", 0.9), cell("sex at nih", 0.7)]),
        condition("encoders", "biomedclip", [cell("sex", 0.8), cell("sex at nih", 0.75)]),
        condition("encoders", "mrm", [], state="failed before"),
    ],
    "differences": [gap("quantity", "fraction 100 %", "fraction 10 %", "sex", 0.1, 0.004),
                    gap("encoders", "biomedclip", "rad-dino", "sex", -0.1, 0.2)],
    "laws": [LAW | {"task": "sex"}, LAW | {"task": "sex at nih", "refused": "2 losses of 2 sizes", "told": False}],
    "contamination": [
        {"series": "encoders", "condition": "rad-dino", "name": "rad-dino", "supervision": "self-supervised",
         "sources": {"nih": "image seen"}},
        {"series": "encoders", "condition": "biomedclip", "name": "biomedclip", "supervision": "text",
         "sources": {"nih": "unknown"}},
    ],
    "failed": [{"arm": "mrm", "series": "encoders", "reason": "weights are <not> here"}],
    "absent": [{"unit": "findings", "task": "hernia", "reason": "2 positives", "arms": 4}],
    "rows": [],
}  # fmt: skip


@pytest.fixture
def data():
    made = copy.deepcopy(OUTCOME)
    made["summary"] = summary(made)
    return made


def test_the_summary_is_built_from_the_numbers(data):
    said = "\n".join(data["summary"])
    assert said.startswith("4 of 5 arms have results. 1 arm failed, cannot run or wait")
    assert "All trainings: equal compute, counted in the step, at most 0.40% apart." in said
    assert "of 1 difference from fraction 10 % 1 below p = 0.05 after Holm: fraction 100 %, sex: AUROC +0.100" in said
    assert "falls with images to the power of −0.31 [0.22, 0.45] towards 0.1 (8 arms, 4 sizes)" in said
    assert "Encoders: of 1 difference from rad-dino none below p = 0.05" in said
    assert "image-only encoder stands above the best text-supervised one on 1 of 2 tasks" in said
    assert "on 0; not so on sex at nih (biomedclip instead of rad-dino)" in said
    assert "Have or may have seen test images before: rad-dino." in said
    assert "Of biomedclip it is not on record what they saw." in said
    assert "60 to 300 test images" in said
    assert "drawn" not in said


def test_other_numbers_other_words(data):
    data["series"][0]["compute"] |= {"held": False, "spread": 0.031}
    data["differences"][0]["difference"]["p_holm"] = 0.2
    data["laws"] = [LAW | {"task": "sex", "told": False}]
    data["synthetic"] = "mixed"
    data["conditions"][3]["cells"][1]["value"] = 0.5
    data["contamination"] = [data["contamination"][0] | {"sources": {"nih": "clean"}}]
    said = "\n".join(summary(data))
    assert "Quantity: compute is NOT equal; fraction 100 % is 3.1% apart." in said
    assert "fraction 10 % none below p = 0.05 after Holm. No power law is told: the arms do not bound" in said
    assert "leads at the site too on 1." in said
    assert "No arm is on record as having seen the test images." in said
    assert "Some of the images are drawn: what is found here says nothing about patients." in said


def test_the_page_shows_all_of_it_and_needs_nothing_else(data):
    text = study_page(data)
    page = Page(text)
    assert "Do &lt;more&gt; images help?" in text
    assert "weights are &lt;not&gt; here" in text
    for words in ("0.700", "0.650 to 0.750", "±0.004", "0.31 [0.22, 0.45]", "not fitted: 2 losses of 2 sizes",
                  "image seen", "2 positives", "biomedclip − rad-dino", "0.004"):  # fmt: skip
        assert words in page.text, words
    assert not re.search(r"<script|https?://(?!www\.w3\.org|matplotlib)|src=\"(?!data:)", text)
    assert text.count("<svg") == 1, "a curve where a series has an axis and two places on it"
    assert "synthetic" not in page.text.lower()


def test_only_clear_differences_stand_out(data):
    text = study_page(data)
    rows = re.findall(r"<tr( class=\"best\")?><th scope=\"row\">(\w+)</th><td>(?:fraction|biomedclip)", text)
    assert rows == [(' class="best"', "quantity"), ("", "encoders")]
    assert text.count("†") == 1


def test_the_best_is_bold_and_nothing_where_all_are_equal(data):
    assert study_page(data).count('class="value best"') == 3
    for one in data["conditions"]:
        for each in one["cells"]:
            each["value"] = 0.5
    assert study_page(data).count('class="value best"') == 0


def test_drawn_images_are_said_on_the_page(data):
    text = study_page(data | {"synthetic": True})
    assert 'class="banner"' in text
    assert text.count("synthetic data") >= 2
