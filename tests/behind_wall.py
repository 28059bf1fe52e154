"""What tests run behind a wall: functions that behave as decoders do on bad files."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from raddino.images.errors import NotARadiograph
from raddino.images.wall import printed


class Panic(BaseException):
    """Like the panic of a Rust decoder, no Exception."""


def echo(value):
    return value


def process() -> int:
    return os.getpid()


def refuse() -> None:
    raise NotARadiograph("colour picture")


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def kill_once(marker: Path, number: int) -> str:
    """Die at the first call only."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), number)
    return "read"


def crash_in_c() -> None:
    ctypes.string_at(0)


def leave(status: int) -> None:
    os._exit(status)


def loop() -> None:
    while True:
        pass


def wait(seconds: float) -> str:
    time.sleep(seconds)
    return "waited"


def hog(gib: float) -> int:
    return int(np.ones(int(gib * 2**30), np.uint8).sum())


def full_once(marker: Path) -> str:
    """No memory left at the first call only."""
    if not marker.exists():
        marker.touch()
        raise MemoryError
    return "read"


def interrupt() -> str:
    """Ctrl-C, as a terminal sends it."""
    os.kill(os.getpid(), signal.SIGINT)
    return "read"


def panic() -> None:
    raise Panic


def leave_python() -> None:
    sys.exit(3)


def speak(text: str) -> bytes:
    """Print as Python, C and a library do; returns what was heard."""
    print(text)
    print(text, file=sys.stderr)
    os.write(2, text.encode())
    ctypes.CDLL(None).puts(text.encode())
    return printed()


def heard() -> bytes:
    return printed()


def shout(megabytes: int) -> str:
    """Print more than any pipe holds."""
    for _ in range(megabytes):
        with contextlib.suppress(BlockingIOError):
            os.write(2, bytes(2**20))
    return "done"


class Unpicklable:
    def __reduce__(self):
        raise TypeError("cannot be pickled")


def unpicklable() -> Unpicklable:
    return Unpicklable()


def paths() -> list[str]:
    return sys.path


def make(mib: int) -> np.ndarray:
    return np.ones(mib << 20, np.uint8)
