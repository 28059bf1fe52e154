"""JPEG 2000 by the OpenJPEG library that pylibjpeg-openjpeg carries, whose warnings tell altered data from sound."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass

import numpy as np

from raddino.images.codestream import Codestream, find_segment
from raddino.images.errors import UnreadableImage

CODING_STYLE, PREDICTABLE_TERMINATION = 0xFF52, 0x10
TOLERATED_BYTES = 16  # sound encoders leave 0 to 3
COMPONENT_NUMBERS = ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd", "resno_decoded", "factor")
PARAMETERS_BYTES = 65536  # more than opj_dparameters_t takes
DAMAGED = "JPEG 2000 data looks damaged: part of the picture may be wrong"
UNCHECKED = "JPEG 2000 data could not be checked for damage on this platform"


class _Component(ctypes.Structure):
    """``opj_image_comp_t`` of OpenJPEG 2."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in COMPONENT_NUMBERS),
        ("data", ctypes.POINTER(ctypes.c_int32)),
        ("alpha", ctypes.c_uint16),
    ]


class _Image(ctypes.Structure):
    """``opj_image_t`` up to its components."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("x0", "y0", "x1", "y1", "numcomps")),
        ("color_space", ctypes.c_int),
        ("comps", ctypes.POINTER(_Component)),
    ]


@dataclass(frozen=True)
class _Decoded:
    values: np.ndarray | None
    messages: list[str]


def decode_jpeg2000(stream: Codestream) -> tuple[np.ndarray, list[str]]:
    """Values (H, W) int32 of a grey picture, and a note where it looks damaged.

    The coding passes of a sound stream use up every code block's bytes; altered ones leave, or miss, tens to hundreds.
    OpenJPEG looks after that when a stream claims predictable termination, which changes no value, so a copy claims it.

    Raises:
        UnreadableImage: OpenJPEG gives no picture.
    """
    copy = bytearray(stream.data)
    copy[find_segment(stream.data, CODING_STYLE) + 12] |= PREDICTABLE_TERMINATION
    found = _decode(bytes(copy))
    if found is None:
        return _unchecked(stream), [UNCHECKED]
    if found.values is None or found.values.shape != (stream.rows, stream.columns):
        raise UnreadableImage("JPEG 2000 data cannot be decoded")
    counts = [re.search(r"PTERM check failure: (\d+)", message) for message in found.messages]
    sound = all(count is not None and int(count[1]) <= TOLERATED_BYTES for count in counts)
    return found.values, [] if sound else [DAMAGED]


def _unchecked(stream: Codestream) -> np.ndarray:
    from openjpeg.utils import decode_pixel_data

    kind = f"{'i' if stream.signed else 'u'}{1 if stream.precision <= 8 else 2 if stream.precision <= 16 else 4}"
    return np.frombuffer(decode_pixel_data(stream.data, version=2), kind).reshape(stream.rows, stream.columns)


def _decode(stream: bytes) -> _Decoded | None:
    """The first component and all warnings and errors; None where the platform's build hides its functions."""
    import _openjpeg  # the compiled part of pylibjpeg-openjpeg

    library = ctypes.CDLL(_openjpeg.__file__)
    try:
        for name in ("opj_create_decompress", "opj_stream_default_create"):
            getattr(library, name).restype = ctypes.c_void_p
    except AttributeError:
        return None
    messages: list[str] = []
    position = 0

    @ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p)
    def hear(message, _):
        messages.append(message.decode("ascii", "replace"))

    @ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    def read(buffer, size, _):
        nonlocal position
        part = stream[position : position + size]
        ctypes.memmove(buffer, part, len(part))
        position += len(part)
        return len(part) or ctypes.c_size_t(-1).value

    @ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    def skip(size, _):
        nonlocal position
        position += size
        return size

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_void_p)
    def seek(target, _):
        nonlocal position
        position = target
        return 1

    codec = ctypes.c_void_p(library.opj_create_decompress(0))
    source = ctypes.c_void_p(library.opj_stream_default_create(1))
    image = ctypes.POINTER(_Image)()
    library.opj_stream_set_read_function(source, read)
    library.opj_stream_set_skip_function(source, skip)
    library.opj_stream_set_seek_function(source, seek)
    library.opj_stream_set_user_data(source, None, None)
    library.opj_stream_set_user_data_length(source, ctypes.c_uint64(len(stream)))
    library.opj_set_warning_handler(codec, hear, None)
    library.opj_set_error_handler(codec, hear, None)
    parameters = ctypes.create_string_buffer(PARAMETERS_BYTES)
    library.opj_set_default_decoder_parameters(parameters)
    library.opj_setup_decoder(codec, parameters)
    values = None
    if library.opj_read_header(source, codec, ctypes.byref(image)) and library.opj_decode(codec, source, image):
        first = image.contents.comps[0]
        if first.data:
            values = np.ctypeslib.as_array(first.data, (first.h, first.w)).copy()
    library.opj_stream_destroy(source)
    library.opj_destroy_codec(codec)
    library.opj_image_destroy(image)
    return _Decoded(values, messages)
