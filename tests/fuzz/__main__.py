"""``python -m tests.fuzz --number 20000``: see docs/fuzzing.md."""

import argparse
import sys
from pathlib import Path

from .run import Trial, all_seeds, check_seeds, fuzz, make_trials, table


def main() -> int:
    """0 when every must held, 1 when one did not."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Damaged files through raddino.")
    options.add_argument("--number", type=int, default=20_000, help="of damaged files")
    options.add_argument("--seed", type=int, default=0, help="another one gives other damage")
    options.add_argument("--kind", help="only formats with this word in their name, such as dicom, png or corpus")
    options.add_argument("--only", type=int, help="the one damaged file of this number")
    options.add_argument("--workers", type=int, help="processes; one a core by default")
    options.add_argument("--keep", type=Path, help="folder for inputs that broke a must, or were wrong in silence")
    given = options.parse_args()

    seeds = all_seeds()
    first = given.seed * 10**7
    numbers = [given.only] if given.only is not None else range(first, first + given.number * (50 if given.kind else 1))
    trials = make_trials(seeds, numbers)
    if given.kind:
        word = given.kind.lower()
        trials = (one for one in trials if word in f"{one.seed.kind} {one.seed.format}".lower())
    chosen = [one for _, one in zip(range(given.number), trials, strict=False)]
    misread = check_seeds(list({id(one.seed): one.seed for one in chosen}.values()))
    for words in misread:
        print(f"sound, and not read as it should be: {words}")
    findings = fuzz(chosen, given.workers)
    print(table(findings))
    for must, blamed, words in findings.broken:
        numbers_of = ", ".join(str(one.number) for one in blamed[:3])
        print(f"{must}: number {numbers_of} ({blamed[0].row}, {blamed[0].seed.name}): {words.strip()[-300:]}")
    if given.keep:
        _keep(given.keep, [*((must, blamed) for must, blamed, _ in findings.broken), ("silent", findings.silent)])
    return 0 if findings.sound and not misread else 1


def _keep(folder: Path, groups: list[tuple[str, list[Trial]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, trials in groups:
        for one in trials:
            place = folder / f"{name.replace(' ', '-')}-{one.number}-{one.seed.name.replace('/', '-')}"
            place.write_bytes(one.data)


if __name__ == "__main__":
    sys.exit(main())
