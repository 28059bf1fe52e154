"""Single faults for a Python source: each is one edit of its text at one node of its syntax tree."""

import ast
import copy
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "maximum": "minimum"}
COMMUTATIVE = {"isinstance", "issubclass", "max", "min", "maximum", "minimum", "print", "gcd", "hypot"}


@dataclass(frozen=True)
class Mutant:
    """One fault: ``source[start:end]`` of ``file`` (relative to the package) becomes ``text``."""

    file: str
    function: str
    line: int
    operator: str
    change: str
    start: int
    end: int
    text: str

    @property
    def name(self) -> str:
        """Says the same fault after lines moved: file, function, and the line with what becomes of what."""
        return f"{self.file} | {self.function} | {self.change}"

    def apply(self, source: str) -> str:
        """The whole source with this fault in it."""
        return source[: self.start] + self.text + source[self.end :]


def mutants_of(source: str, file: str) -> list[Mutant]:
    """Every fault that this module knows for one source, in the order of its text."""
    starts = _line_starts(source)
    lines = source.splitlines(keepends=True)

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    found = {}
    for node, function, in_default in _mutable_nodes(ast.parse(source)):
        for operator, changed in _changes(node):
            start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)
            before, after = ast.unparse(node), ast.unparse(changed)
            if before == after:
                continue
            text = f"({after})" if isinstance(node, (ast.BinOp, ast.BoolOp, ast.Compare, ast.UnaryOp)) else after
            said = "default" if in_default and isinstance(node, ast.Constant) else operator
            head = lines[node.lineno - 1][: start - starts[node.lineno - 1]].lstrip()
            tail = source[end : starts[node.end_lineno]].rstrip()
            change = f"{_short(head, 40)}⟦{_shown(before, after)}⟧{_short(tail, 40)}"
            one = Mutant(file, function, node.lineno, said, change, start, end, text)
            if said != "guard" or _is_python(one.apply(source)):
                found[(start, end, text)] = one
    return sorted(found.values(), key=lambda one: (one.start, one.text))


def sample(mutants: Sequence[Mutant], number: int, seed: int) -> list[Mutant]:
    """``number`` of the mutants: file after file in turn, in each an operator at random, then one of its mutants."""
    random_source = random.Random(seed)
    left: dict[str, dict[str, list[Mutant]]] = {}
    for one in mutants:
        left.setdefault(one.file, {}).setdefault(one.operator, []).append(one)
    files = sorted(left)
    random_source.shuffle(files)
    chosen: list[Mutant] = []
    while left and len(chosen) < number:
        for file in [file for file in files if file in left][: number - len(chosen)]:
            operator = random_source.choice(sorted(left[file]))
            several = left[file][operator]
            chosen.append(several.pop(random_source.randrange(len(several))))
            if not several:
                del left[file][operator]
            if not left[file]:
                del left[file]
    return chosen


def of_package(package: Path, chosen: Sequence[str] = ()) -> list[Mutant]:
    """The mutants of all files of a package folder, or of those under the names in ``chosen`` (rooms or files)."""
    files = sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py"))
    unknown = [name for name in chosen if not any(_under(file, name) for file in files)]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: no such room or file in {package}")
    kept = [file for file in files if not chosen or any(_under(file, name) for name in chosen)]
    return [one for file in kept for one in mutants_of((package / file).read_text(encoding="utf-8"), file)]


def _under(file: str, name: str) -> bool:
    return file == name or file.startswith(name.rstrip("/") + "/")


def _line_starts(source: str) -> list[int]:
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _short(text: str, most: int) -> str:
    words = re.sub(r"\s+", " ", text)
    return words if len(words) <= most else f"{words[: most // 2]}…{words[-most // 2 :]}"


