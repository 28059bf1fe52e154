"""Sections of analyses from real rows of invented outputs: words, figures, tables, and the page around them."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis_context import AGE, SEX, X, Y, context_of, invented
from raddino.benchmark.analyses import (
    calibration,
    confounders,
    consistency,
    decision_curves,
    label_efficiency,
    label_noise,
    retrieval,
    site_ranks,
    subgroups,
)
from raddino.benchmark.results import _plain
from raddino.report.analyses import SECTIONS, sections
from raddino.report.html import report

from .fabricated import fabricate_metrics, fabricate_predictions, write_results

NAMES = ("trained", "hog")


@pytest.fixture(scope="module")
def analyses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Rows as ``metrics.json`` holds them, NaN as null; "trained" reads the view, and x follows the view."""
    manifest, draw = invented(180), np.random.default_rng(0)
    portable = (manifest["view"] == "AP").to_numpy()
    manifest["label_x"] = (draw.random(len(manifest)) < np.where(portable, 0.85, 0.15)).astype(float)
    noise = draw.normal(size=len(manifest))
    outputs = {
        "trained": {"x": portable + 0.2 * noise, "y": noise, "age": manifest["age"] + noise, "sex": noise},
        "hog": {"x": manifest["label_x"] + 0.8 * noise, "y": -noise, "age": manifest["age"] + 9 * noise, "sex": noise},
    }
    features = {"trained": np.stack([portable, noise], 1), "hog": draw.normal(size=(len(manifest), 3))}
    context = context_of(
        manifest, outputs, [X, Y, AGE, SEX], tmp_path_factory.mktemp("corpus"), features=features,
        macro={"mean": ("x", "y")},
    )  # fmt: skip
    far = invented(180, seed=1)
    tasks = [one.model_copy(update={"name": f"{one.name} at clinic"}) for one in (X, AGE)]
    elsewhere = {
        "trained": {"x at clinic": noise, "age at clinic": far["age"] + noise},
        "hog": {"x at clinic": 2 * far["label_x"] + noise - 3, "age at clinic": far["age"] + 9 * noise},
    }
    clinic = context_of(far, elsewhere, tasks, tmp_path_factory.mktemp("clinic"))
    context = replace(context, sites={"clinic": clinic})
    modules = (
        calibration, confounders, consistency, decision_curves, label_efficiency, label_noise, retrieval, site_ranks,
        subgroups,
    )  # fmt: skip
    found = {module.__name__.rpartition(".")[2]: module for module in modules}
    rows = {name: getattr(module, name)(context) for name, module in found.items()}
    rows |= {"operating_points": decision_curves.operating_points(context), "robustness": damage()}
    return json.loads(json.dumps(_plain(rows), allow_nan=False))


def damage() -> list[dict[str, Any]]:
    """Rows as ``robustness`` gives them."""
    rows = []
    for i, name in enumerate(NAMES):
        for kind, level, severity in (("clean", None, 0), ("noise", 0.02, 1), ("noise", 0.05, 2), ("noise", 0.1, 3)):
            drop = 0.03 * severity * i
            for task, metric, value in (("x", "auroc", 0.8 - drop), ("features", "cosine", 1 - drop)):
                if task == "features" and not severity:
                    continue
                rows.append({
                    "encoder": name, "task": task, "metric": metric, "value": value, "low": value - 0.02,
                    "high": value + 0.02, "n": 50, "corruption": kind, "severity": severity, "level": level,
                    "unit": "share", "aggregate": False, "drop": drop, "drop_low": drop - 0.01,
                    "drop_high": drop + 0.01, "signature": "made up",
                })  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def made(analyses: dict[str, Any]) -> dict[str, Any]:
    metrics = {"encoders": [{"name": name} for name in NAMES], "analyses": analyses}
    return {section.key: section for section in sections(metrics, "synthetic data")}


def test_every_analysis_has_a_section_with_something_in_it(made: dict[str, Any]) -> None:
    assert list(made) == list(SECTIONS)
    for section in made.values():
        assert section.panels or section.pairs or section.tables
        for figure in [*section.panels, *(one for pair in section.pairs.values() for one in pair)]:
            assert figure.svg.startswith("<svg")
            assert "synthetic data" in figure.svg
        for table in section.tables:
            assert table.lines
            assert all(len(cells) == len(table.head) for _, cells in table.lines)


def test_tables_hold_the_rows(made: dict[str, Any], analyses: dict[str, Any]) -> None:
    (row,) = [
        row for row in analyses["retrieval"]
        if (row["task"], row["encoder"], row["metric"]) == ("x", "trained", "precision@5")
    ]  # fmt: skip
    cells = dict(made["retrieval"].tables[0].lines)["x"]
    assert cells[1] == (f"{row['value']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}")
    assert cells[0] == (f"({row['chance']:.3f})", f"n = {row['n']}")


