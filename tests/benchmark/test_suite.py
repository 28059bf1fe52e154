"""Suites: shipped ones hold, own ones are checked, and a corpus without one gets its own."""

import numpy as np
import pandas as pd
import pytest
import yaml

from raddino.benchmark.cases import with_options
from raddino.benchmark.suite import derive_suite, load_suite, suite_names
from raddino.errors import ConfigError


@pytest.mark.parametrize("name", suite_names())
def test_shipped_suites_load(name):
    suite = with_options(load_suite(name), {})
    assert suite.description
    assert suite.tasks


def test_open_cxr_reports_the_view_as_a_confounder():
    task = next(task for task in load_suite("open-cxr").tasks if task.target == "view")
    assert "confounder" in task.name


def write(tmp_path, **values):
    task = {"name": "a", "target": "label_a", "kind": "binary"}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"tasks": [task, {**task, "name": "b"}], **values}), encoding="utf-8")
    return path


def test_own_suite(tmp_path):
    suite = load_suite(write(tmp_path, macro={"mean": ["a", "b"]}, probe={"features": "both", "seeds": 2}))
    assert suite.probe.seeds == 2
    assert suite.macro == {"mean": ("a", "b")}


def test_the_suites_query_holds_for_every_task(tmp_path):
    task = {"target": "t", "kind": "binary"}
    tasks = [task | {"name": "a"}, task | {"name": "b", "where": "x > 1"}]
    suite = load_suite(write(tmp_path, tasks=tasks, where="source == 'nih'"))
    assert [task.where for task in suite.tasks] == ["source == 'nih'", "(source == 'nih') and (x > 1)"]


def test_public_sets_are_measured_on_their_own_images_only():
    from raddino.corpus.sources import SOURCES

    restricted = [suite for suite in map(load_suite, suite_names()) if "source" in (suite.where or "")]
    assert len(restricted) >= 9
    for suite in restricted:
        assert suite.where.split("'")[1] in SOURCES
        assert all(suite.where in task.where for task in suite.tasks)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": []}, "Did you mean 'tasks'"),
        ({"macro": {"mean": ["a", "c"]}}, "averages 'c'"),
        ({"macro": {"a": ["a", "b"]}}, "used twice"),
        ({"macro": {"mean": ["a", "a", "b"]}}, "names a task twice"),
        ({"tasks": [{"name": "x" * 3000, "target": "t", "kind": "binary"}]}, "name"),
        ({"tasks": [{"name": "", "target": "t", "kind": "binary"}]}, "name"),
        ({"tasks": [{"name": "a", "target": "t", "kind": "binary"}] * 2}, "used twice"),
        ({"tasks": [{"name": "a", "target": "t", "kind": "ordinal"}]}, "kind"),
        ({"probe": {"learning_rates": []}}, "learning_rates"),
    ],
)
def test_mistakes_are_one_line(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_suite(write(tmp_path, **values))
    assert "\n" not in str(error.value)


def test_unknown_and_missing_suites(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'open-cxr'"):
        load_suite("open_cxr")
    with pytest.raises(ConfigError, match="does not exist"):
        load_suite(tmp_path / "none.yaml")


MANIFEST = pd.DataFrame(
    {
        "id": ["a", "b", "c", "d"],
        "view": ["AP", "PA", "AP", None],
        "sex": ["M", "F", None, "M"],
        "age": [40.0, 50, 60, np.nan],
        "bmi": np.nan,
        "grade": [1.0, 2, 3, 4],
        "label_edema": [0.0, 1, np.nan, 0],
        "label_mass": [1.0, 1, 0, 0],
    }
)


def test_a_corpus_gives_its_own_suite():
    suite = derive_suite(MANIFEST)
    kinds = {task.name: task.kind for task in suite.tasks}
    assert kinds == {"sex": "binary", "age": "regression", "edema": "binary", "mass": "binary"}
    assert suite.macro == {"all labels (macro)": ("edema", "mass")}


def test_targets_by_name():
    suite = derive_suite(MANIFEST, ["view=PA", "grade", "label_mass"])
    assert [(task.name, task.kind, task.positive) for task in suite.tasks] == [
        ("view", "binary", "PA"),
        ("grade", "regression", None),
        ("mass", "binary", None),
    ]
    assert derive_suite(MANIFEST, ["grade=3"]).tasks[0].positive == 3.0


def test_labels_have_short_names_and_one_task():
    assert derive_suite(MANIFEST, ["edema"]) == derive_suite(MANIFEST, ["label_edema"])
    assert [task.target for task in derive_suite(MANIFEST, ["mass", "label_mass", "age"]).tasks] == [
        "label_mass",
        "age",
    ]


def test_masks_and_places_are_never_suggested_for_labels():
    manifest = MANIFEST.assign(mask_heart="a:0:1", label_heart_size=0.0, sha256="0")
    with pytest.raises(ConfigError, match="'heart_size'"):
        derive_suite(manifest, ["haert_size"])
    with pytest.raises(ConfigError) as error:
        derive_suite(manifest, ["sha25"])
    assert "sha256" not in str(error.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("agee", "Did you mean 'age'"),
        ("edemma", "Did you mean 'edema'"),
        ("view", "view=AP"),
        ("grade=9", "no image has '9'"),
        ("view=ap", "no image has 'ap' in column 'view'. Did you mean 'AP'"),
        ("weight", "column 'weight'; then: raddino prepare"),
        ("fibrosis", "'label_fibrosis'; then: raddino prepare"),
        ("id", "'id' says what an image is called"),
        ("patient", "'patient' says what an image is called"),
        (
            "mask_lungs",
            r"needs masks \(column 'mask_lungs'\).*no such column.*--suite open-cxr-masks or synthetic-masks",
        ),
        ("lungs", r"needs masks \(column 'mask_lungs'\).*no such column.*raddino prepare"),
        (
            "report",
            r"needs report texts \(column 'report'\).*no such column",
        ),
        ("findings", r"needs report texts \(column 'report'\)"),
    ],
)
def test_targets_that_cannot_be(target, message):
    with pytest.raises(ConfigError, match=message):
        derive_suite(MANIFEST, [target])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("lungs", "kind segmentation: --suite open-cxr-masks or synthetic-masks; see docs/segmentation.md"),
        ("mask_spine", "kind segmentation: --suite SUITE.yaml; see"),
        ("spine", r"\(column 'mask_spine'\)"),
        ("mask_spin", "no such column. Did you mean 'mask_spine'"),
        ("report", "kind findings: --suite iu-xray-findings or"),
    ],
)
def test_masks_and_reports_say_which_suite_they_need(target, message):
    manifest = MANIFEST.assign(mask_lungs="a:0:1", mask_spine="a:0:1", report="No finding.")
    with pytest.raises(ConfigError, match=message) as error:
        derive_suite(manifest, [target])
    assert "No finding" not in str(error.value)
    assert "\n" not in str(error.value)
