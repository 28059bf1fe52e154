"""Mutants are single, valid, drawn by seed; a test that sees one catches it, one that does not lets it live."""

import ast
import json
from pathlib import Path

import pytest

from .mutants import Mutant, mutants_of, of_package, sample
from .run import Bench, Record, Verdict, equivalents, own_and_room, report

PACKAGE = Path(__file__).resolve().parents[2] / "src/raddino"
SOURCE = '''"""Words 1 + 1."""

def share(part: "int | None", whole=10, *, round_up: bool = False) -> float:
    """Never 2."""
    if not whole:
        raise ValueError("no whole " + str(3))
    elif part < 0:
        raise ValueError("negative")
    cut = divide(part, whole)[1:part]
    print(f"{whole - 1}")
    return -min(cut, 1.5) if round_up and part >= 2 else cut
'''


def changed(source: str, file: str = "a.py") -> dict[str, set[str]]:
    """What each operator makes of a source: its changed lines."""
    found: dict[str, set[str]] = {}
    for one in mutants_of(source, file):
        lines = zip(source.splitlines(), one.apply(source).splitlines(), strict=False)
        found.setdefault(one.operator, set()).add(next(after.strip() for before, after in lines if before != after))
    return found


def test_every_operator_by_hand():
    assert changed(SOURCE) == {
        "default": {
            'def share(part: "int | None", whole=11, *, round_up: bool = False) -> float:',
            'def share(part: "int | None", whole=9, *, round_up: bool = False) -> float:',
            'def share(part: "int | None", whole=10, *, round_up: bool = True) -> float:',
        },
        "not": {"if (whole):"},
        "comparison": {
            "elif (part <= 0):", "elif (part > 0):",
            "return -min(cut, 1.5) if round_up and (part > 2) else cut",
            "return -min(cut, 1.5) if round_up and (part <= 2) else cut",
        },
        "constant": {
            "elif part < 1:", "cut = divide(part, whole)[2:part]", "cut = divide(part, whole)[0:part]",
            "return -min(cut, 3.0) if round_up and part >= 2 else cut",
            "return -min(cut, 1.5) if round_up and part >= 3 else cut",
            "return -min(cut, 1.5) if round_up and part >= 1 else cut",
        },
        "arguments": {"cut = divide(whole, part)[1:part]"},
        "slice": {"cut = divide(part, whole)[1:part + 1]"},
        "statement": {"pass"},
        "sign": {"return (min(cut, 1.5)) if round_up and part >= 2 else cut"},
        "min/max": {"return -max(cut, 1.5) if round_up and part >= 2 else cut"},
        "and/or": {"return -min(cut, 1.5) if (round_up or part >= 2) else cut"},
        "return": {"return None"},
        "guard": {"pass"},
    }  # fmt: skip


def test_guards_are_removed_whole():
    source = "def f(a):\n    if a:\n        b = 1\n        raise ValueError\n    return a\n"
    guards = [one for one in mutants_of(source, "a.py") if one.operator == "guard"]
    assert [one.apply(source) for one in guards] == ["def f(a):\n    pass\n    return a\n"]


def test_signs_outside_ascii_do_not_shift_the_edit():
    assert changed('x = "äöü€", 1 < y\n')["comparison"] == {'x = "äöü€", (1 <= y)', 'x = "äöü€", (1 > y)'}


def test_all_of_a_sample_are_python_that_differs():
    chosen = sample(of_package(PACKAGE, ["metrics", "files.py"]), 150, seed=0)
    assert len(chosen) == 150
    assert {one.file.split("/")[0] for one in chosen} == {"metrics", "files.py"}
    for one in chosen:
        source = (PACKAGE / one.file).read_text(encoding="utf-8")
        assert ast.dump(ast.parse(one.apply(source))) != ast.dump(ast.parse(source)), one.name


def test_a_seed_draws_the_same_and_every_file_has_its_turn():
    mutants = of_package(PACKAGE, ["ssl", "vit"])
    assert sample(mutants, 30, seed=3) == sample(mutants, 30, seed=3)
    assert sample(mutants, 30, seed=3) != sample(mutants, 30, seed=4)
    files = {one.file for one in mutants}
    assert {one.file for one in sample(mutants, len(files), seed=5)} == files
    everything = sample(mutants, 10**6, seed=0)
    assert len(set(everything)) == len(everything) == len(mutants)


def test_an_unknown_room_is_told():
    with pytest.raises(SystemExit, match="no such room"):
        of_package(PACKAGE, ["kitchen"])


