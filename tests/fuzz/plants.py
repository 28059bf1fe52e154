"""Faults to be planted in the process that tries files, before the wall: each must be seen."""

import os
import time
from collections.abc import Callable

SICK = (40, 30)


def crash() -> None:
    """A file that ends the process."""
    _before_packing(os.abort)


def sleep() -> None:
    """A file that waits for ever."""
    _before_packing(lambda: time.sleep(3600))


def spin() -> None:
    """A file that computes for ever."""

    def compute() -> None:
        while True:
            pass

    _before_packing(compute)


def traceback() -> None:
    """A file that raises what is not ours."""
    _before_packing(lambda: {}["missing"])


def panic() -> None:
    """A file that raises what is not even an Exception."""

    class Panic(BaseException):
        pass

    def fall() -> None:
        raise Panic

    _before_packing(fall)


def chatter() -> None:
    """A file on which a library writes to the terminal, past Python."""
    _before_packing(lambda: os.write(2, b"Corrupt JPEG data\n"))


def hog() -> None:
    """A file that needs too much memory, more by the second."""
    held = []

    def eat() -> None:
        while True:
            held.append(bytearray(os.urandom(2**20)) * 16)
            time.sleep(0.02)

    _before_packing(eat)


def _before_packing(fault: Callable[[], object]) -> None:
    """Let ``fault`` happen to each picture of the shape :data:`SICK`."""
    from raddino.corpus import pack

    prepare_image = pack.prepare_image

    def faulty(*args):
        made = prepare_image(*args)
        if (made[-1]["height"], made[-1]["width"]) == SICK:
            fault()
        return made

    pack.prepare_image = faulty
