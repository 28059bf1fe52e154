"""What a study says, in sentences that are built from its numbers."""

from __future__ import annotations

from typing import Any

from raddino.benchmark.contamination import SEEN, UNKNOWN
from raddino.errors import counted
from raddino.report.tables import SIGNIFICANT, metric, number

MOST = 4
"""Differences or laws that a sentence names; the tables hold all."""


def summary(data: dict[str, Any]) -> list[str]:
    """Sentences on a study's ``data``: what ran, what differs, what it grows by, and what to hold against it."""
    arms = {arm["digest"]: arm["state"] for one in data["conditions"] for arm in one["arms"] if arm["digest"]}
    done = sum(state == "finished" for state in arms.values())
    cannot = sum(not arm["digest"] for one in data["conditions"] for arm in one["arms"])
    said = [f"{done} of {counted(len(arms) + cannot, 'arm')} have results."
            + (f" {counted(len(arms) + cannot - done, 'arm')} failed, cannot run or wait, each with its reason below."
               if done < len(arms) + cannot else "")]  # fmt: skip
    said += _compute(data) + [_of_series(data, series) for series in data["series"]]
    return [*said, *_supervision(data), *_sites(data), *_seen(data), *_data(data)]


def named(data: dict[str, Any], cell: dict[str, Any]) -> str:
    """A task with its evaluation, where the study has several."""
    units = {one["unit"] for one in data["tasks"]}
    return f"{cell['task']} ({cell['unit']})" if len(units) > 1 else str(cell["task"])


def signed(value: float, key: str) -> str:
    """``+0.031`` in the metric's decimals."""
    return ("+" if value > 0 else "") + number(value, metric(key))


def clear(row: dict[str, Any]) -> bool:
    """Whether a difference is below 0.05 after Holm's correction."""
    p = row["difference"].get("p_holm")
    return p is not None and p < SIGNIFICANT


def _compute(data: dict[str, Any]) -> list[str]:
    """One sentence on the series whose compute was to be equal, and one for each where it is not."""
    asked = [one for one in data["series"] if one["compute"] and one["compute"]["equal"]]
    held = [one for one in asked if one["compute"]["held"]]
    said = []
    if held:
        spread = max(one["compute"]["spread"] for one in held)
        whose = "All trainings" if len(held) == len(asked) else ", ".join(one["title"] for one in held)
        said.append(f"{whose}: equal compute, counted in the step, at most {spread:.2%} apart.")
    return said + [
        f"{one['title']}: compute is NOT equal; {one['compute']['worst']} is {one['compute']['spread']:.1%} apart."
        for one in asked if one not in held
    ]  # fmt: skip


def _of_series(data: dict[str, Any], series: dict[str, Any]) -> str:
    """What differs in a series, and the law that it follows."""
    name, title = series["name"], series["title"]
    rows = [row for row in data["differences"] if row["series"] == name]
    own = [one for one in data["conditions"] if one["series"] == name and one["cells"]]
    if not own:
        return f"{title}: no arm has results."
    parts = []
    found = [row for row in rows if clear(row)]
    if rows:
        held = "none" if not found else str(len(found))
        shown = "; ".join(_difference(data, row) for row in found[:MOST])
        more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
        parts.append(f"of {counted(len(rows), 'difference')} from {series['against']} {held} below p = 0.05 after Holm"
                     f"{': ' if shown else ''}{shown}{more}")  # fmt: skip
    elif len(own) > 1:
        parts.append(f"nothing could be tested against {series['against']}")
    laws = [law for law in data["laws"] if law["series"] == name]
    told = [law for law in laws if not law["refused"] and law["told"]]
    parts += [
        f"the loss of {named(data, law)} falls with {law['axis']} to the power of −{law['b']:.2f} "
        f"[{law['b_low']:.2f}, {law['b_high']:.2f}] towards {law['c']:.3g} ({law['losses']} arms, {law['sizes']} sizes)"
        for law in told[:MOST]
    ]
    if laws and not told:
        refused = [law for law in laws if law["refused"]]
        why = refused[0]["refused"] if refused else "the arms do not bound an exponent away from 0"
        parts.append(f"no power law is told: {why}")
    elif len(told) < len(laws):
        parts.append(f"{len(told)} of {counted(len(laws), 'task')} carry a power law")
    return f"{title}: {'. '.join(part[:1].upper() + part[1:] if at else part for at, part in enumerate(parts))}."


