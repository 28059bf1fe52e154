"""``metrics.json`` of anyone: whole ones pass, damaged ones are one line that names the file."""

import copy
import json

import pytest
import yaml

from memory_corpus import toy_corpus
from raddino.benchmark.evaluate import evaluate
from raddino.benchmark.schema import check_metrics
from raddino.encoders.floors import HOG, PixelPCA
from raddino.errors import RaddinoError
from raddino.report import analysis_parts, html
from raddino.report.html import report
from raddino.report.latex import latex_table
from raddino.report.terminal import text_table

TASKS = [
    {"name": "left", "target": "label_left", "kind": "binary"},
    {"name": "noise", "target": "label_noise", "kind": "binary"},
    {"name": "age", "target": "age", "kind": "regression"},
]
ODD = (None, "word", -1.5, ["x"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("schema")
    corpus = toy_corpus(place / "corpus")
    plan = {
        "tasks": TASKS, "macro": {"mean": ["left", "noise"]},
        "analyses": ["subgroups", "calibration", "retrieval", "confounders"],
        "probe": {"seeds": 2, "steps": 20, "learning_rates": [0.1], "weight_decays": [0.01]},
    }  # fmt: skip
    (place / "suite.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    evaluate(corpus, [PixelPCA(8, 6), HOG(24, 8)], suite=place / "suite.yaml", out=place / "r", resamples=20)
    return place / "r"


def places(value, path=()):
    """One path to each entry that has a meaning of its own: of lists, the first item of each shape."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield (*path, key)
            yield from places(one, (*path, key))
    if isinstance(value, list):
        shapes = set()
        for number, one in enumerate(value):
            shape = json.dumps([one.get("role"), one.get("value") is None]) if isinstance(one, dict) else ""
            if shape not in shapes:
                shapes.add(shape)
                yield from places(one, (*path, number))


def few(rows):
    """The first row of each role, with a value and without."""
    return list({(row.get("role"), row["value"] is None): row for row in reversed(rows)}.values())


def damaged(data, path, change):
    data = copy.deepcopy(data)
    *above, last = path
    held = data
    for step in above:
        held = held[step]
    change(held, last)
    return data


def test_whatever_passes_can_be_shown(folder, tmp_path, monkeypatch):
    """Each entry is taken out, and replaced by four odd values: one line that names the file, or a report."""
    drawn = lambda *_, **__: ""  # noqa: E731
    monkeypatch.setattr(analysis_parts, "svg", drawn)
    monkeypatch.setattr(html, "svg", drawn)
    data = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    data.pop("seal", None)
    check_metrics(data, "x/metrics.json", "evaluate again")
    data["analyses"] = {name: few(rows) for name, rows in data["analyses"].items()}
    refused = shown = 0
    file = tmp_path / "metrics.json"
    for path in places(data):
        changes = [lambda held, key: held.pop(key)]
        changes += [lambda held, key, odd=odd: held.update({key: odd}) for odd in ODD]
        for change in changes if path[0] in ("analyses", "rows", "tasks", "corpus", "encoders", "suite") else ():
            broken = damaged(data, path, change)
            try:
                check_metrics(broken, str(file), "evaluate again")
            except RaddinoError as error:
                said = str(error)
            else:
                said = ""
            if said:
                assert said.startswith(str(file))
                assert "\n" not in said
                refused += 1
                continue
            file.write_text(json.dumps(broken), encoding="utf-8")
            text_table(broken)
            latex_table(broken)
            if path[0] == "analyses":
                html.sections(broken)
            if shown % 400 == 0:
                report(tmp_path)
            shown += 1
    assert refused > 100
    assert shown > 100
