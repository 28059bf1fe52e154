"""What the numbers say, in words that are computed from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from raddino.report.tables import Block, Cell, Line

SMALL_POSITIVES = 50


@dataclass(frozen=True)
class Verdict:
    """A headline, and the sentences below it."""

    headline: str
    sentences: list[str]


def verdict(blocks: list[Block]) -> Verdict:
    """Who leads on how many tasks, how that compares with the reference encoder, and how far to trust it.

    Ranks follow the first metric of each task. A difference is called clear when the 95 % interval of the
    paired difference excludes zero.
    """
    measured = [block for block in blocks if _ranked(block)]
    if not measured:
        return Verdict("Nothing could be measured", ["Every task is absent; the table gives the reasons."])
    names = list(dict.fromkeys(line.encoder for block in measured for line in _ranked(block)))
    sentences = [*_against_reference(measured, names), *_chance(measured), *_small(measured)]
    if len(names) == 1:
        return Verdict(_alone(measured, names[0]), sentences)
    return Verdict(_leaders(measured), sentences)


def _ranked(block: Block) -> list[Line]:
    lines = [line for line in block.lines if line.cells and line.cells[0] is not None]
    lines = [line for line in lines if _cell(line).row["value"] == _cell(line).row["value"]]
    sign = -1 if block.metrics and block.metrics[0].higher_is_better else 1
    return sorted(lines, key=lambda line: sign * _cell(line).row["value"])


def _cell(line: Line) -> Cell:
    cell = line.cells[0]
    assert cell is not None
    return cell


def _alone(measured: list[Block], name: str) -> str:
    parts = [
        f"{block.metrics[0].label} {_cell(_ranked(block)[0]).text} on {block.task}" for block in measured[:3]
    ]
    more = f" and {len(measured) - 3} more" if len(measured) > 3 else ""
    return f"{name}: {', '.join(parts)}{more}"


def _leaders(measured: list[Block]) -> str:
    wins: Counter[str] = Counter()
    for block in measured:
        ranked = _ranked(block)
        wins.update(
            line.encoder for line in ranked if _cell(line).row["value"] == _cell(ranked[0]).row["value"]
        )
    total = len(measured)
    if total == 1:
        return f"{_and(list(wins))} {_verb(len(wins), 'leads')} on {measured[0].task}"
    if len(wins) == 1:
        return f"{next(iter(wins))} leads on {'both tasks' if total == 2 else f'all {total} tasks'}"
    parts = [f"{name} {'leads on ' if not i else 'on '}{k}" for i, (name, k) in enumerate(wins.most_common())]
    parts[0] += f" of {total} tasks"
    return _and(parts)


def _against_reference(measured: list[Block], names: list[str]) -> list[str]:
    reference = next((block.reference for block in measured if block.reference), "")
    if not reference:
        return []
    sentences = []
    for name in names:
        tally = Counter(verdict for block in measured for verdict in _compare(block, name, reference))
        n = tally["ahead"] + tally["behind"] + tally["level"]
        if name == reference or not n:
            continue
        words = [
            f"{side} on {tally[side]}{_clearly(tally[f'clearly {side}'], tally[side])}"
            for side in ("ahead", "behind", "level")
            if tally[side]
        ]
        sentences.append(
            f"{name} against {reference} on {n} {'task' if n == 1 else 'tasks'}: {', '.join(words)}."
        )
    if sentences:
        sentences.append("Clearly means that the 95 % interval of the paired difference excludes zero.")
    return sentences


def _clearly(clear: int, of: int) -> str:
    if not clear:
        return " (none of it clearly)" if of > 1 else " (not clearly)"
    return " (clearly)" if clear == of else f" ({clear} clearly)"


def _compare(block: Block, name: str, reference: str) -> list[str]:
    lines = {line.encoder: line for line in _ranked(block)}
    if name not in lines or reference not in lines:
        return []
    row, other = _cell(lines[name]).row, _cell(lines[reference]).row
    if row["value"] == other["value"]:
        return ["level"]
    side = "ahead" if (row["value"] > other["value"]) == block.metrics[0].higher_is_better else "behind"
    gap = row.get("difference")
    clear = gap and (gap["low"] > 0 or gap["high"] < 0)
    return [side, f"clearly {side}"] if clear else [side]


def _chance(measured: list[Block]) -> list[str]:
    lost = [
        block.task
        for block in measured
        if block.metrics[0].key == "auroc"
        and all((_cell(line).row.get("low") or 0) <= 0.5 for line in _ranked(block))
    ]
    return [f"On {_and(lost)} no encoder is distinguishable from chance."] if lost else []


def _small(measured: list[Block]) -> list[str]:
    counts = [
        (min(block.positives, block.n - block.positives), block)
        for block in measured
        if block.positives is not None
    ]
    if not counts:
        return []
    rarest, block = min(counts, key=lambda pair: pair[0])
    if rarest >= SMALL_POSITIVES:
        return []
    return [
        f"The smallest test class has {rarest} images ({block.task}); read the intervals, not the third decimal."
    ]


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _verb(n: int, singular: str) -> str:
    return singular if n == 1 else singular.removesuffix("s")
