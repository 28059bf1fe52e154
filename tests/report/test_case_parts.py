import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raddino.report.case_parts import case_parts
from raddino.report.html import report
from raddino.report.latex import latex_table
from raddino.report.tables import blocks, sheets
from raddino.report.terminal import text_table

from .fabricated import FINDINGS, MaskedCorpus, add_case_tasks, only_case_tasks, write_models, write_results
from .test_html import Page


@pytest.fixture
def dense(metrics: dict) -> dict:
    return add_case_tasks(metrics)


@pytest.fixture
def masked(tmp_path: Path) -> MaskedCorpus:
    return MaskedCorpus(path=tmp_path)


@pytest.fixture
def place(tmp_path: Path, dense: dict, predictions: pd.DataFrame, masked: MaskedCorpus) -> Path:
    write_models(tmp_path, masked)
    return write_results(tmp_path, dense, predictions)


def test_leading_metrics_and_directions(dense: dict) -> None:
    found = {block.task: block for block in blocks(dense)}
    assert found["lungs"].metrics[0].key == "dice"
    assert found["findings text"].metrics[0].key == "rules_f1_14_micro"
    lungs = {kind.key: kind for kind in found["lungs"].metrics}
    assert not lungs["hd95"].higher_is_better
    assert not lungs["false_alarm_rate"].higher_is_better
    best = [[cell.best for cell in line.cells if cell] for line in found["lungs"].lines]
    assert best == [[True] * 4, [False] * 4]


def test_parts_hold_the_numbers_by_class_and_finding(place: Path, dense: dict, masked: MaskedCorpus) -> None:
    lungs, texts = case_parts(place, dense, blocks(dense), masked, "synthetic data")
    assert [one.encoder for one in lungs.shown] == ["trained", "initial"]
    assert [len(one.overlays) for one in lungs.shown] == [9, 9]
    assert [len(one.pairs["best"]) for one in texts.shown] == [6, 2]
    by_class = next(table for table in lungs.tables if "class" in table.caption)
    assert [name for name, _ in by_class.lines] == ["left lung", "right lung"]
    assert by_class.lines[0][1][0] == ("0.840", "0.798 to 0.882")
    by_finding = next(table for table in texts.tables if "each finding" in table.caption)
    assert [name for name, _ in by_finding.lines] == [name.replace("_", " ") for name in FINDINGS]
    written = next(table for table in texts.tables if table.caption.startswith("How it writes"))
    assert written.head == ["words", "words of the references", "repeated 4-grams", "copied from a training report"]
    assert texts.absent == [("RadGraph-ER", "weights not provided")]
    assert texts.settings == {"language_model": "tiny"}
    assert all("synthetic data" in figure.svg for part in (lungs, texts) for figure in part.figures)


def test_support_precision_and_recall_come_from_the_records(place: Path, dense: dict, masked: MaskedCorpus) -> None:
    pytest.importorskip("sacrebleu")
    from raddino.metrics.clinical import FINDINGS_14

    columns = {f"rules {side} ({name})": np.zeros(4) for side in ("reference", "hypothesis") for name in FINDINGS_14}
    columns["rules reference (edema)"] = np.array([1.0, 1, 0, 0])
    columns["rules hypothesis (edema)"] = np.array([1.0, 0, 1, np.nan])
    table = pd.DataFrame({"encoder": "trained", "id": list("abcd"), "patient": list("abcd"), **columns})
    (place / "cases").mkdir()
    from raddino.benchmark.cases import slug

    table.to_parquet(place / "cases" / f"{slug('findings text')}.parquet")
    _, texts = case_parts(place, dense, blocks(dense), masked, "")
    found = next(table for table in texts.tables if "trained" in table.caption)
    assert [text for text, _ in dict(found.lines)["edema"]] == ["2", "2", "0.500", "0.500", "0.500"]


def test_reasons_stand_where_no_case_can(place: Path, dense: dict, masked: MaskedCorpus) -> None:
    def missing(corpus: MaskedCorpus | None) -> set[str]:
        parts = case_parts(place, dense, blocks(dense), corpus, "")
        assert not any(part.shown for part in parts)
        return {sentence for part in parts for sentence in part.missing}

    assert missing(None) == {"No corpus was given to this report, so no case is shown."}
    masked.manifest["source"] = "mimic-cxr"
    assert missing(masked) == {"All images and texts come from credentialed sources, which are not shown."}
    masked.fingerprint = "ef" * 32
    assert "not the one that was measured" in missing(masked).pop()


