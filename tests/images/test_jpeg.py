"""Damage that JPEG's own redundancy shows is noticed; sound files are not accused."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compressed_dicom import drawn, jpeg_blocks
from raddino.images.jpeg import DAMAGED, decode_jpeg, jpeg_is_sound


def picture(height: int = 190, width: int = 203) -> Image.Image:
    """A drawn picture with noise, from black to white."""
    noise = np.random.default_rng(1).normal(0, 4, (height, width))
    return Image.fromarray(np.clip(drawn(8, height, width) + noise, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("quality", [20, 75, 90, 100])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 5}])
def test_sound_files_are_not_accused(quality, mode, options):
    for width in (203, 208, 9):
        data = jpeg(picture(width=width).convert(mode), quality=quality, **options)
        assert jpeg_is_sound(data)
        assert jpeg_is_sound(data + b"bytes behind the end")


def test_values_are_pillows():
    data = jpeg(picture(), quality=80)
    values, notes = decode_jpeg(data)
    np.testing.assert_array_equal(values, np.asarray(Image.open(io.BytesIO(data))))
    assert notes == []


@pytest.mark.parametrize("extra", [1, 2, 5, 9, 60])
def test_data_left_over_is_noticed(extra):
    data = jpeg(picture())
    assert not jpeg_is_sound(data[:-2] + b"\x5a" * extra + data[-2:])


def test_missing_data_is_noticed():
    data = jpeg(picture())
    for missing in (1, 2, 10, 300):
        assert not jpeg_is_sound(data[: -2 - missing] + data[-2:])
        assert decode_jpeg(data[: -2 - missing] + data[-2:])[1] == [DAMAGED]


@pytest.mark.parametrize("level", [-60, 300])
def test_means_outside_the_range_are_noticed(level):
    means = drawn(8, 12, 16).astype(int)
    assert jpeg_is_sound(jpeg_blocks(means, 8, 0xC0))
    means[6:] = level
    assert not jpeg_is_sound(jpeg_blocks(means, 8, 0xC0))


@pytest.mark.parametrize(("progressive", "most"), [(False, 0.15), (True, 0.1)])
def test_most_grossly_wrong_pictures_are_noticed(progressive, most):
    data = jpeg(picture(400, 410), quality=90, progressive=progressive)
    true = np.asarray(Image.open(io.BytesIO(data))).ravel()
    rng = np.random.default_rng(0)
    start, gross, silent = data.index(b"\xff\xda") + 10, 0, 0
    for _ in range(200):
        altered = bytearray(data)
        at = rng.integers(start, len(data) - 6)
        altered[at : at + 4] = rng.integers(0, 256, 4, dtype=np.uint8).tobytes()
        try:
            values, notes = decode_jpeg(bytes(altered))
        except Exception:
            continue
        if values.std() == 0 or np.corrcoef(values.ravel(), true)[0, 1] < 0.95:
            gross += 1
            silent += not notes
    assert gross >= 10
    assert silent <= most * gross


def test_real_files_are_not_accused(shared: Path):
    with open(shared / "data/manifest.csv", newline="", encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)][::20]
    assert [path for path in paths if not jpeg_is_sound((shared / "data" / path).read_bytes())] == []