@pytest.fixture
def house(tmp_path) -> Path:
    """A repository with one function, whose tests see its guard and not its factor."""
    for folder in ("house/src/pack/room", "house/tests/room"):
        (tmp_path / folder).mkdir(parents=True)
    source = "def double(x):\n    if x < 0:\n        raise ValueError('negative')\n    return x * 2\n"
    (tmp_path / "house/src/pack/__init__.py").touch()
    (tmp_path / "house/src/pack/room/double.py").write_text(source, encoding="utf-8")
    (tmp_path / "house/tests/room/test_double.py").write_text(
        "import pytest\nfrom pack.room.double import double\n"
        "def test_guard():\n    with pytest.raises(ValueError):\n        double(-1)\n    double(0)\n",
        encoding="utf-8",
    )
    (tmp_path / "house/tests/room/test_other.py").write_text(
        "from pack.room.double import double\ndef test_factor():\n    assert double(3) == 6\n", encoding="utf-8"
    )
    return tmp_path / "house"


def test_a_weak_test_lets_a_fault_live_and_the_room_finds_it(house, tmp_path):
    source = (house / "src/pack/room/double.py").read_text(encoding="utf-8")
    mutants = {one.operator: one for one in mutants_of(source, "room/double.py")}
    bench = Bench(house, tmp_path / "copy", "src/pack")
    assert bench.judge(mutants["guard"]).caught == "own"
    assert bench.judge(mutants["arithmetic"]).caught == ""
    assert bench.judge(mutants["arithmetic"], whole_room=True).caught == "room"
    assert (tmp_path / "copy/src/pack/room/double.py").read_text(encoding="utf-8") == source
    (tmp_path / "copy/tests/room/test_double.py").write_text("def test_broken():\n    assert False\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="without any fault"):
        Bench.judge(Bench(tmp_path / "copy", tmp_path / "again", "src/pack"), mutants["guard"])


def test_slow_tests_are_left_out_and_a_fault_that_only_they_could_see_is_not_judged(house, tmp_path):
    slow = "import time\ntime.sleep(60)\n"
    own = house / "tests/room/test_double.py"
    mutants = {
        one.operator: one
        for one in mutants_of((house / "src/pack/room/double.py").read_text(encoding="utf-8"), "room/double.py")
    }
    (house / "tests/room/test_other.py").write_text(slow, encoding="utf-8")
    bench = Bench(house, tmp_path / "copy", "src/pack", most_seconds=20)
    assert bench.judge(mutants["guard"]).caught == "own"
    own.write_text(slow, encoding="utf-8")
    assert Bench(house, tmp_path / "again", "src/pack", most_seconds=1).judge(mutants["guard"]) is None


def test_a_fault_that_never_ends_is_caught(house, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{Bench.__module__}.MORE_SECONDS", 0.5)
    monkeypatch.setattr(f"{Bench.__module__}.NORMAL_TIMES", 1)
    source = (house / "src/pack/room/double.py").read_text(encoding="utf-8")
    start = source.index("return")
    endless = Mutant("room/double.py", "double", 4, "return", "", start, len(source), "while True:\n        pass\n")
    assert Bench(house, tmp_path / "copy", "src/pack").judge(endless).caught == "own"


def test_own_tests_and_those_of_the_room(tmp_path):
    for name in ("a/test_b.py", "a/test_c.py", "a/deep/test_d.py", "test_top.py"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).write_text("from raddino.a import x, e\n" if "_c" in name else "", encoding="utf-8")
    tests = tmp_path / "tests"
    assert own_and_room("a/b.py", tests) == (["tests/a/test_b.py"], ["tests/a/test_c.py"])
    assert own_and_room("a/e.py", tests) == (["tests/a/test_c.py"], ["tests/a/test_b.py"])
    assert own_and_room("a/none/f.py", tests) == ([], ["tests/a/test_b.py", "tests/a/test_c.py"])
    assert own_and_room("top.py", tests) == (["tests/test_top.py"], [])


def test_a_record_keeps_the_first_verdict_and_the_last(tmp_path):
    one, two, three = (Mutant("a/b.py", f"f{n}", n, "sign", "⟦-x → x⟧", 0, 1, "x") for n in range(3))
    record = Record(tmp_path / "record.jsonl")
    for verdict in (Verdict(one, "", 1), Verdict(two, "own", 1), Verdict(one, "own", 1), Verdict(three, "", 1)):
        record.add(verdict)
    again = Record(tmp_path / "record.jsonl")
    assert again.rows == record.rows
    assert again.survivors() == {three.name}
    assert again.rows[one.name]["first"] == ""
    (tmp_path / "same.txt").write_text(f"# words\n{three.name} | x is never negative\n", encoding="utf-8")
    same = equivalents(tmp_path / "same.txt")
    assert same == {three.name: "x is never negative"}
    said = "\n".join(report(again, same))
    assert "| a | 3 | 1 | 0 | 2 | 1 | 100 % |" in said
    assert "new test    a/b.py:0 f0 (sign) ⟦-x → x⟧" in said
    assert "equivalent  a/b.py:2 f2" in said
    assert "| a | 3 | 1 | 0 | 2 | 0 | 67 % |" in "\n".join(report(again, {}))
    assert json.loads((tmp_path / "record.jsonl").read_text(encoding="utf-8").splitlines()[0])["last"] == ""
