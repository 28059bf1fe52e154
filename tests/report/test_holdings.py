"""The part of the page and the terminal lines say what the tables say; nothing fails on a bare archive."""

import re
import sys

import numpy as np
import pandas as pd
import pytest

from packed_corpus import pack
from raddino.files import read_json
from raddino.inspection.drift import Told
from raddino.inspection.holdings import holdings
from raddino.report.holdings import MOST_SAID, holdings_part, holdings_text

WORDS = re.compile(r"<(?:text|tspan)[^>]*>([^<]+)<|<!-- (.+?) -->")


def told(one: str = "a", auroc: float = 0.9, low: float = 0.8, kind: str = "image size") -> Told:
    inputs = ((kind, "aspect", 0.91), ("facts", "age", 0.6))
    return Told("source", one, "b", kind, 40, 20, auroc, low, min(1.0, auroc + 0.05), inputs)


def archive(sources: int = 2, **columns) -> pd.DataFrame:
    n = 40 * sources
    frame = pd.DataFrame({
        "patient": [f"p{row // 2}" for row in range(n)], "source": [f"site{row % sources}" for row in range(n)],
        "split": "train", "height": 60, "width": 80, "length": 2**20,
        "sex": ["F", "F", "M", None] * (n // 4), "age": [20.0, 30, 95, np.nan] * (n // 4),
        "label_mass": [1.0, 0.0] * (n // 2), "label_edema": 0.0,
    })  # fmt: skip
    return frame.assign(**columns)


def greys(n: int) -> dict[str, pd.DataFrame]:
    even = {"mean": 0.5, "std": 0.1, "entropy": 5.0}
    return {"intensity": pd.DataFrame([even | {"histogram": [1 / 32] * 32}] * n)}


def sheet(part, words: str):
    (found,) = [one for one in part.sheets if one.title.startswith(words)]
    return found


def test_tables_say_what_was_counted():
    frame = archive()
    part = holdings_part(holdings(frame, greys(len(frame))), [told()])
    by_source = sheet(part, "By source")
    assert by_source.columns[0] == "source"
    row = dict(zip(by_source.columns, by_source.rows[0], strict=True))
    assert (row["images"], row["MiB"], row["median size"], row["mean grey"]) == ("40", "40.0", "80 x 60", "0.50")
    assert "studies" not in row  # none is known
    labels = sheet(part, "Labels by source")
    assert labels.rows[0] == ["mass", "40 of 40 (100.0%)", "0 of 40 (0.0%)"]
    assert sheet(part, "Not known").rows[0][0] == "sex"
    told_sheet = sheet(part, "What tells groups apart")
    assert told_sheet.rows[0][:5] == ["a / b", "source", "image size", "0.90", "0.80 to 0.95"]
    assert told_sheet.strong == {0}


def test_each_table_is_as_wide_as_its_head():
    part = holdings_part(holdings(archive(3), greys(120)), [told()])
    assert all(len(row) == len(one.columns) for one in part.sheets for row in one.rows)


def test_figures_name_groups_and_are_stamped():
    frame = archive()
    part = holdings_part(holdings(frame, greys(len(frame))), [told()], "synthetic data")
    assert [one.title for one in part.figures] == [
        "Grey values by source", "Age and sex", "Labels by source", "What tells groups apart",
    ]  # fmt: skip
    for one in part.figures:
        words = {first or second for first, second in WORDS.findall(one.svg)}
        assert "synthetic data" in words
        assert {"site0", "site1"} <= words or "a / b" in words
    assert " 20 patients of unknown" in part.figures[1].caption


def test_ages_are_not_finer_than_the_tables():
    part = holdings_part(holdings(archive(sex="F", age=95.0)))
    assert sheet(part, "Numbers by source").rows[0][1].startswith("90+ (90+ to 90+)")
    assert "95" not in holdings_text(holdings(archive(sex="F", age=95.0)))


def test_the_terminal_has_a_few_lines():
    tables = holdings(archive())
    many = [told(f"a{n}", auroc=0.6 + n / 100, low=0.55) for n in range(MOST_SAID + 3)]
    lines = holdings_text(tables, [*many, told("no", auroc=0.5, low=0.4)]).splitlines()
    assert lines[0] == "holds 80 images of 40 patients: site0 40, site1 40"
    assert "women 50%" in lines[1]
    assert lines[-1].strip() == "3 more on the page"
    assert lines[2].strip().startswith(f"a{MOST_SAID + 2} and b")
    assert not any(line.strip().startswith("no and") for line in lines)


@pytest.mark.parametrize("columns", [{"sex": None}, {"age": np.nan}, {"label_mass": np.nan, "label_edema": np.nan}])
def test_what_is_not_known_is_left_out(columns):
    part = holdings_part(holdings(archive(1, **columns)))
    assert part.sheets
    assert part.said == []


def test_a_bare_archive():
    frame = archive()[["patient", "source", "split", "height", "width", "length"]].assign(split=None)
    part = holdings_part(holdings(frame))
    assert [one.title[:9] for one in part.sheets] == ["By source"]
    assert part.figures == []
    assert holdings_text(holdings(frame)).count("\n") == 0


def test_more_groups_than_colours_and_long_names():
    names = [f"the {n}th hospital of a very long name" for n in range(10)]
    frame = archive(10).assign(source=np.repeat(names, 40))
    part = holdings_part(holdings(frame, greys(len(frame))), [told(name) for name in names * 3])
    assert "3 more are in the table" in part.figures[0].caption
    assert "6 more lines are in the table" in part.figures[-1].caption
    assert len(sheet(part, "What tells").rows) == 30


def test_machines_and_years_get_tables_of_their_own():
    frame = archive(manufacturer=["A", "B"] * 40, year_band=["2015-2019", "2010-2014"] * 40, station="ab" * 10)
    part = holdings_part(holdings(frame, greys(len(frame))))
    titles = [one.title.split(" (")[0] for one in part.sheets]
    assert {"By manufacturer", "By station", "By year band", "Labels by manufacturer: positive of known"} <= set(titles)
    assert [row[0] for row in sheet(part, "By year band").rows] == ["2010-2014", "2015-2019"]
    assert "ab" * 10 not in str(part)


def test_command(tmp_path, capsys, monkeypatch):
    from raddino import cli

    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (64, 64 + n % 2), dtype=np.uint8) for n in range(60)]
    corpus = pack(tmp_path / "a", images, source=["<even>", "odd"] * 30, label_x=[1, 0, 0] * 20, split="train")

    def run(*words):
        checks = ["--check", "intensity", "--workers", "1", "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["raddino", "inspect", str(corpus.path), *checks, *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code

    assert run() == 0
    out = capsys.readouterr().out
    assert "holds 60 images of 60 patients: <even> 30, odd 30" in out
    assert "<even> and odd are told apart from image size alone (AUROC 1.00" in out
    data = read_json(tmp_path / "out/inspection.json", "again", sealed=True)
    assert [one["kind"] for one in data["drift"]] == ["image size", "grey values"]
    page = (tmp_path / "out/inspect.html").read_text(encoding="utf-8")
    assert "What the archive holds" in page
    assert "&lt;even&gt; and odd are told apart" in page
    assert "<even>" not in page
    assert not any(patient in page for patient in corpus.manifest["patient"])
    assert run("--no-drift") == 0
    assert "told apart" not in capsys.readouterr().out
    assert read_json(tmp_path / "out/inspection.json", "again", sealed=True)["drift"] is None
    assert run("--no-drift", "--drift-features") == 2
    assert "give one of them" in capsys.readouterr().err
