"""Stored pixel values of a DICOM data set, decoded once its sizes and its codestream's facts have been checked."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raddino.images.codestream import Codestream, jpeg_segments, read_codestream, rle_segments
from raddino.images.errors import ImageError, NotARadiograph, UnreadableImage
from raddino.images.raster import LARGEST_PIXELS
from raddino.images.wall import printed

if TYPE_CHECKING:
    from pydicom import Dataset

RLE = "1.2.840.10008.1.2.5"
STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""Of JPEG and JPEG-LS, and of JPEG 2000."""
MOST_BITS = 16
LOSSLESS = 0xC3
GDCM_SYNTAXES = {"jpeg": "1.2.840.10008.1.2.4.51", "jpeg-lossless": "1.2.840.10008.1.2.4.57"}
GDCM_CHATTER = b"Unsupported JPEG data precision"  # of each 12-bit picture, before it takes its 12-bit codec
LONGER = "pixel data is longer than Rows and Columns say: the picture may be sheared or a part"
COMPLAINT = "the decoder reported damaged data"


def stored_values(dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    """Decode the pixel data, bits above BitsStored dropped where it is not compressed.

    Compressed data speaks for itself: its own header decides which decoder takes it and how many bits its values have.

    Args:
        dataset: with its file meta.

    Returns:
        integers (H, W), or (frames, H, W) and (H, W, samples) where there are several; and warnings.

    Raises:
        UnreadableImage: an element is missing or out of range, the picture is too large, cut short, of an unknown
            transfer syntax or at odds with its header, or no decoder accepts it.
    """
    from pydicom.pixels import pixel_array
    from pydicom.uid import UID

    if "PixelData" not in dataset:
        raise UnreadableImage("no pixel data, or pixel data cut short")
    check_sizes(dataset)
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    if not syntax.is_transfer_syntax:
        raise UnreadableImage("unknown transfer syntax")
    if syntax.is_encapsulated:
        return _decompress(dataset, syntax)
    if len(dataset.PixelData) * 8 < math.prod(_sizes(dataset)) * whole(dataset, "BitsAllocated"):
        raise UnreadableImage("pixel data cut short")
    *_, frames, dataset.SamplesPerPixel = _sizes(dataset)
    if "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = frames
    try:
        values = pixel_array(dataset)
    except Exception:
        raise UnreadableImage(f"pixel data cannot be decoded ({syntax.name})") from None
    if values.size != math.prod(_sizes(dataset)):
        raise UnreadableImage("decoded picture has another size than Rows and Columns")
    longer = len(dataset.PixelData) - values.nbytes > 1
    return values, [LONGER] * longer


def check_sizes(dataset: Dataset) -> tuple[int, int]:
    """(Rows, Columns), once rows x columns x frames x samples and bits are known to be within limits.

    Raises:
        UnreadableImage: they are not, or are missing.
    """
    sizes = _sizes(dataset)
    allocated, stored = whole(dataset, "BitsAllocated"), whole(dataset, "BitsStored")
    whole(dataset, "PixelRepresentation")
    if min(sizes) < 1:
        raise UnreadableImage("Rows, Columns, NumberOfFrames or SamplesPerPixel is not positive")
    if math.prod(sizes) > LARGEST_PIXELS:
        raise UnreadableImage(f"more than {LARGEST_PIXELS} pixels")
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise UnreadableImage("BitsAllocated and BitsStored are not those of an 8- or 16-bit picture")
    if whole(dataset, "HighBit", stored - 1) != stored - 1:
        raise UnreadableImage("HighBit is not BitsStored - 1")
    return sizes[0], sizes[1]


def _decompress(dataset: Dataset, syntax: Any) -> tuple[np.ndarray, list[str]]:
    """Values (H, W) of the one compressed grey frame, as its codestream and the header agree on them."""
    rows, columns, frames, samples = _sizes(dataset)
    if frames > 1 or samples > 1:
        raise UnreadableImage("compressed picture of several frames or colours")
    stream = None if syntax == RLE else read_codestream(_frame(dataset))
    if stream is not None:
        _check_facts(stream, rows, columns)
    try:
        if stream is not None:
            values, notes = _decode(stream)
        elif syntax == RLE:
            values, notes = rle_words(dataset), []
        else:
            raise UnreadableImage(f"pixel data cannot be decoded ({syntax.name})")
    except (ImageError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic of a Rust decoder is no Exception
        raise UnreadableImage(f"pixel data cannot be decoded ({syntax.name})") from None
    if values.shape != (rows, columns):
        raise UnreadableImage("decoded picture has another size than Rows and Columns")
    values, more = _agreed(values, stream, dataset)
    return values, [*notes, *more]


def _frame(dataset: Dataset) -> bytes:
    """The one compressed frame, of however many fragments.

    Raises:
        NotARadiograph: several frames, whatever NumberOfFrames says.
        UnreadableImage: the fragments are damaged.
    """
    from pydicom.encaps import generate_fragments

    try:
        fragments = list(generate_fragments(dataset.PixelData))[1:]
    except Exception:
        raise UnreadableImage("compressed pixel data is damaged") from None
    if not fragments:
        raise UnreadableImage("compressed pixel data is damaged")
    rle = dataset.file_meta.TransferSyntaxUID == RLE  # one fragment a frame (PS3.5 A.4.2)
    if sum(rle or fragment.startswith(STARTS) for fragment in fragments) > 1:
        raise NotARadiograph("several frames")
    return b"".join(fragments)


def _check_facts(stream: Codestream, rows: int, columns: int) -> None:
    if (stream.rows, stream.columns) != (rows, columns):
        raise UnreadableImage("compressed picture has another size than Rows and Columns")
    if stream.components != 1:
        raise UnreadableImage("compressed picture of several components under SamplesPerPixel 1")
    if not 2 <= stream.precision <= MOST_BITS:
        raise UnreadableImage(f"compressed values are not of 2 to {MOST_BITS} bits")


def _decode(stream: Codestream) -> tuple[np.ndarray, list[str]]:
    """Decoders that raise on damaged data; GDCM, which may end the process, where there is no other."""
    if stream.method == "jpeg-2000":
        from raddino.images.openjpeg import decode_jpeg2000

        return decode_jpeg2000(stream)
    if stream.method == "jpeg-ls":
        import jpeg_ls

        return jpeg_ls.decode(np.frombuffer(stream.data, np.uint8)), []
    if stream.method == "jpeg" and stream.precision == 8:
        from raddino.images.jpeg import decode_jpeg

        return decode_jpeg(stream.data)
    return _lossless(stream) if stream.method == "jpeg-lossless" else _gdcm(stream)


def _lossless(stream: Codestream) -> tuple[np.ndarray, list[str]]:
    """Lossless JPEG as of 16 bits, which moves every value by the same amount and cuts none off (T.81 H.1.2.1).

    A value outside the range of the stream's own precision then shows that bytes were altered.
    """
    at = next(at for marker, at in jpeg_segments(stream.data) if marker == LOSSLESS)
    data = stream.data[:at] + bytes([MOST_BITS]) + stream.data[at + 1 :]
    moved, notes = _gdcm(replace(stream, data=data, precision=MOST_BITS))
    values = moved - np.uint16((1 << MOST_BITS - 1) - (1 << stream.precision - 1))
    if values.max() >> stream.precision:
        notes, values = [COMPLAINT], values & np.uint16((1 << stream.precision) - 1)
    return values, notes


def _gdcm(stream: Codestream) -> tuple[np.ndarray, list[str]]:
    """JPEG of 12 or 16 bits, (H, W) uint16. GDCM wants BitsStored to be BitsAllocated, whatever the precision."""
    import gdcm

    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(stream.data)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((stream.columns, stream.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    syntax = gdcm.TransferSyntax.GetTSType(GDCM_SYNTAXES[stream.method])
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 16, 15, 0))
    raw = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM gives char* as str
    said = [line for line in printed().splitlines() if not line.startswith(GDCM_CHATTER)]
    return np.frombuffer(raw, np.uint16).reshape(stream.rows, stream.columns), [COMPLAINT] if said else []


def rle_words(dataset: Dataset) -> np.ndarray:
    """Unsigned words (H, W) of an RLE picture, no bit dropped.

    Each byte plane must give exactly its pixels and use up its bytes but for padding.
    """
    from rle.rle import decode_segment

    rows, columns, *_ = _sizes(dataset)
    planes = [
        decode_segment(segment) for segment in rle_segments(_frame(dataset), whole(dataset, "BitsAllocated") // 8)
    ]
    if any(len(plane) != rows * columns for plane in planes):
        raise UnreadableImage("RLE data is damaged")
    joined = np.stack([np.frombuffer(plane, np.uint8) for plane in planes], axis=-1)
    return joined.reshape(-1).view(f">u{len(planes)}").reshape(rows, columns)


def _agreed(values: np.ndarray, stream: Codestream | None, dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    """Values in a type of BitsAllocated, signed as PixelRepresentation says.

    Args:
        values: (H, W) as decoded: of JPEG 2000 with their sign, else bit patterns.
        stream: None where the data has no header of its own (RLE): bits above BitsStored are then dropped.
        dataset: the header.

    Raises:
        UnreadableImage: stream and header contradict each other, and the picture depends on who is right.
    """
    allocated, stored = whole(dataset, "BitsAllocated"), whole(dataset, "BitsStored")
    signed = whole(dataset, "PixelRepresentation") == 1
    if stream is None:
        values = values & (1 << stored) - 1
    precision, told = (stored, None) if stream is None else (stream.precision, stream.signed)
    low, high = int(values.min()), int(values.max())
    notes = []
    if signed and told is None:
        if precision < stored and high >> precision - 1:
            notes.append("compressed values have fewer bits than the header says: they were taken as not negative")
        values = _with_sign(values.astype(np.int32), stored if high < 1 << stored else precision)
        low, high = int(values.min()), int(values.max())
    elif told not in (None, signed) and (low < 0 or high >= 1 << min(precision, stored) - 1):
        raise UnreadableImage("PixelRepresentation is not that of the compressed values")
    if low < (-1 << stored - 1 if signed else 0) or high >= 1 << stored - signed:
        if precision == allocated == MOST_BITS:
            raise UnreadableImage("compressed values do not fit BitsStored")
        notes.append("compressed values have more bits than the header says: those of the stream were taken")
    narrow = allocated == 8 and low >= (-128 if signed else 0) and high < 1 << 8 - signed
    return values.astype(f"{'i' if signed else 'u'}{1 if narrow else 2}"), notes


def _with_sign(values: np.ndarray, bits: int) -> np.ndarray:
    """Two's complement bit patterns of so many bits as integers."""
    return np.where(values >> bits - 1 & 1, values - (1 << bits), values)


def _sizes(dataset: Dataset) -> tuple[int, int, int, int]:
    """Rows, Columns, frames (0, which some writers give, is 1), samples."""
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    return rows, columns, whole(dataset, "NumberOfFrames", 1) or 1, whole(dataset, "SamplesPerPixel", 1)


def whole(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """An element as an integer; missing or empty gives ``default``.

    Raises:
        UnreadableImage: no integer, and no default.
    """
    value: Any = default
    try:
        found = dataset.get(keyword)
        value = default if found in (None, "") else int(found)
    except Exception:
        value = None
    if value is None:
        raise UnreadableImage(f"{keyword} is missing or not a number")
    return value
