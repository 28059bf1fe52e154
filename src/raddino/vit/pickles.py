"""What a pickle would unfold to, told from its opcodes before anything loads it."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch

LARGEST = 2**20
"""Opcodes of a pickle, and values that it holds when shared ones are counted wherever they stand."""
DEEPEST = 64
"""Values within values that cannot change; hashing tuples recurses in C."""
LEGACY_PICKLES = 5
"""Before the numbers, in files of torch before 1.6."""
ZIP = b"PK\x03\x04"
SLOW_CODECS = ("idna", "punycode")
"""``_codecs.encode``, which torch lets through, takes the square of a text's length with these."""

_BEFORE = {opcode.name: [kind.name for kind in opcode.stack_before] for opcode in pickletools.opcodes}


def opcodes(stream: IO[bytes]) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    """The opcodes of one pickle.

    Raises:
        ValueError: damaged.
        UnpicklingError: more than :data:`LARGEST`.
    """
    for number, found in enumerate(pickletools.genops(stream)):
        if number == LARGEST:
            raise UnpicklingError("too many opcodes")
        yield found


def check_pickles(path: Path) -> None:
    """Refuse what ``torch.load(weights_only=True)`` would not survive: alias bombs, deep tuples, packed zip members.

    Args:
        path: of a file of ``torch.save``, in the present format or that before torch 1.6.

    Raises:
        UnpicklingError: such a bomb.
        Exception: of many kinds, where the file is damaged.
    """
    with path.open("rb") as file:
        if file.peek(len(ZIP)).startswith(ZIP):
            _check(_zipped(path))
            return
        for _ in range(LEGACY_PICKLES):
            if file.peek(1):
                _check(file)


def _zipped(path: Path) -> IO[bytes]:
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise UnpicklingError("packed members, which torch.save does not write")
    reader = torch._C.PyTorchFileReader(str(path))  # torch.load's own, which may see other members than zipfile
    if any(reader.get_record_size(name) > path.stat().st_size for name in reader.get_all_records()):
        raise UnpicklingError("members larger than their file")
    return io.BytesIO(reader.get_record("data.pkl"))


def _check(stream: IO[bytes]) -> None:
    """Follow the stack of a pickle; of each value only size and depth are kept.

    Raises:
        LookupError, ValueError: damaged.
        UnpicklingError: too large or too deep.
    """
    stack: list[list[int]] = []
    marks: list[list[list[int]]] = []
    memo: dict[int, list[int]] = {}
    total = 0
    for opcode, argument, _ in opcodes(stream):
        name, before = opcode.name, _BEFORE[opcode.name]
        if isinstance(argument, str) and len(argument) < 99 and any(slow in argument.lower() for slow in SLOW_CODECS):
            raise UnpicklingError("a slow codec")
        if name == "MARK":
            marks.append(stack)
            stack = []
        elif name.endswith("BINPUT"):
            memo[argument] = stack[-1]
        elif name.endswith("BINGET"):
            stack.append(memo[argument])
            total += stack[-1][0]
        else:
            if "mark" in before:
                taken, stack = stack, marks.pop()
            else:
                taken = [stack.pop() for _ in before]
            if (before and before[0] in ("list", "dict", "set")) or name == "BUILD":  # what is filled stays
                filled = stack.pop() if "mark" in before else taken.pop()
                filled[0] += sum(size for size, _ in taken)
                stack.append(filled)
            elif opcode.stack_after:
                stack.append([1 + sum(size for size, _ in taken), 1 + max((depth for _, depth in taken), default=-1)])
        total += 1
        if total > LARGEST or (stack and stack[-1][1] > DEEPEST):
            raise UnpicklingError("unfolds to more than any weights need")
