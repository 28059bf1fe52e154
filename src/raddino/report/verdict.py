"""What the numbers say, in words that are computed from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from raddino.benchmark.contamination import DECLARED, IMAGES, LABELS, MAY_BE, PARTLY, UNKNOWN
from raddino.report.site_ranks import clearly_behind
from raddino.report.tables import SIGNIFICANT, Block, Cell, Line

SMALL_CLASS = 50

CAVEATS = {
    LABELS: "{name} was pre-trained on images and labels of {sources}, and the test images may be among them.",
    IMAGES: "{name} was pre-trained on images of {sources}, and the test images may be among them.",
    PARTLY: "{name} was pre-trained on a part of {sources}, and the test images may be in it.",
    MAY_BE: "{name} may have been pre-trained on images of {sources}: a data set that it saw may hold some.",
    UNKNOWN: "What {name} had seen of {sources} is not known.",
    DECLARED: "That {name} was not pre-trained on the test images of {sources} is declared, not proven.",
}
"""What is said of a word for what an encoder had seen, the gravest first."""


@dataclass(frozen=True)
class Verdict:
    """The headline, encoders against the reference, what makes a difference clear, how far to trust it."""

    headline: str
    reference: str = ""
    comparisons: tuple[str, ...] = ()
    clear: str = ""
    caveats: tuple[str, ...] = ()


def verdict(blocks: list[Block], encoders: list[dict[str, Any]], ranked: list[dict[str, Any]] | None = None) -> Verdict:
    """Who leads on how many tasks, by the first metric of each; aggregates over tasks do not count as tasks.

    Where a task was measured at other sites and another encoder leads at one of them, no leader is named: no ranking
    holds over sites.

    A difference to the reference is clear when its Holm-adjusted p is below 0.05, or, where the results hold
    none, when its 95 % interval excludes zero.

    Args:
        blocks: of :func:`raddino.report.tables.blocks`.
        encoders: of ``metrics.json``.
        ranked: rows of the analysis ``site_ranks``, which tell a clear change of leaders from another.
    """
    measured = [block for block in blocks if not block.members and _ranked(block)]
    if not measured:
        return Verdict("Nothing could be measured", caveats=("Every task is absent; the reasons stand below.",))
    names = list(dict.fromkeys(line.encoder for block in measured for line in _ranked(block)))
    reference = next((block.reference for block in measured if block.reference), "")
    comparisons = [_comparison(measured, name, reference) for name in names if reference and name != reference]
    adjusted = any("p_holm" in (_gap(line) or {}) for block in measured for line in block.lines)
    return Verdict(
        headline=_alone(measured, names[0]) if len(names) == 1 else _headline(measured, ranked or []),
        reference=reference,
        comparisons=tuple(text for text in comparisons if text),
        clear="p < 0.05 after Holm's correction over tasks and encoders"
        if adjusted
        else "the 95 % interval of the paired difference excludes zero",
        caveats=(*_chance(measured), *_small(measured), *recognised(encoders), *_contaminated(encoders)),
    )


def _cell(line: Line) -> Cell | None:
    return line.cells[0] if line.cells else None


def _value(line: Line) -> float:
    cell = _cell(line)
    return float("nan") if cell is None or cell.row["value"] is None else float(cell.row["value"])


def _gap(line: Line) -> dict[str, Any] | None:
    cell = _cell(line)
    return cell.row.get("difference") if cell else None


def _ranked(block: Block) -> list[Line]:
    """Lines with a value, best first."""
    lines = [line for line in block.lines if _value(line) == _value(line)]
    return sorted(lines, key=_value, reverse=block.metrics[0].higher_is_better if lines else False)


def _alone(measured: list[Block], name: str) -> str:
    parts = [
        f"{block.metrics[0].label} {cell.text} on {block.task}"
        for block in measured[:3]
        if (cell := _cell(_ranked(block)[0]))
    ]
    more = f" and {len(measured) - 3} more" if len(measured) > 3 else ""
    return f"{name}: {', '.join(parts)}{more}"


def _headline(measured: list[Block], ranked: list[dict[str, Any]]) -> str:
    """Who leads; where other sites were visited, only what holds there too."""
    placed = _by_place(measured)
    visited = {task: places for task, places in placed.items() if len(places) > 1}
    if not visited:
        return _leaders({block.task: _first(block) for places in placed.values() for block in places.values()})
    held = {task: names for task, places in visited.items() if (names := _held(places))}
    flipped = {task: places for task, places in visited.items() if task not in held}
    holding = f"{_leaders(held)}, at all sites" if held else ""
    if not flipped:
        return holding
    if len(visited) == 1:
        return f"No ranking holds over sites: {_flip(*next(iter(flipped.items())), ranked)}"
    count = f"{len(flipped)} of {len(visited)} tasks" if held else f"{_all(len(visited))} tasks"
    return f"No ranking holds over sites on {count}" + (f"; {holding}" if holding else "")


def _by_place(measured: list[Block]) -> dict[str, dict[str, Block]]:
    """Blocks by task as it is called inside, and site, ``""`` for the inside; not the insides of sites left out."""
    found: dict[str, dict[str, Block]] = {}
    for block in measured:
        row = next((cell.row for line in block.lines for cell in line.cells if cell), {})
        site = row.get("site") or ""
        if not row.get("without"):
            found.setdefault(block.task.removesuffix(f" at {site}") if site else block.task, {})[site] = block
    return found


def _held(places: dict[str, Block]) -> list[str]:
    """Encoders that lead at every place."""
    first = [_first(block) for block in places.values()]
    return [name for name in first[0] if all(name in names for names in first)]


def _first(block: Block) -> list[str]:
    ranked = _ranked(block)
    return [line.encoder for line in ranked if _value(line) == _value(ranked[0])]


def _flip(task: str, places: dict[str, Block], ranked: list[dict[str, Any]]) -> str:
    (home, inside), *others = places.items()
    leader = _first(inside)
    said = []
    for site, block in others:
        first = _first(block)
        if not set(first) & set(leader):
            clear = any(clearly_behind(ranked, task, site, name) for name in leader)
            said.append(f"{_and(first)} at {site}{' (clearly)' if clear else ''}")
    place = f"at {home}" if home else "inside"
    return f"{_and(leader)} {_lead(leader)} on {task} {place}, {_and(said)}"


def _leaders(first: dict[str, list[str]]) -> str:
    """Who leads on how many tasks, of which ``first`` names the leaders."""
    wins = Counter(name for names in first.values() for name in names)
    n = len(first)
    if n == 1:
        return f"{_and(list(wins))} {_lead(list(wins))} on {next(iter(first))}"
    (best, most), *others = wins.most_common()
    if not others:
        return f"{best} leads on {_all(n)} tasks"
    return f"{best} leads on {most} of {n} tasks, " + ", ".join(f"{name} on {k}" for name, k in others)


def _all(n: int) -> str:
    return "both" if n == 2 else f"all {n}"


def _lead(names: list[str]) -> str:
    return "leads" if len(names) == 1 else "lead"


def _comparison(measured: list[Block], name: str, reference: str) -> str:
    """One sentence on ``name`` against the reference encoder; empty when no task has both."""
    tally = Counter(word for block in measured for word in _sides(block, name, reference))
    n = tally["ahead"] + tally["behind"] + tally["level"]
    tasks = "task" if n == 1 else "tasks"
    sides: list[str] = []
    for side in ("ahead", "behind", "level"):
        if k := tally[side]:
            where = f"all {n} {tasks}" if k == n > 1 else str(k) if sides else f"{k} of {n} {tasks}"
            clearly = f" ({tally[f'clearly {side}']} clearly)" if tally[f"clearly {side}"] else ""
            sides.append(f"{side} on {where}{clearly}")
    if not sides:
        return ""
    clear = tally["clearly ahead"] + tally["clearly behind"]
    unclear = "" if clear else "; the difference is not clear" if n == 1 else "; no difference is clear"
    return f"{name}: {', '.join(sides)}{unclear}"


def _sides(block: Block, name: str, reference: str) -> list[str]:
    lines = {line.encoder: line for line in _ranked(block)}
    if name not in lines or reference not in lines:
        return []
    value, other, gap = _value(lines[name]), _value(lines[reference]), _gap(lines[name])
    if value == other:
        return ["level"]
    side = "ahead" if (value > other) == block.metrics[0].higher_is_better else "behind"
    return [side, f"clearly {side}"] if gap and _clear(gap) else [side]


def _clear(gap: dict[str, Any]) -> bool:
    if gap.get("p_holm") is not None:
        return bool(gap["p_holm"] < SIGNIFICANT)
    low, high = gap.get("low"), gap.get("high")
    return low is not None and high is not None and bool(low > 0 or high < 0)


def _chance(measured: list[Block]) -> list[str]:
    lost = [
        block.task
        for block in measured
        if block.metrics[0].key == "auroc"
        and all((cell.row.get("low") or 0) <= 0.5 for line in _ranked(block) if (cell := _cell(line)))
    ]
    return [f"On {_and(lost)} no encoder is distinguishable from chance."] if lost else []


def _small(measured: list[Block]) -> list[str]:
    counts = [(min(block.positives, block.n - block.positives), block.task) for block in measured if block.positives]
    rarest, task = min(counts, default=(SMALL_CLASS, ""))
    if rarest >= SMALL_CLASS:
        return []
    return [f"The smallest test class has {rarest} images ({task}): read the intervals, not the third decimal."]


def recognised(encoders: list[dict[str, Any]]) -> list[str]:
    """Encoders that are known, by the images' pixels, to have been trained on test images, with how many of them."""
    said = []
    for encoder in encoders:
        found = {source: one for source, one in (encoder.get("recognised") or {}).items() if one["seen"]}
        parts = [f"{one['seen']} of {one['images']} of {source}" for source, one in found.items()]
        if parts:
            said.append(
                f"{encoder['name']} was trained on test images themselves, known by their pixels: {_and(parts)}."
            )
    return said


def _contaminated(encoders: list[dict[str, Any]]) -> list[str]:
    return [
        said.format(name=encoder["name"], sources=_named(sources))
        for encoder in encoders
        for word, said in CAVEATS.items()
        if (sources := _told(encoder, word))
    ]


def _told(encoder: dict[str, Any], word: str) -> list[str]:
    """Sources of which ``word`` is said; one without a name where only the gravest word is known."""
    by_source = encoder.get("contamination") or {"": encoder.get("seen")}
    return [source for source, said in by_source.items() if said == word]


def _named(sources: list[str]) -> str:
    if sources == [""]:
        return "a source of the corpus"
    return f"the source{'s' if len(sources) > 1 else ''} {_and([f'“{name}”' for name in sources])}"


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