def _shown(before: str, after: str) -> str:
    """``before → after``, of long ones only what differs and a little around it."""
    if len(before) + len(after) <= 120:
        return f"{_short(before, 120)} → {_short(after, 120)}"
    alike = _common(before, after)
    alike_end = min(_common(before[::-1], after[::-1]), len(before) - alike, len(after) - alike)
    first, ends = max(0, alike - 15), [max(alike, len(text) - alike_end + 15) for text in (before, after)]
    return " → ".join(f"…{_short(text[first:end], 60)}…" for text, end in zip((before, after), ends, strict=True))


def _common(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _is_python(source: str) -> bool:
    """False where an ``elif`` would become a statement between branches."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _mutable_nodes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str, bool]]:
    """Nodes that run as the program's logic, each with the function it lies in and whether in a default value."""

    def visit(node: ast.AST, function: str, in_default: bool) -> Iterator[tuple[ast.expr | ast.stmt, str, bool]]:
        if isinstance(node, ast.keyword) and node.arg in ("strict", "stacklevel"):
            return
        if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)) or _never_runs(node):
            return
        if isinstance(node, (ast.expr, ast.stmt)):
            yield node, function, in_default
        inside = function
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inside = f"{function}.{node.name}".removeprefix("module.")
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "ctx"):
                continue
            default = in_default or field in ("defaults", "kw_defaults")
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from visit(child, inside, default)

    yield from visit(tree, "module", False)


def _never_runs(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    return isinstance(node, ast.If) and any(word in ast.unparse(node.test) for word in ("TYPE_CHECKING", "__name__"))


def _changes(node: ast.expr | ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Compare):
        yield from _compared(node)
    elif isinstance(node, (ast.BinOp, ast.AugAssign)):
        if type(node.op) in ARITHMETIC and not _is_text(node):
            yield "arithmetic", _with(node, op=ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield "and/or", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield ("not" if isinstance(node.op, ast.Not) else "sign"), node.operand
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node)
    elif isinstance(node, ast.Call):
        yield from _called_otherwise(node)
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        yield from _sliced(node)
    elif isinstance(node, ast.If) and not node.orelse and isinstance(node.body[-1], ast.Raise):
        yield "guard", ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield "return", ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "statement", ast.Pass()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _compared(node: ast.Compare) -> Iterator[tuple[str, ast.AST]]:
    for index, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            yield "comparison", _with(node, ops=[*node.ops[:index], other(), *node.ops[index + 1 :]])


def _other_constants(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node.value, bool):
        yield "boolean", ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield "constant", ast.Constant(node.value + 1)
        if node.value > 0:
            yield "constant", ast.Constant(node.value - 1)
    elif isinstance(node.value, float):
        yield "constant", ast.Constant(node.value * 2 if node.value else 1.0)


def _called_otherwise(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in OPPOSITES and not (isinstance(node.func, ast.Name) and name in ("minimum", "maximum")):
        field = "attr" if isinstance(node.func, ast.Attribute) else "id"
        yield "min/max", _with(node, func=_with(node.func, **{field: OPPOSITES[name]}))
    if name in COMMUTATIVE or any(isinstance(one, ast.Starred) for one in node.args):
        return
    for index in range(len(node.args) - 1):
        swapped = [*node.args[:index], node.args[index + 1], node.args[index], *node.args[index + 2 :]]
        yield "arguments", _with(node, args=swapped)


def _sliced(node: ast.Subscript) -> Iterator[tuple[str, ast.AST]]:
    assert isinstance(node.slice, ast.Slice)
    for field in ("lower", "upper"):
        bound = getattr(node.slice, field)
        if bound is not None and not isinstance(bound, ast.Constant):
            further = ast.BinOp(bound, ast.Add(), ast.Constant(1))
            yield "slice", _with(node, slice=_with(node.slice, **{field: further}))


def _is_text(node: ast.AST) -> bool:
    """Whether texts or paths are joined, where another operator would be an error at once."""
    parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [getattr(node, "value", node)]
    return any(
        isinstance(part, ast.JoinedStr)
        or (isinstance(part, ast.Constant) and isinstance(part.value, (str, bytes)))
        or (isinstance(part, ast.BinOp) and _is_text(part))
        for part in parts
    )


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
