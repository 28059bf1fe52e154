"""``python -m tests.mutation --number 300 --seed 0``: see docs/results/mutation.md."""

import argparse
import math
import sys
import tempfile
from pathlib import Path

from .mutants import of_package, sample
from .run import Bench, Record, equivalents, report

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    """0 when at least 95 % of the mutants that are not equivalent were caught, 1 otherwise."""
    options = argparse.ArgumentParser(prog="python -m tests.mutation", description="Single faults, and who sees them.")
    options.add_argument("--number", type=int, default=300, help="of mutants, spread over the files")
    options.add_argument("--seed", type=int, default=0, help="another one draws other mutants")
    options.add_argument("--rooms", default="", help="rooms or files of src/raddino, such as ssl,training/step.py")
    options.add_argument("--record", type=Path, default=Path("mutation.jsonl"), help="verdicts; a run goes on from it")
    options.add_argument("--whole-room", action="store_true", help="survivors also under the other tests of the room")
    options.add_argument("--most-seconds", type=float, default=math.inf, help="leave files of slower tests out")
    options.add_argument("--survivors", action="store_true", help="only those that the record says survived, again")
    options.add_argument("--report", action="store_true", help="run nothing: the record as Markdown")
    given = options.parse_args()

    record = Record(given.record)
    same = equivalents(Path(__file__).with_name("equivalent.txt"))
    if not given.report:
        rooms = [name for name in given.rooms.split(",") if name]
        mutants = of_package(REPOSITORY / "src/raddino", rooms)
        if given.survivors:
            chosen = [one for one in mutants if one.name in record.survivors() - set(same)]
        else:
            chosen = [one for one in sample(mutants, given.number, given.seed) if one.name not in record.rows]
        with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
            bench = Bench(REPOSITORY, Path(folder) / "copy", most_seconds=given.most_seconds)
            for index, one in enumerate(sorted(chosen, key=lambda one: (one.file, one.start)), 1):
                verdict = bench.judge(one, given.whole_room)
                if verdict:
                    record.add(verdict)
                said = f"{verdict.caught or 'SURVIVED'} {verdict.seconds:.0f} s" if verdict else "not judged"
                print(f"{index}/{len(chosen)} {said} {one.operator} {one.name}", flush=True)
    print("\n".join(report(record, same)))
    missed = record.survivors() - set(same)
    return 0 if len(missed) <= 0.05 * max(1, len(record.rows) - len(record.survivors() & set(same))) else 1


if __name__ == "__main__":
    sys.exit(main())
