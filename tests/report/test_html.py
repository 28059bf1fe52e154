import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from raddino.benchmark.contamination import MEANING
from raddino.encoders.base import Provenance
from raddino.errors import RaddinoError
from raddino.report.html import report, worth_showing
from raddino.report.tables import blocks, interval_rule
from raddino.report.terminal import text_table

from .fabricated import (
    FAKES,
    FakeCorpus,
    fabricate_metrics,
    fabricate_predictions,
    log_lines,
    write_results,
    write_run,
)

VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """Balanced tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a report of everything there is."""
    place, predictions = tmp_path_factory.mktemp("whole"), fabricate_predictions()
    write_results(place, fabricate_metrics(predictions), predictions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raddino.encoders.load.load_encoder", lambda spec: FAKES[spec]())
        report(place, run=write_run(place / "run", log_lines()), corpus=FakeCorpus(path=place), encoder="fake")
    return place


@pytest.fixture(scope="module")
def whole(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_what_was_left_out_is_shown_and_escaped(whole: str) -> None:
    text = Page(whole).text
    assert "What was left out 7 left out file not found <b> 3 with a note all pixels are equal" in text
    assert "2 rows left out by where & more" in text
    assert "50 of 178 images of ward <x>" in text


def test_one_closed_file_with_every_section(whole: str, folder: Path) -> None:
    page = Page(whole)
    ids = [value for _, name, value in page.attributes if name == "id"]
    sections = {"table", "ranking", "training", "features", "neighbours", "provenance", "limits"}
    assert sections <= set(ids)
    links = {value for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert links == {f"#{section}" for section in sections}
    assert "svg" in page.tags
    assert "img" in page.tags
    assert len(whole) < 6e6
    assert (folder / "table.tex").read_text(encoding="utf-8").count(r"\begin{tabular}") == 5


def test_nothing_is_loaded_from_anywhere(whole: str) -> None:
    page = Page(whole)
    assert not {"script", "iframe", "link", "object", "embed"} & set(page.tags)
    for _, name, value in page.attributes:
        if name in {"src", "href", "xlink:href", "action", "data", "poster", "srcset"}:
            assert value.startswith(("data:", "#"))
        assert not name.startswith("on")
    assert not re.search(r"@import|url\((?!#)", whole)
    assert "default-src 'none'" in whole


def test_values_intervals_and_counts_are_those_of_metrics_json(whole: str, metrics: dict) -> None:
    text = Page(whole).text
    for block in blocks(metrics):
        for line in block.lines:
            for cell in line.cells:
                if cell:
                    assert f"{cell.text} {cell.spread} {cell.interval}" in text
        if block.positives is not None:
            assert f"{block.positives} positive ({100 * block.prevalence:.0f} %)" in text
    for row in metrics["rows"]:
        assert f"{row['value']:.4f}" in text
    assert "weights not provided" in text
    assert "Nodule no positives in the test split" in text


def test_no_identifier_path_or_machine_is_written(whole: str) -> None:
    for private in ("secret-", "person-", "somebody", "/home", "ward-7"):
        assert private not in whole


@pytest.mark.parametrize(
    ("said", "words"),
    [(True, "Synthetic data: the"), ("mixed", "Partly synthetic data: some"), (False, None)],
)
def test_synthetic_data_says_so(results: Path, metrics: dict, said: bool | str, words: str | None) -> None:
    (results / "metrics.json").write_text(json.dumps(metrics | {"synthetic": said}), encoding="utf-8")
    whole = report(results).read_text(encoding="utf-8")
    assert ("synthetic data</text>" in whole) == bool(said)
    assert ('class="banner"' in whole) == bool(said)
    assert words is None or words in whole


def test_a_synthetic_corpus_marks_a_report_of_real_results(results: Path, metrics: dict, corpus: FakeCorpus) -> None:
    (results / "metrics.json").write_text(json.dumps(metrics | {"synthetic": False}), encoding="utf-8")
    assert "Partly synthetic" in report(results, corpus=corpus, encoder="floor").read_text(encoding="utf-8")


def test_hostile_names_stay_text(tmp_path: Path, metrics: dict, predictions: pd.DataFrame, corpus: FakeCorpus) -> None:
    evil = "<script>alert(1)</script><img src=http://x/y onerror=z>\"'&$x$"
    text = json.dumps(metrics).replace('"Pneumonia"', json.dumps(evil)).replace('"hog"', json.dumps(evil))
    changed = json.loads(text)
    changed["encoders"][0]["provenance"]["note"] = changed["absent"][0]["reason"] = evil
    changed["corpus"]["name"] = evil
    changed["corpus"]["sources"] = {evil: 3}
    swapped = predictions.replace({"task": {"Pneumonia": evil}, "encoder": {"hog": evil}})
    corpus.manifest["sex"] = evil
    corpus.manifest["view"] = evil
    whole = report(write_results(tmp_path, changed, swapped), corpus=corpus, encoder="fake").read_text(encoding="utf-8")
    page = Page(whole)
    assert "script" not in page.tags
    assert not any(name.startswith("on") or "http" in value for _, name, value in page.attributes if name == "src")
    assert not any(name == "onerror" for _, name, _ in page.attributes)
    assert evil in page.text


def test_missing_pieces_leave_a_sentence(results: Path) -> None:
    (results / "predictions.parquet").unlink()
    text = Page(report(results).read_text(encoding="utf-8")).text
    assert "no predictions to draw curves from" in text
    assert "No pre-training run was given" in text
    assert text.count("No corpus was given") == 2


def test_no_encoder_no_patches_and_credentialed_images(results: Path, corpus: FakeCorpus) -> None:
    assert "No encoder was given" in report(results, corpus=corpus).read_text(encoding="utf-8")
    floor = report(results, corpus=corpus, encoder="floor").read_text(encoding="utf-8")
    assert "initial has no patch features to show." in floor
    assert "Nearest neighbours" in floor
    corpus.manifest["source"] = "mimic-cxr"
    closed = report(results, corpus=corpus, encoder="fake").read_text(encoding="utf-8")
    assert "credentialed" in closed
    assert "<img" not in closed


def test_the_galleries_show_an_encoder_that_has_something_to_show() -> None:
    known = [("unet", 0, None), ("hog", 9, None), ("vit", 9, (2, 2)), ("lost", 9, (2, 2))]
    unet, hog, vit, lost = ({"name": name, "dim": dim, "grid": grid} for name, dim, grid in known)
    rows = [{"encoder": one["name"]} for one in (unet, hog, vit)]
    for asked, shown in [([hog, lost, vit], "VIT"), ([unet, hog, lost], "HOG"), ([unet, lost], None), ([], None)]:
        specs = [one["name"].upper() for one in asked]
        assert worth_showing(specs, {"rows": rows, "encoders": [*asked, vit]}) == shown


def test_the_rule_of_intervals_names_a_scale_only_where_all_have_it(results: Path, metrics: dict) -> None:
    for row in metrics["rows"]:
        row["interval"] = "patient bootstrap, t, scale " + ("log" if row["metric"] == "mae" else "logit")
    (results / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert (
        "(patient bootstrap, t, on the scale of each metric, " in Page(report(results).read_text(encoding="utf-8")).text
    )
    metrics["rows"] = [row for row in metrics["rows"] if row["metric"] == "mae"]
    (results / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    shares = [row | {"interval": "patient bootstrap, normal, scale logit of a share"} for row in metrics["rows"]]
    both = {"rows": metrics["rows"] + shares}
    assert interval_rule(both) == "patient bootstrap, t or patient bootstrap, normal, on the scale of each metric"
    assert "(patient bootstrap, t, scale log, " in Page(report(results).read_text(encoding="utf-8")).text


def test_results_without_any_row(tmp_path: Path) -> None:
    bare = {"format": 1, "rows": [], "absent": [{"task": "Sex", "encoder": None, "reason": "no such column"}]}
    text = Page(report(write_results(tmp_path, bare, None)).read_text(encoding="utf-8")).text
    assert "Nothing could be measured" in text
    assert "no such column" in text


def test_what_was_seen_is_said_with_its_meaning_and_reference(tmp_path: Path) -> None:
    web = Provenance(["lvd-142m"], "self-supervised", reference="Oquab et al. <2023>")
    record = Provenance(["nih"], "self-supervised", before=[web, Provenance(sources=None)]).to_dict()
    told = {"name": "ours", "provenance": record, "contamination": {"nih": "declared held out", "rsna": "partly seen"}}
    bare = {"format": 1, "rows": [], "absent": [], "corpus": {"sources": {"nih": 5, "rsna": 7}}}
    page = Page(
        report(write_results(tmp_path, bare | {"encoders": [told | {"seen": "partly seen"}]}, None)).read_text(
            encoding="utf-8"
        )
    )
    assert "lvd-142m, nih; before: unknown (Oquab et al. <2023>)" in page.text
    for word in ("declared held out", "partly seen"):
        assert f"{word} : {MEANING[word]}" in page.text
        assert ("td", "title", MEANING[word]) in page.attributes
    assert MEANING["label seen"] not in page.text
    warned = [
        i for i, (tag, name, value) in enumerate(page.attributes) if (tag, name, value) == ("td", "class", "warned")
    ]
    assert [page.attributes[i + 1][2] for i in warned] == [MEANING["partly seen"]]


def test_how_many_test_images_were_recognised_stands_beside_the_word(tmp_path: Path) -> None:
    counts = {"nih": {"images": 30, "seen": 4}, "rsna": {"images": 9, "seen": 0}}
    told = {"name": "ours", "contamination": {"nih": "recognised", "rsna": "clean"}, "recognised": counts}
    bare = {"format": 1, "rows": [], "absent": [], "corpus": {"sources": {"nih": 5, "rsna": 7}}}
    written = write_results(tmp_path, bare | {"encoders": [told | {"seen": "recognised"}]}, None)
    text = Page(report(written).read_text(encoding="utf-8")).text
    assert "recognised (4 of 30 by content)" in text
    assert "of 9 by content" not in text
    assert f"recognised : {MEANING['recognised']}" in text
    said = "ours was trained on test images themselves, known by their pixels: 4 of 30 of nih."
    assert f"warning: {said}" in text_table(bare | {"encoders": [told | {"seen": "recognised"}]})
    assert "known by their pixels" not in text_table(
        bare | {"encoders": [told | {"recognised": None, "seen": "clean"}]}
    )


def test_out_and_errors(results: Path, tmp_path: Path) -> None:
    out = report(results, out=tmp_path / "page.html")
    assert out == tmp_path / "page.html"
    assert (tmp_path / "table.tex").is_file()
    with pytest.raises(RaddinoError, match=r"metrics\.jsonl"):
        report(results, run=tmp_path)
    shutil.rmtree(results)
    with pytest.raises(RaddinoError, match=r"metrics\.json "):
        report(results)


def test_places_may_be_words(results: Path, run: Path) -> None:
    other = results / "other.html"
    assert report(str(results), run=str(run), out=str(other)) == other
    assert other.is_file()
