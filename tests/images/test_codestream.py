"""Cut and altered compressed streams are noticed; sound ones are not accused."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raddino.images.codestream import jpeg2000_is_sound, jpeg2000_shape, jpeg_shape
from raddino.images.errors import UnreadableImage


def texture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = rng.normal(size=(height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.clip(2000 + 500 * coarse + rng.normal(0, 40, (height, width)), 0, 4095).astype(np.uint16)


def encode(image: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG2000", no_jp2=True, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module", params=["lossless", "lossy"])
def stream(request) -> bytes:
    lossy = {"irreversible": True, "quality_mode": "rates", "quality_layers": [8]}
    return encode(texture(300, 260), **(lossy if request.param == "lossy" else {}))


def test_shape_of_jpeg2000(stream):
    assert jpeg2000_shape(stream) == (300, 260)
    assert jpeg2000_shape(stream + b"\0") == (300, 260)


def test_sound_stream_is_sound(stream):
    assert jpeg2000_is_sound(stream)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_cut_jpeg2000_is_noticed(stream, share):
    cut = stream[: int(len(stream) * share)]
    with pytest.raises(UnreadableImage):
        jpeg2000_shape(cut)
    with pytest.raises(UnreadableImage):  # also when someone closed it again
        jpeg2000_shape(cut + b"\xff\xd9")


@pytest.mark.parametrize("seed", range(4))
def test_altered_jpeg2000_is_noticed(stream, seed):
    rng = np.random.default_rng(seed)
    altered = bytearray(stream)
    start = int(rng.integers(len(stream) // 3, len(stream) * 2 // 3))
    altered[start : start + 1500] = rng.integers(0, 144, 1500, dtype=np.uint8).tobytes()
    assert jpeg2000_is_sound(bytes(altered)) is False


def test_junk_is_refused():
    for junk in (b"", b"\xff\x4f", b"\xff\x4f\xff\x51" + bytes(200), bytes(500)):
        with pytest.raises(UnreadableImage):
            jpeg2000_shape(junk)
        with pytest.raises(UnreadableImage):
            jpeg_shape(junk)


def test_shape_of_jpeg():
    buffer = io.BytesIO()
    Image.fromarray((texture(33, 47) // 16).astype(np.uint8)).save(buffer, "JPEG")
    assert jpeg_shape(buffer.getvalue()) == (33, 47)
    with pytest.raises(UnreadableImage, match="cut short"):
        jpeg_shape(buffer.getvalue()[:-40])


def test_real_lossy_files_are_sound(shared: Path):
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    folder = shared / "data" / "dicom"
    for name in ("genuine/rg1_jpeg2000_lossy_mono1.dcm", "not_chest/rg3_hand_jpeg2000_mono1.dcm"):
        frame = next(generate_frames(dcmread(folder / name).PixelData, number_of_frames=1))
        assert jpeg2000_is_sound(frame)
