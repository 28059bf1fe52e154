"""The two kinds of JPEG that radiography uses and no library at hand writes (ISO 10918-1)."""

import struct

import numpy as np
from scipy.fft import dctn

RUN_OF_16, END_OF_BLOCK = 0xF0, 0x00
ZIGZAG = sorted(((y, x) for y in range(8) for x in range(8)), key=lambda at: (sum(at), at[sum(at) % 2 == 0]))


def lossless_jpeg(pixels: np.ndarray, precision: int, predictor: int = 1) -> bytes:
    """SOF3 (process 14): (H, W) of ``precision`` bits, 2 to 16, with one of the predictors 1 to 7 (Annex H)."""
    values = pixels.astype(np.int64)
    left, above, corner = (np.zeros_like(values) for _ in range(3))
    left[:, 1:], above[1:], corner[1:, 1:] = values[:, :-1], values[:-1], values[:-1, :-1]
    guesses = (
        *(left, above, corner, left + above - corner),
        *(left + ((above - corner) >> 1), above + ((left - corner) >> 1), (left + above) >> 1),
    )
    guess = guesses[predictor - 1].copy()
    guess[0], guess[1:, 0] = left[0], above[1:, 0]
    guess[0, 0] = 1 << (precision - 1)
    differences = (values - guess + 32768) % 65536 - 32768
    differences[differences == -32768] = 32768
    bits = "".join(_code(_size(int(one)), 5) + (_extra(int(one)) if one != 32768 else "") for one in differences.flat)
    frame = _frame(0xC3, precision, pixels.shape)
    return _stream(frame, _table(0x00, range(17), 5), _scan(0x00, predictor, 0), bits)


def extended_jpeg(pixels: np.ndarray, precision: int, quantiser: int = 8) -> bytes:
    """SOF1 (processes 2, 4): (H, W) of 8 or 12 bits, sides multiples of 8, coefficients divided by ``quantiser``."""
    alternating = [run << 4 | size for run in range(16) for size in range(1, 15)]
    symbols = [END_OF_BLOCK, RUN_OF_16, *alternating]
    number = {symbol: at for at, symbol in enumerate(symbols)}
    grey = pixels.astype(float) - (1 << (precision - 1))
    bits, before = [], 0
    for top in range(0, pixels.shape[0], 8):
        for start in range(0, pixels.shape[1], 8):
            block = dctn(grey[top : top + 8, start : start + 8], norm="ortho") / quantiser
            levels = [round(block[at]) for at in ZIGZAG]
            bits.append(_code(_size(levels[0] - before), 5) + _extra(levels[0] - before))
            before, zeros = levels[0], 0
            for level in levels[1:]:
                if not level:
                    zeros += 1
                    continue
                bits.append(_code(number[RUN_OF_16], 8) * (zeros // 16))
                bits.append(_code(number[zeros % 16 << 4 | _size(level)], 8) + _extra(level))
                zeros = 0
            bits.append(_code(number[END_OF_BLOCK], 8) if zeros else "")
    quantisers = _segment(0xDB, bytes([0, *[quantiser] * 64]))
    tables = quantisers + _table(0x00, range(16), 5) + _table(0x10, symbols, 8)
    return _stream(_frame(0xC1, precision, pixels.shape), tables, _scan(0x00, 0, 63), "".join(bits))


def _size(value: int) -> int:
    return abs(value).bit_length()


def _code(number: int, length: int) -> str:
    return f"{number:0{length}b}"


def _extra(value: int) -> str:
    """The bits behind a size: those of the value, of a negative one inverted."""
    size = _size(value)
    return _code(value if value > 0 else value + (1 << size) - 1, size) if size else ""


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _frame(marker: int, precision: int, shape: tuple[int, ...]) -> bytes:
    return _segment(marker, struct.pack(">BHHB", precision, *shape, 1) + bytes([1, 0x11, 0]))


def _table(which: int, symbols, length: int) -> bytes:
    """A Huffman table whose codes all have one length, in the order of ``symbols``."""
    symbols = bytes(symbols)
    counts = bytearray(16)
    counts[length - 1] = len(symbols)
    return _segment(0xC4, bytes([which]) + bytes(counts) + symbols)


def _scan(tables: int, start: int, end: int) -> bytes:
    return _segment(0xDA, bytes([1, 1, tables, start, end, 0]))


def _stream(frame: bytes, tables: bytes, scan: bytes, bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    return b"\xff\xd8" + frame + tables + scan + coded + b"\xff\xd9"