def test_a_damaged_model_costs_its_own_cases_only(place: Path, dense: dict, masked: MaskedCorpus) -> None:
    (place / "models" / "findings-text" / "initial" / "reports.parquet").write_bytes(b"x")
    (place / "models" / "lungs" / "trained" / "shown" / "best-0.png").unlink()
    lungs, texts = case_parts(place, dense, blocks(dense), masked, "")
    assert [one.encoder for one in lungs.shown] == ["initial"]
    assert [one.encoder for one in texts.shown] == ["trained"]
    said = " ".join(lungs.missing + texts.missing)
    assert "missing or damaged" in said
    assert str(place) not in said


@pytest.mark.parametrize("model", ["/etc", "../elsewhere", "models/../../x"])
def test_models_outside_the_results_are_not_opened(place: Path, dense: dict, masked: MaskedCorpus, model: str) -> None:
    for row in dense["rows"]:
        if row["task"] == "lungs":
            row["detail"]["model"] = model
    lungs, _ = case_parts(place, dense, blocks(dense), masked, "")
    assert lungs.shown == []


def test_the_page_shows_cases_beside_probes(place: Path, masked: MaskedCorpus) -> None:
    whole = report(place, corpus=masked).read_text(encoding="utf-8")
    page = Page(whole)
    assert "#cases" in [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert "solid, true" in page.text
    assert "left lung" in page.text
    assert "✓" in page.text
    assert "copied from a training report" in page.text
    assert "4 encoders" in page.text.replace("encoders 4", "4 encoders")
    for private in ("secret-", "person-", "somebody", "/home"):
        assert private not in whole


def test_the_page_of_case_tasks_alone_has_no_curves(
    tmp_path: Path, dense: dict, predictions: pd.DataFrame, masked: MaskedCorpus
) -> None:
    alone = only_case_tasks(dense)
    both = pd.concat(
        [predictions, predictions[predictions["task"] == "Age"].assign(task="lungs"), ], ignore_index=True
    )  # fmt: skip
    write_models(tmp_path, masked)
    text = Page(report(write_results(tmp_path, alone, both), corpus=masked).read_text(encoding="utf-8")).text
    assert "trained leads on both tasks" in text
    assert "ROC" not in text
    assert "robes on frozen features" not in text
    assert "Settings of the probe" not in text
    assert "predicted against" not in text


def test_hostile_reports_stay_text(place: Path, masked: MaskedCorpus) -> None:
    evil = "<script>alert(1)</script><img src=http://x/y onerror=z> effusion."
    for file in place.glob("models/findings-text/*/reports.parquet"):
        pd.read_parquet(file).assign(hypothesis=evil, reference=evil).to_parquet(file)
    page = Page(report(place, corpus=masked).read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert not any(name.startswith("on") or "http" in value for _, name, value in page.attributes if name == "src")
    assert "alert(1)" in page.text


def test_tables_for_paper_and_terminal(dense: dict) -> None:
    tex = latex_table(only_case_tasks(dense))
    assert "Rule-based F1-14, micro, test images" in tex
    assert "Hausdorff-95 in pixels, lower is better" in tex
    assert [sheet.metric.key for sheet in sheets(blocks(only_case_tasks(dense)))][:2] == ["dice", "surface_dice"]
    text = text_table(json.loads(json.dumps(only_case_tasks(dense))))
    assert "trained (shuffled images)" in text
    assert "BLEU-4" in text
    assert max(map(len, text.splitlines())) < 160


def test_a_page_with_texts_is_open_to_its_owner_alone(place: Path, masked: MaskedCorpus) -> None:
    assert report(place, corpus=masked).stat().st_mode & 0o777 == 0o600
    assert report(place).stat().st_mode & 0o077 == 0o666 & 0o077 & ~_umask()


def _umask() -> int:
    os.umask(before := os.umask(0))
    return before
