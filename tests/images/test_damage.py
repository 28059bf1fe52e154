"""What decoders of PNG, JPEG and TIFF pass over is noted; sound files of every kind are not accused."""

import io

import numpy as np
import pytest
from PIL import Image

from compressed_dicom import drawn
from raddino.images.damage import TIFF_DAMAGED, damage
from raddino.images.errors import UnreadableImage
from raddino.images.jpeg import DAMAGED
from raddino.images.raster import read_mask, read_raster
from raddino.images.wall import Wall

NOISE = np.random.default_rng(0).normal(0, 4, (200, 150))
GREY = np.clip(drawn(8, 200, 150) + NOISE, 0, 255).astype(np.uint8)
WAYS = [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg", "group4"]


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "P", "LA", "F"])
@pytest.mark.parametrize("way", WAYS)
def test_sound_tiffs_are_not_accused(mode, way):
    if (way == "jpeg" and mode not in ("L", "RGB")) or (way == "group4" and mode != "1"):
        pytest.skip("TIFF has no such thing")
    image = Image.fromarray(GREY)
    image = Image.fromarray(GREY.astype(np.uint16) * 9) if mode == "I;16" else image.convert(mode)
    data = encode(image, "TIFF", **({"compression": way} if way else {}))
    assert damage(data, "TIFF") == []
    assert damage(data + b"bytes behind the end", "TIFF") == []


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "P", "RGBA"])
def test_sound_pngs_are_not_accused(mode):
    image = Image.fromarray(GREY)
    image = Image.fromarray(GREY.astype(np.uint16) * 9) if mode == "I;16" else image.convert(mode)
    data = encode(image, "PNG", dpi=(72, 72))
    assert read_raster(data, "PNG").warnings == ()
    assert read_raster(data + b"bytes behind the end", "PNG").warnings == ()


@pytest.mark.parametrize("way", ["packbits", "tiff_adobe_deflate", "jpeg"])
def test_grossly_wrong_tiffs_are_noted(way):
    data = encode(Image.fromarray(GREY), "TIFF", compression=way)
    with Image.open(io.BytesIO(data)) as image:
        places = list(zip(image.tag_v2[273], image.tag_v2[279], strict=True))
    true = read_raster(data, "TIFF").pixels
    rng, noticed, silent = np.random.default_rng(0), 0, 0
    with Wall() as wall:
        for _ in range(150):
            altered = bytearray(data)
            start, size = places[rng.integers(len(places))]
            at = start + int(rng.integers(20 if way == "jpeg" else 2, size - 8))
            altered[at : at + 4] = rng.integers(0, 256, 4, dtype=np.uint8).tobytes()
            try:
                found = wall.call(read_raster, bytes(altered), "TIFF")
            except UnreadableImage:
                noticed += 1
                continue
            noticed += TIFF_DAMAGED in found.warnings
            silent += not found.warnings and np.corrcoef(found.pixels.ravel(), true.ravel())[0, 1] < 0.95
    assert noticed > 10
    assert silent <= noticed * 0.05


def test_altered_jpeg_files_get_the_note():
    data = encode(Image.fromarray(GREY), "JPEG", quality=90)
    assert read_raster(data, "JPEG").warnings == ()
    np.testing.assert_array_equal(read_raster(data, "JPEG").pixels, np.asarray(Image.open(io.BytesIO(data))))
    assert read_raster(data[:-2] + b"\x5a" * 9 + data[-2:], "JPEG").warnings == (DAMAGED,)
    colour = encode(Image.fromarray(GREY).convert("RGB"), "JPEG", quality=90)
    assert read_raster(colour, "JPEG").warnings == ()
    assert read_raster(colour[:-2] + b"\x5a" * 9 + colour[-2:], "JPEG").warnings == (DAMAGED,)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_damaged_masks_are_refused(kind):
    data = encode(Image.fromarray(GREY), kind, **({"compression": "packbits"} if kind == "TIFF" else {}))
    np.testing.assert_array_equal(read_mask(data, kind), GREY)
    if kind == "PNG":
        altered = data[:-8] + b"IENX" + data[-4:]
    else:
        with Image.open(io.BytesIO(data)) as image:
            last = image.tag_v2[273][-1] + image.tag_v2[279][-1] - 2
        altered = data[: last - 200] + b"\x80" * 200 + data[last:]
    with pytest.raises(UnreadableImage, match="damaged"):
        read_mask(altered, kind)


def test_a_turned_jpeg_is_still_turned():
    image = Image.fromarray(GREY)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_raster(encode(image, "JPEG", exif=exif), "JPEG").pixels.shape == (150, 200)