def test_words_say_what_was_planted(made: dict[str, Any]) -> None:
    over = made["site_ranks"].words
    assert over[0].startswith("x: no ranking holds over sites: trained leads inside, but hog at clinic (clearly, ")
    assert over[1] == "age: trained leads at all places, in 100 % of draws."
    assert made["calibration"].words[0].startswith("x at clinic, hog: risks are too low on the whole")
    confounded = " ".join(made["confounders"].words)
    assert "Features tell the view with AUROC trained 1.000" in confounded
    assert "The view alone predicts x" in confounded
    assert "x, trained: AUROC" in confounded
    assert "within view" in confounded
    assert "y, trained: AUROC" not in confounded
    robust = made["robustness"].words
    assert robust[0] == "trained is not clearly worse under any damage."
    assert robust[1].startswith("hog loses most under noise 0.1 (share): AUROC worse by 0.090")
    assert made["subgroups"].words


def test_what_is_suppressed_is_listed(made: dict[str, Any]) -> None:
    words = " ".join(made["subgroups"].left_out)
    assert "age band" in words
    assert "Fewer than 20 patients" in words


def test_rows_without_values_make_sections_without_figures() -> None:
    nothing = ("metric", "value", "low", "high", "n", "pairs", "fraction", "corruption", "severity")
    lost = dict.fromkeys(nothing) | {
        "encoder": "hog", "task": "x", "reason": "weights walked away", "attribute": "sex", "group": "F",
        "role": "suppressed", "confounder": "view", "gallery": "test",
    }  # fmt: skip
    metrics = {"encoders": [{"name": "hog"}], "analyses": {name: [dict(lost)] for name in SECTIONS}}
    found = sections(metrics)
    assert [section.key for section in found] == list(SECTIONS)
    for section in found:
        assert not section.panels
        assert not any(table.lines for table in section.tables)
        assert section.key == "calibration" or "weights walked away" in " ".join(section.left_out).lower()
    assert sections({"encoders": [], "analyses": {}}) == sections({}) == []


def test_groups_that_are_all_too_small_are_said_in_one_line() -> None:
    row = {"encoder": None, "metric": None, "value": None, "role": "suppressed", "attribute": "sex"}
    lost = [
        row | {"task": task, "group": group, "reason": reason}
        for task in ("x", "y") for group, reason in (("F", "fewer than 20 patients"), ("M", "fewer than 10 positives"))
    ]  # fmt: skip
    lost.append(row | {"task": "x", "group": "other", "reason": "fewer than 20 patients"})
    (section,) = sections({"encoders": [{"name": "hog"}], "analyses": {"subgroups": lost}})
    assert section.words == [
        "No two groups are large enough to be compared: fewer than 20 patients; fewer than 10 positives."
    ]
    assert section.left_out == [
        "Fewer than 20 patients: sex F (all tasks); sex other (x)", "Fewer than 10 positives: sex M (all tasks)"
    ]  # fmt: skip


def test_many_encoders_get_a_reliability_diagram_each() -> None:
    names = list("abcde")
    bins = [
        {"encoder": name, "task": "x", "metric": "share", "role": "bin", "scaled": scaled, "predicted": p, "value": p,
         "low": p, "high": p, "n": 9, "signature": ""}
        for name in names for scaled in (False, True) for p in (0.2, 0.7)
    ]  # fmt: skip
    for shown, titles in ((names, names), (names[:3], ["As predicted", "With temperature"])):
        rows = [row for row in bins if row["encoder"] in shown]
        (section,) = sections({"encoders": [{"name": name} for name in shown], "analyses": {"calibration": rows}})
        assert [figure.title for figure in section.pairs["x"]] == titles


def test_unknown_analyses_are_left_to_others() -> None:
    assert sections({"encoders": [], "analyses": {"contamination": [{"value": 1}]}}) == []


class Anchors(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.ids += [found["id"]] if tag == "section" else []
        self.links += [found["href"]] if tag == "a" else []


def test_the_page_shows_them(tmp_path: Path, analyses: dict[str, Any]) -> None:
    predictions = fabricate_predictions()
    metrics = fabricate_metrics(predictions) | {"analyses": analyses}
    page = Anchors(report(write_results(tmp_path, metrics, predictions)).read_text(encoding="utf-8"))
    assert set(SECTIONS) <= set(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert f"#{next(iter(SECTIONS))}" in page.links
    assert "script" not in page.tags
