"""What a stream says of itself: its facts, its end, and refusal of junk."""

import io
import struct

import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image

from compressed_dicom import drawn, jpeg_blocks, jpeg_lossless
from raddino.images.codestream import read_codestream, rle_segments
from raddino.images.errors import UnreadableImage


def facts(stream: bytes) -> tuple:
    found = read_codestream(stream)
    return found.method, found.rows, found.columns, found.components, found.precision, found.signed


def pillow(mode: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(drawn(8, 33, 47)).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_facts_of_jpeg():
    assert facts(pillow("L")) == ("jpeg", 33, 47, 1, 8, None)
    assert facts(pillow("RGB", progressive=True)) == ("jpeg", 33, 47, 3, 8, None)
    assert facts(jpeg_blocks(drawn(12, 4, 5), 12)) == ("jpeg", 32, 40, 1, 12, None)
    assert facts(jpeg_lossless(drawn(7, 9, 11), 7)) == ("jpeg-lossless", 9, 11, 1, 7, None)


@pytest.mark.parametrize(("components", "bits", "signed"), [(1, 12, False), (1, 16, True), (3, 8, False)])
@pytest.mark.parametrize("wrapped", [0, 1])
def test_facts_of_jpeg_2000(components, bits, signed, wrapped):
    values = drawn(bits, 40, 50).astype(np.int64) - (2 ** (bits - 1) if signed else 0)
    values = values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    picture = values if components == 1 else np.stack([values] * 3, axis=-1)
    stream = encode_array(picture, bits_stored=bits, codec_format=wrapped)
    assert facts(stream) == ("jpeg-2000", 40, 50, components, bits, signed)
    assert read_codestream(stream).data == stream[stream.find(b"\xff\x4f\xff\x51") :]


def test_segments_before_the_frame_header_are_stepped_over():
    stream = jpeg_lossless(drawn(8, 9, 11), 8)
    comment = b"\xff\xfe" + struct.pack(">H", 20) + b"\xff\xc0\xff\xd9" + bytes(14)
    assert facts(stream[:2] + comment + b"\xff" + stream[2:]) == facts(stream)


@pytest.mark.parametrize("tail", [b"", b"\0", bytes(1000), b"\xff\xd9" * 3])
def test_what_follows_the_end_is_dropped(tail):
    for stream in (pillow("L"), jpeg_lossless(drawn(8), 8), encode_array(drawn(12), bits_stored=12)):
        assert read_codestream(stream + tail).data == stream


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95, 0.999])
def test_cut_streams_are_noticed(share):
    for stream in (pillow("L"), jpeg_lossless(drawn(8), 8), encode_array(drawn(12), bits_stored=12)):
        cut = stream[: int(len(stream) * share)]
        with pytest.raises(UnreadableImage):
            facts(cut.ljust(3, b"\0") if cut.startswith(b"\xff\xd8") else cut.ljust(4, b"\xff") + stream[:4])


def test_cut_jpeg_2000_that_someone_closed_again_is_noticed():
    stream = encode_array(drawn(12), bits_stored=12)
    for share in (0.2, 0.5, 0.95):
        with pytest.raises(UnreadableImage, match="cut short"):
            facts(stream[: int(len(stream) * share)] + b"\xff\xd9")


@pytest.mark.parametrize("marker", [0xC5, 0xC9, 0xCB, 0xCF])
def test_kinds_that_nothing_decodes_are_refused(marker):
    stream = jpeg_lossless(drawn(8), 8).replace(b"\xff\xc3", bytes([0xFF, marker]))
    with pytest.raises(UnreadableImage, match="hierarchical or arithmetic"):
        facts(stream)


def test_spread_samples_are_refused():
    stream = bytearray(encode_array(drawn(12), bits_stored=12))
    stream[43] = 2
    with pytest.raises(UnreadableImage, match="spread"):
        facts(bytes(stream))


def test_other_things_are_none():
    for junk in (b"", b"\xff", b"RIFF" + bytes(60), bytes(500)):
        assert read_codestream(junk) is None


@pytest.mark.parametrize("start", [b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "])
def test_junk_behind_a_signature_is_refused(start):
    rng = np.random.default_rng(0)
    for size in (0, 1, 5, 40, 300):
        for junk in (bytes(size), b"\xff" * size, rng.integers(0, 256, size, dtype=np.uint8).tobytes()):
            with pytest.raises(UnreadableImage):
                facts(start + junk)


def test_rle_segments_are_those_of_the_header():
    stream = struct.pack("<3I", 2, 64, 70).ljust(64, b"\0") + b"abcdefghij"
    assert rle_segments(stream, 2) == [b"abcdef", b"ghij"]
    for junk in (b"", stream[:64], bytes(200)):
        with pytest.raises(UnreadableImage):
            rle_segments(junk, 2)
