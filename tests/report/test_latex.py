import shutil
import subprocess
from pathlib import Path

import pytest

from raddino.report.latex import escape, latex_table

HOSTILE = "50% of a_b & {c} $d$ #e ~f ^g \\input{x} <é> ² 漢\n"


def test_hostile_text_is_escaped() -> None:
    text = escape(HOSTILE)
    assert "\\input" not in text
    assert text.startswith(r"50\% of a\_b \& \{c\} \$d\$ \#e \textasciitilde{}f \textasciicircum{}g")
    assert "?" in text
    assert "\n" not in text


def test_structure_and_marks(metrics: dict) -> None:
    lines = latex_table(metrics).splitlines()
    assert lines.count(r"\toprule") == lines.count(r"\bottomrule") == 1
    body = [line for line in lines if "&" in line and line.endswith(r"\\")]
    assert {line.count("&") - line.count(r"\&") for line in body} == {2}
    assert sum(line.count(r"\textbf{") for line in lines) == 6
    assert sum(line.count(r"\underline{") for line in lines) == 6
    for row in metrics["rows"]:
        digits = f"{abs(row['value']):.3f}" if row["metric"] != "mae" else f"{row['value']:#.3g}"
        assert any(row["encoder"] in line and digits in line for line in body)
    assert any("Synthetic radiographs" in line for line in lines)
    assert any("no positives in the test split" in line for line in lines)


def test_no_rows_and_many(metrics: dict) -> None:
    assert r"\begin{tabular}{l}" in latex_table(metrics | {"rows": []})
    many = [row | {"task": f"{row['task']} {i}"} for i in range(9) for row in metrics["rows"]]
    tables = latex_table(metrics | {"rows": many}).split(r"\begin{table}")[1:]
    assert len(tables) > 2
    assert all(table.count("\n") < 60 for table in tables)
    assert sum("Synthetic radiographs. Continued." in table for table in tables) == len(tables) - 1


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
