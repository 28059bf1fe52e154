"""The account of an audit: a table for people, JSON or CSV for machines."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raddino.audit.audit import Audit, Finding
from raddino.files import draft_of, owner_only


def audit_text(done: Audit) -> str:
    """What a person wants to know: a row a finding, what was not searched, and the verdict."""
    rows = [("kind", "where", "first at", "times", "spelled", "digest")]
    rows += [(one.kind, one.place, one.at, str(one.times), one.spelling, one.digest) for one in done.found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines = lines if done.found else []
    for one in done.found:
        if one.text is not None:
            lines.append(f"  {one.digest} is {one.text!r}")
    lines += [f"not opened: {place}: {why}" for place, why in done.unread]
    stated = Counter[str]()
    for one in done.findings:
        if one.stated:
            stated[one.stated] += one.times
    lines += [f"stated {times} times: {why}" for why, times in stated.items()]
    lines += [f"not searched for: {count} {reason}" for reason, count in done.not_searched.items()]
    if done.nameless:
        lines.append(f"source files of which the name alone was of use: {done.nameless}")
    what = f"{done.searched} identifiers" if done.searched else "what looks like an identifier"
    verdict = f"found at {len(done.found)} places" if done.found else "nothing found"
    verdict += f", {len(done.unread)} places not opened" if done.unread else ""
    lines.append(f"searched {done.files} files, {done.bytes / 1e6:.1f} MB, for {what}: {verdict}")
    return "\n".join(lines)


def write_audit(done: Audit, out: Path) -> None:
    """Write the findings for machines, readable by their owner alone: ``.csv`` a row a finding, else JSON.

    Raises:
        UnwritableError: ``out`` cannot be written.
    """
    rows: list[dict[str, Any]] = [asdict(one) for one in done.findings]
    with owner_only(), draft_of(out) as draft, draft.open("w", newline="", encoding="utf-8") as text:
        if out.suffix.lower() == ".csv":
            table = csv.DictWriter(text, list(Finding.__dataclass_fields__))
            table.writeheader()
            table.writerows(rows)
            table.writerows({"kind": f"not opened: {why}", "place": place} for place, why in done.unread)
        else:
            json.dump({**asdict(done), "clean": done.clean}, text, indent=1)
            text.write("\n")