def _difference(data: dict[str, Any], row: dict[str, Any]) -> str:
    gap, key = row["difference"], row["metric"]
    bounds = f"[{number(gap['low'], metric(key))}, {number(gap['high'], metric(key))}]"
    return f"{row['condition']}, {named(data, row)}: {metric(key).label} {signed(gap['value'], key)} {bounds}"


def _supervision(data: dict[str, Any]) -> list[str]:
    """On how many tasks the best encoder without text stands above the best with text, and by what."""
    kinds = {(one["series"], one["condition"]): one["supervision"] for one in data["contamination"]}
    best: dict[tuple[str, str], dict[str, tuple[float, str]]] = {}
    for one in data["conditions"]:
        kind = kinds.get((one["series"], one["condition"]))
        for cell in one["cells"] if kind in ("self-supervised", "text") else ():
            sign = 1 if metric(cell["metric"]).higher_is_better else -1
            kept = best.setdefault((cell["unit"], cell["task"]), {})
            kept[str(kind)] = max(kept.get(str(kind), (float("-inf"), "")), (sign * cell["value"], one["condition"]))
    both = [kept for kept in best.values() if len(kept) == 2]
    if not both:
        return []
    above = sum(kept["self-supervised"][0] > kept["text"][0] for kept in both)
    return [f"The best image-only encoder stands above the best text-supervised one on {above} of "
            f"{counted(len(both), 'task')}, by value alone; the table says which differences are clear."]  # fmt: skip


def _sites(data: dict[str, Any]) -> list[str]:
    """Whether the condition that leads inside leads at each site too."""
    at_site = {(one["unit"], one["task"]): one["site"] for one in data["tasks"] if one.get("site")}
    flips, asked = [], 0
    for (unit, task), site in at_site.items():
        inside = task.removesuffix(f" at {site}")
        leaders = [_leader(data, unit, name) for name in (inside, task)]
        if all(leaders):
            asked += 1
            if leaders[0] != leaders[1]:
                flips.append(f"{inside} at {site} ({leaders[1]} instead of {leaders[0]})")
    if not asked:
        return []
    names = "; ".join(flips[:MOST]) + (f"; and {len(flips) - MOST} more" if len(flips) > MOST else "")
    return [f"At {asked} pairs of task and site, the arm that leads inside leads at the site too on "
            f"{asked - len(flips)}" + (f"; not so on {names}" if flips else "") + "."]  # fmt: skip


def _leader(data: dict[str, Any], unit: str, task: str) -> str:
    """The condition with the best value; empty where fewer than two have one."""
    found = [(cell["value"] if metric(cell["metric"]).higher_is_better else -cell["value"], one["condition"])
             for one in data["conditions"] for cell in one["cells"]
             if (cell["unit"], cell["task"]) == (unit, task)]  # fmt: skip
    return max(found)[1] if len(found) > 1 else ""


def _seen(data: dict[str, Any]) -> list[str]:
    told = [(one["condition"], set(one["sources"].values())) for one in data["contamination"]]
    seen = list(dict.fromkeys(name for name, words in told if words & SEEN))
    unknown = list(dict.fromkeys(name for name, words in told if UNKNOWN in words and name not in seen))
    said = [f"Have or may have seen test images before: {', '.join(seen)}."] if seen else []
    said += [f"Of {', '.join(unknown)} it is not on record what they saw."] if unknown else []
    return said if told and said else ["No arm is on record as having seen the test images."] if told else []


def _data(data: dict[str, Any]) -> list[str]:
    sizes = [one["n"] for one in data["tasks"] if one.get("n")]
    many = f"{min(sizes):,} to {max(sizes):,}" if sizes and min(sizes) < max(sizes) else f"{max(sizes, default=0):,}"
    said = [f"Numbers are of {many} test images a task."] if sizes else []
    if data["synthetic"]:
        kind = "Some of the" if data["synthetic"] == "mixed" else "The"
        said.append(f"{kind} images are drawn: what is found here says nothing about patients.")
    return said
