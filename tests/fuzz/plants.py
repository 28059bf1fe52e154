"""Faults to be planted in the process that tries files, before the wall: each must be seen."""

import os
import sys
import time
from collections.abc import Callable


def crash() -> None:
    """A file that ends the process."""
    _before_packing(os.abort)


def hang() -> None:
    """A file that takes for ever."""
    _before_packing(lambda: time.sleep(3600))


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
            time.sleep(0.01)

    _before_packing(eat)


def lie() -> None:
    """A file that is turned upside down, and nothing is said."""
    from raddino.corpus import pack

    encode = pack.encode_png
    pack.encode_png = lambda pixels: encode(pixels[::-1] if _is_sick() else pixels)


def _before_packing(fault: Callable[[], object]) -> None:
    from raddino.corpus import pack

    encode = pack.encode_png

    def faulty(pixels):
        if _is_sick():
            fault()
        return encode(pixels)

    pack.encode_png = faulty


def _is_sick() -> bool:
    """Whether the image being packed is the first of its batch: found on the stack, so that no signature matters."""
    frame = sys._getframe(2)
    while frame:
        row = frame.f_locals.get("row")
        if isinstance(row, dict) and "id" in row:
            return row["id"] == "i0"
        frame = frame.f_back
    return False
