"""The report's section on labels that out-of-fold probes contradict."""

from __future__ import annotations

from typing import Any

from raddino.report.analysis_figures import Row
from raddino.report.analysis_parts import Page, Section, Table, by, cell_of, left_out_of, measured

READS = (
    "A probe that saw neither the image nor another of its patient is confident in a class where its probability is at "
    "least the mean probability of that class over the images that carry it; a label is suspect where the most "
    "probable confident class is another (confident learning, Northcutt et al. 2021). All labelled images are judged, "
    "of training, validation and test. Suspect is not wrong: a weak probe doubts hard images, and several encoders "
    "that agree say more than one. Images are named as in the corpus, by keyed hashes."
)
SHOWN = 25


def label_noise_section(page: Page, rows: list[Row]) -> Section:
    """Shares of suspect labels, and the most suspect images of each task, by agreement of encoders and margin."""
    section = Section("label_noise", "Suspect labels", READS, left_out=left_out_of(rows, lambda row: row["task"]))
    shares = [row for row in measured(rows) if row["role"] == "share"]
    lines = []
    for task, own in by(shares, "task").items():
        for name, mine in by(own, "encoder").items():
            whole, *classes = sorted(mine, key=lambda row: row.get("group") is not None)
            parts = ", ".join(f"{row['suspects']} of {row['n']} “{row['group']}”" for row in classes)
            lines.append(
                (
                    task,
                    [(name, ""), (f"{whole['suspects']} of {whole['n']}", _most(whole)), cell_of(whole), (parts, "")],
                )
            )
    head = ["Encoder", "suspect labels", "share", "by label"]
    if lines:
        section.tables.append(Table("Suspect labels", head, lines))
    suspects = [row for row in rows if row["role"] == "suspect"]
    for task, own in by(suspects, "task").items():
        best = sorted(own, key=lambda row: (-row["agree"], -row["value"], row["id"]))
        first = list({row["id"]: row for row in reversed(best)}.values())[::-1][:SHOWN]
        listed = [
            (row["id"], [(row["given"], ""), (row["suggested"], ""), (f"{row['value']:.2f}", row["encoder"]),
                         (str(row["agree"]), ""), (row["split"], row["source"])])
            for row in first
        ]  # fmt: skip
        head = ["label", "suggested", "margin", "encoders", "split"]
        section.tables.append(Table(f"{task}: the most suspect", head, listed, folded=True))
    return section


def label_noise_lines(metrics: dict[str, Any]) -> list[str]:
    """Numbers of suspect labels, for the terminal."""
    rows = measured((metrics.get("analyses") or {}).get("label_noise") or [])
    shares = [row for row in rows if row["role"] == "share" and row.get("group") is None]
    lines = []
    for task, own in by(shares, "task").items():
        said = [
            f"{row['encoder']} {row['suspects']} of {row['n']}{f' ({_most(row)})' if _most(row) else ''}" for row in own
        ]
        lines.append(f"{task}: {', '.join(said)}")
    return ["", "suspect labels, with the 95 % interval", *lines] if lines else []


def _most(row: Row) -> str:
    fewest, most = row.get("fewest"), row.get("most")
    known = fewest is not None and most is not None and fewest == fewest and most == most
    return f"{fewest:.0f} to {most:.0f}" if known else ""
