"""Altered JPEG 2000 data is noticed; sound data is not accused, and its values are those of the library itself."""

import io
from pathlib import Path

import numpy as np
import pytest
from openjpeg.utils import decode_pixel_data
from PIL import Image

from raddino.images import openjpeg
from raddino.images.codestream import Codestream, read_codestream
from raddino.images.errors import UnreadableImage
from raddino.images.openjpeg import DAMAGED, UNCHECKED, decode_jpeg2000


def texture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = rng.normal(size=(height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.clip(2000 + 500 * coarse + rng.normal(0, 40, (height, width)), 0, 4095).astype(np.uint16)


def encode(image: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG2000", no_jp2=True, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module", params=["lossless", "lossy", "tiles"])
def stream(request) -> Codestream:
    lossy = {"irreversible": True, "quality_mode": "rates", "quality_layers": [8]}
    options = {"lossless": {}, "lossy": lossy, "tiles": {"tile_size": (64, 64)}}
    return read_codestream(encode(texture(300, 260), **options[request.param]))


def test_sound_streams(stream):
    values, notes = decode_jpeg2000(stream)
    expected = np.frombuffer(decode_pixel_data(stream.data, version=2), np.uint16).reshape(300, 260)
    np.testing.assert_array_equal(values, expected)
    assert notes == []


@pytest.mark.parametrize("seed", range(4))
def test_altered_data_is_noticed(stream, seed):
    rng = np.random.default_rng(seed)
    altered = bytearray(stream.data)
    start = int(rng.integers(len(altered) // 3, len(altered) * 2 // 3))
    altered[start : start + 1500] = rng.integers(0, 144, 1500, dtype=np.uint8).tobytes()
    assert decode_jpeg2000(Codestream(bytes(altered), *("jpeg-2000", 300, 260, 1, 16, False)))[1] == [DAMAGED]


def test_a_stream_of_another_size_is_refused(stream):
    with pytest.raises(UnreadableImage):
        decode_jpeg2000(Codestream(stream.data, *("jpeg-2000", 260, 300, 1, 16, False)))


def test_without_openjpegs_functions_it_is_said(stream, monkeypatch):
    monkeypatch.setattr(openjpeg, "_decode", lambda _: None)
    values, notes = decode_jpeg2000(stream)
    monkeypatch.undo()
    np.testing.assert_array_equal(values, decode_jpeg2000(stream)[0])
    assert notes == [UNCHECKED]


def test_real_lossy_files_are_sound(shared: Path):
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    folder = shared / "data" / "dicom"
    for name in ("genuine/rg1_jpeg2000_lossy_mono1.dcm", "not_chest/rg3_hand_jpeg2000_mono1.dcm"):
        frame = next(generate_frames(dcmread(folder / name).PixelData, number_of_frames=1))
        assert decode_jpeg2000(read_codestream(frame))[1] == []
