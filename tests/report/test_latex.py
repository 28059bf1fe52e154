import shutil
import subprocess
from pathlib import Path

import pytest

from raddino.report.latex import HEAD_LETTERS, _head, escape, latex_table

HOSTILE = "50% of a_b & {c} $d$ #e ~f ^g \\input{x} <é> ² 漢\n"


def test_hostile_text_is_escaped() -> None:
    text = escape(HOSTILE)
    assert "\\input" not in text
    assert text.startswith(r"50\% of a\_b \& \{c\} \$d\$ \#e \textasciitilde{}f \textasciicircum{}g")
    assert "?" in text
    assert "\n" not in text


def test_structure_and_marks(metrics: dict) -> None:
    for row in metrics["rows"]:
        if row["encoder"] == "hog" and row["metric"] == "auroc":
            row["difference"]["p_holm"] = 0.01
    *tables, absent = latex_table(metrics).split(r"\begin{table}")[1:]
    assert len(tables) == 4
    by_metric = dict(zip(("auroc", "auprc", "mae", "r2"), tables, strict=True))
    for metric, table in by_metric.items():
        tasks = 2 if metric in ("auroc", "auprc") else 1
        assert rf"\begin{{tabular}}{{l{'c' * tasks}}}" in table
        body = [line for line in table.splitlines() if "&" in line and line.endswith(r"\\")]
        assert {line.count("&") for line in body} == {tasks}
        assert table.count(r"\textbf{") == table.count(r"\underline{") == tasks
        assert table.count(r"^\dagger$") == (2 if metric == "auroc" else 0)
        assert "Synthetic radiographs" in table
        for row in (row for row in metrics["rows"] if row["metric"] == metric):
            digits = f"{abs(row['value']):.3f}" if metric != "mae" else f"{row['value']:#.3g}"
            assert any(line.startswith(row["encoder"]) and digits in line for line in body)
        counts = {line.split("&")[0].split()[1]: line for line in body if line.startswith(r"\scriptsize ")}
        assert all("120" in cell for cell in counts["$n$"].split("&")[1:])
        assert ("positives" in counts) == ("prevalence" in counts) == (tasks == 2)
    assert "differs from trained" in by_metric["auroc"]
    assert "lower is better" in by_metric["mae"]
    assert "no positives in the test split" in absent


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a b", ["a b"]), ("abcde fghij", ["abcde fghij"]), ("abcde fghijk", ["abcde", "fghijk"]),
        ("pleural effusion of the left side", ["pleural", "effusion of", "the left", "side"]),
        ("cardiomegalomania", ["cardiomegalomania"]),
    ],
)  # fmt: skip
def test_a_name_is_broken_where_a_line_is_full(name: str, lines: list[str]) -> None:
    assert all(len(line) <= HEAD_LETTERS or " " not in line for line in lines)
    assert _head(name) == rf"\shortstack{{{(chr(92) * 2).join(lines)}}}"


def test_no_rows_and_many(metrics: dict) -> None:
    nothing = latex_table(metrics | {"rows": []})
    assert nothing.count(r"\begin{table}") == 1
    assert "Not measured" in nothing
    many = [row | {"task": f"{row['task']} {i}"} for i in range(9) for row in metrics["rows"]]
    tables = latex_table(metrics | {"rows": many, "tasks": [], "absent": []}).split(r"\begin{table}")[1:]
    assert len(tables) == 2 * 3 + 2 * 2
    assert all("c" * 7 not in table for table in tables)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_it_compiles(metrics: dict, tmp_path: Path) -> None:
    for row in metrics["rows"]:
        row["encoder"] = row["encoder"] + HOSTILE
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}%s\end{document}"
    (tmp_path / "t.tex").write_text(document % latex_table(metrics), encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
