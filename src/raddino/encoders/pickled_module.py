"""Tensors out of a pickled ``torch.nn.Module``, without the classes that it names and without running anything."""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raddino.errors import RaddinoError
from raddino.vit.pickles import opcodes
from raddino.vit.weights import read_weights

HEADER_PICKLES = 3
ZIP = b"PK"
CLOSERS = {"TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS"}
"""Opcodes that use up the latest mark."""


class _Shell:
    """Stands in for every class that the module names: holds attributes, does nothing."""

    def __init__(self, *_: Any) -> None:
        pass


def read_pickled_module(file: Path, classes: Iterable[str]) -> dict[str, Tensor] | None:
    """The state dict of a module that ``torch.save`` wrote whole, or None where the file holds something else.

    The safe loader (``weights_only=True``) takes the file with each of ``classes`` replaced by an inert one.

    Args:
        file: in the present format of torch, or the one before torch 1.6.
        classes: full names that the file may refer to, those of torch itself included.

    Raises:
        RaddinoError: unreadable, or referring to anything else.
    """
    if not file.is_file():
        raise RaddinoError(f"no weights at {file.name}")
    shells: list[Any] = [(_Shell, name) for name in classes]
    with torch.serialization.safe_globals(shells), tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = Path(folder) / file.name
        try:
            plain.write_bytes(_without_sources(file.read_bytes()))
        except Exception as error:  # pickletools meets damage in many ways
            raise RaddinoError(f"{file.name} is not a readable weights file ({type(error).__name__})") from None
        content = read_weights(plain)
    return _tensors(content, "") if isinstance(content, _Shell) else None


def _tensors(module: _Shell, prefix: str) -> dict[str, Tensor]:
    """Parameters and buffers of a module and its children by their dotted names."""
    state: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers", "_modules"):
        members = module.__dict__.get(kind)
        for name, member in members.items() if isinstance(members, dict) else ():
            if isinstance(member, Tensor):
                state[f"{prefix}{name}"] = member.detach()
            elif isinstance(member, _Shell):
                state |= _tensors(member, f"{prefix}{name}.")
    return state


def _without_sources(content: bytes) -> bytes:
    """A file of torch before 1.6 with classes named directly; any other file as it is.

    At its first use those files wrap a module's class into the persistent id ``("module", class, path, source)``,
    which the safe loader refuses; of its opcodes only the one that names the class is kept.
    """
    if content.startswith(ZIP):
        return content
    stream = io.BytesIO(content)
    for _ in range(HEADER_PICKLES):
        for _ in opcodes(stream):
            pass
    start = stream.tell()
    found = list(opcodes(stream))
    bounds = [*(int(position or 0) for _, _, position in found), stream.tell()]
    kept: list[int] = []
    strings: dict[Any, Any] = {}
    marks: list[int] = []
    mark = 0
    for index, (opcode, argument, _) in enumerate(found):
        kept.append(index)
        if opcode.name.endswith("BINPUT"):
            strings[argument] = found[index - 1][1]
        elif opcode.name == "MARK":
            marks.append(index)
        elif marks and opcode.name in CLOSERS:
            mark = marks.pop()
        elif opcode.name == "BINPERSID":
            first, value = found[mark + 1][:2]
            if (strings.get(value) if first.name.endswith("BINGET") else value) == "module":
                named = next((at for at in range(mark, index) if found[at][0].name == "GLOBAL"), index)
                while kept and kept[-1] >= mark:
                    kept.pop()
                kept += [named, named + 1]
    return content[:start] + b"".join(content[bounds[at] : bounds[at + 1]] for at in kept) + content[bounds[-1] :]
