"""The house stands as docs/architecture.md draws it: imports only go down, no file needs itself."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "raddino"
LINE = re.compile(r"^\| (\d) \| (.*) \|$", re.M)
LOWEST = 1
"""Rooms of this floor may need each other."""
RECURSION = ("raddino.audit.pieces", "raddino.audit.texts")
"""What is unpacked holds texts, in which something may be packed."""


def floors() -> dict[str, int]:
    """Room or file of the table to its floor."""
    table = LINE.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    return {
        name.removesuffix(".py"): int(floor) for floor, names in table for name in re.findall(r"`([\w.]+)/?`", names)
    }


def for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def statements(body: list[ast.stmt]):
    for node in body:
        if for_types_only(node):
            continue
        yield node
        for part in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, part, []))
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body)


@cache
def imports() -> dict[str, set[str]]:
    """Every module to those of ours that it imports, anywhere but for types."""
    files = {".".join(file.relative_to(SOURCE.parent).with_suffix("").parts): file for file in SOURCE.rglob("*.py")}
    files = {name.removesuffix(".__init__"): file for name, file in files.items()}
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        needed = found.setdefault(name, set())
        for node in statements(ast.parse(file.read_text(encoding="utf-8")).body):
            if isinstance(node, ast.Import):
                needed |= {alias.name for alias in node.names} & set(files)
            elif isinstance(node, ast.ImportFrom) and node.module in files:
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                needed |= parts & set(files) or {node.module}
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_a_floor() -> None:
    rooms = {room(module) for module in imports() if "." in module} - {"__main__"}
    assert rooms == set(floors())


def test_imports_go_down() -> None:
    at = floors()
    up = {
        f"{module} -> {needed}"
        for module, all_needed in imports().items()
        if "." in module and room(module) != "__main__"
        for needed in all_needed
        if "." in needed and room(needed) != room(module)
        if not at[room(needed)] < at[room(module)] and at[room(module)] != LOWEST
    }
    assert up == set()


def test_no_file_needs_itself() -> None:
    graph = {name: needed - {name} for name, needed in imports().items()}
    graph[RECURSION[0]] = graph[RECURSION[0]] - {RECURSION[1]}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
