"""What ``torch.compile`` needs of the machine, and what is said where it fails."""

import os
import shutil
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from raddino.errors import RaddinoError

P = ParamSpec("P")
T = TypeVar("T")


def has_c_compiler() -> bool:
    """Whether Triton, which compiles for GPUs, finds the C compiler that it calls."""
    named = os.environ.get("CC")
    return any(shutil.which(name) for name in ([named] if named else ["gcc", "clang"]))


def plain_errors(compiled: Callable[P, T]) -> Callable[P, T]:
    """``compiled``, a function of ``torch.compile``, whose failure to compile is one line with the remedy.

    Raises (the function):
        RaddinoError: torch cannot compile it here.
    """
    from torch._dynamo.exc import TorchDynamoException

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return compiled(*args, **kwargs)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise RaddinoError(
                f"torch.compile does not work here ({reason}): turn compile off, or install the compiler it needs"
            ) from None

    return call
