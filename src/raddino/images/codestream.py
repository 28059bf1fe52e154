"""Compressed pictures inside DICOM: their own size, whether they end, and whether their data holds together.

Decoders return a picture for a JPEG 2000 stream that was cut or overwritten, and say nothing. The frame is
checked here before one sees it.
"""

from __future__ import annotations

import ctypes
import re
import struct

from raddino.images.errors import UnreadableImage

J2K_START = b"\xff\x4f\xff\x51"
J2K_STYLE, J2K_TILE_PART, J2K_END = 0xFF52, 0xFF90, 0xFFD9
MOST_COMPONENTS = 4
JPEG_END = b"\xff\xd9"
PREDICTABLE_TERMINATION = 0x10
TOLERATED_BYTES = 16  # sound encoders leave 0 to 3
PARAMETERS_BYTES = 65536  # more than opj_dparameters_t takes


def jpeg_shape(stream: bytes) -> tuple[int, int]:
    """(rows, columns) of a JPEG or JPEG-LS stream from its frame header.

    Raises:
        UnreadableImage: no frame header, or no end marker.
    """
    if JPEG_END not in stream[-16:]:
        raise UnreadableImage("JPEG stream is cut short")
    position = 2
    while position + 9 <= len(stream) and stream[position] == 0xFF:
        marker, length = stream[position + 1], int.from_bytes(stream[position + 2 : position + 4], "big")
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            rows, columns = struct.unpack(">HH", stream[position + 5 : position + 9])
            return rows, columns
        position += 1 if marker == 0xFF else 2 + length
    raise UnreadableImage("JPEG stream has no frame header")


def jpeg2000_shape(stream: bytes) -> tuple[int, int]:
    """(rows, columns) of a JPEG 2000 codestream (ISO 15444-1 Annex A), every tile part of which is there.

    Raises:
        UnreadableImage: no codestream, one that ends early, or one of more than four components.
    """
    stream = _codestream(stream)
    right, bottom, left, top = struct.unpack(">4I", stream[8:24])
    if int.from_bytes(stream[40:42], "big") > MOST_COMPONENTS:
        raise UnreadableImage("JPEG 2000 stream of many components")
    position = _find(stream, J2K_TILE_PART)
    while stream[position : position + 2] == struct.pack(">H", J2K_TILE_PART):
        (length,) = struct.unpack(">I", stream[position + 6 : position + 10].rjust(4, b"\0"))
        position = position + length if length else max(len(stream) - 16, stream.rfind(JPEG_END))
    if stream[position : position + 2] != struct.pack(">H", J2K_END):
        raise UnreadableImage("JPEG 2000 stream is cut short")
    return bottom - top, right - left


def jpeg2000_is_sound(stream: bytes) -> bool | None:
    """Whether the coding passes use up every code block's bytes, as they do unless bytes were altered.

    OpenJPEG makes this check when a stream claims predictable termination; the claim is made on a copy, and
    the library that pylibjpeg-openjpeg already carries is asked for its warnings. A sound encoder leaves at
    most a few bytes; altered ones leave, or miss, tens to hundreds.

    Returns:
        None where the platform's build does not show OpenJPEG's functions.
    """
    copy = bytearray(_codestream(stream))
    copy[_find(bytes(copy), J2K_STYLE) + 12] |= PREDICTABLE_TERMINATION
    messages = _decoder_messages(bytes(copy))
    if messages is None:
        return None
    counts = [re.search(r"PTERM check failure: (\d+)", message) for message in messages]
    return all(count is not None and int(count[1]) <= TOLERATED_BYTES for count in counts)


def _codestream(stream: bytes) -> bytes:
    """The bare codestream (a JP2 wrapping, not allowed in DICOM but met, is dropped)."""
    start = stream.find(J2K_START)
    if start < 0 or len(stream) < start + 48:
        raise UnreadableImage("JPEG 2000 stream has no header")
    return stream[start:]


def _find(stream: bytes, marker: int) -> int:
    """Position of a main-header marker segment, stepping over the segments before it."""
    position = 2
    while position + 4 <= len(stream):
        found, length = struct.unpack(">HH", stream[position : position + 4])
        if found == marker:
            return position
        if found == J2K_TILE_PART or found < 0xFF00 or length < 2:
            break
        position += 2 + length
    raise UnreadableImage("JPEG 2000 header is damaged")


def _decoder_messages(stream: bytes) -> list[str] | None:
    """OpenJPEG's warnings and errors on decoding a codestream; None where its functions cannot be reached."""
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
    image = ctypes.c_void_p()
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
    if library.opj_read_header(source, codec, ctypes.byref(image)):
        library.opj_decode(codec, source, image)
    library.opj_stream_destroy(source)
    library.opj_destroy_codec(codec)
    library.opj_image_destroy(image)
    return messages
