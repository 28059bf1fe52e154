"""Small sound files of every kind that raddino reads, and what they show."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from .jpeg import extended_jpeg, lossless_jpeg

HEIGHT, WIDTH = 64, 56
JPEG_12, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1 = (f"1.2.840.10008.1.2.4.{last}" for last in (51, 57, 70))
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


@dataclass(frozen=True)
class Seed:
    """One sound input.

    Attributes:
        kind: how it is tried: ``dicom``, ``raster``, ``mask``, ``manifest`` or the name of a folder's opener.
        format: its row of the table.
        name: of the file, whose suffix tells the mutator what it may understand.
        data: the bytes that are mutated.
        pixels: (H, W), what a reader must see, higher = brighter; None where nothing is seen.
        redundant: whether the format holds more than its pixels need, so that damage to them can be noticed.
        stream: the pixel data inside a DICOM file; damage that leaves it whole is damage to the header.
        beside: the other files of the folder, by relative name.
        gives: what a reader of the sound folder gets.
    """

    kind: str
    format: str
    name: str
    data: bytes = field(repr=False)
    pixels: np.ndarray | None = field(default=None, repr=False)
    redundant: bool = True
    stream: bytes = field(default=b"", repr=False)
    beside: dict[str, bytes] = field(default_factory=dict, repr=False)
    gives: tuple[np.ndarray, ...] = field(default=(), repr=False)


def picture(bits: int, seed: int = 0) -> np.ndarray:
    """(64, 56) uint8 or uint16 that uses all of ``bits``: a bright disc, bars and a little noise on a ramp."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    grey = (x + 2 * y) / 300 + 0.5 * (np.hypot(y - 28, x - 22) < 15) + 0.1 * (y % 16 < 5) + 0.02 * rng.random(x.shape)
    grey = (grey - grey.min()) / np.ptp(grey)
    return np.round(grey * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def disc() -> np.ndarray:
    """(64, 56) bool, the disc of :func:`picture`."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.hypot(y - 28, x - 22) < 15


def image_seeds() -> list[Seed]:
    """Every image format."""
    return [*_dicom_seeds(), *_raster_seeds()]


def _dicom_seeds() -> Iterator[Seed]:
    for name, bits, syntax in (
        ("implicit-16", 16, uid.ImplicitVRLittleEndian),
        ("explicit-8", 8, uid.ExplicitVRLittleEndian),
        ("explicit-12", 12, uid.ExplicitVRLittleEndian),
        ("big-endian-16", 16, uid.ExplicitVRBigEndian),
    ):
        yield _dicom("DICOM uncompressed", name, dataset(bits), bits, syntax, redundant=False)
    yield _dicom("DICOM uncompressed", "signed-12", dataset(12, signed=True), 12, redundant=False)
    turned = dataset(12, PhotometricInterpretation="MONOCHROME1")
    yield _dicom("DICOM uncompressed", "monochrome1-12", turned, 12, redundant=False, turned=True)
    yield _dicom("DICOM deflated", "deflated-12", dataset(12), 12, uid.DeflatedExplicitVRLittleEndian, redundant=False)
    for bits in (8, 16):
        yield _compressed("DICOM RLE", f"rle-{bits}", bits, uid.RLELossless)
    yield _framed("DICOM JPEG baseline", "baseline-8", 8, uid.JPEGBaseline8Bit, saved(picture(8), "JPEG", quality=92))
    for bits in (8, 12):
        stream = extended_jpeg(picture(bits), bits)
        yield _framed("DICOM JPEG extended", f"extended-{bits}", bits, JPEG_12, stream)
    for bits in (7, 8, 10, 12, 14, 16):
        stream = lossless_jpeg(picture(bits), bits)
        yield _framed("DICOM JPEG lossless", f"lossless-sv1-{bits}", bits, JPEG_LOSSLESS_SV1, stream)
    for bits, predictor in ((8, 4), (12, 6), (16, 7)):
        stream = lossless_jpeg(picture(bits), bits, predictor)
        yield _framed("DICOM JPEG lossless", f"lossless-p{predictor}-{bits}", bits, JPEG_LOSSLESS, stream)
    for bits in (8, 12, 16):
        yield _compressed("DICOM JPEG-LS", f"jls-{bits}", bits, uid.JPEGLSLossless)
    for bits in (8, 12):
        yield _compressed("DICOM JPEG-LS", f"jls-near-{bits}", bits, uid.JPEGLSNearLossless, jls_error=2)
    for bits in (8, 12, 16):
        yield _compressed("DICOM JPEG 2000", f"j2k-{bits}", bits, uid.JPEG2000Lossless)
    yield _compressed("DICOM JPEG 2000", "j2k-signed-12", 12, uid.JPEG2000Lossless, signed=True)
    for bits in (8, 12, 16):
        yield _compressed("DICOM JPEG 2000", f"j2k-lossy-{bits}", bits, uid.JPEG2000, j2k_cr=[4])


def _raster_seeds() -> Iterator[Seed]:
    grey, deep = picture(8), picture(16)

    def seed(format: str, name: str, data: bytes, pixels: np.ndarray = grey, redundant: bool = True) -> Seed:
        return Seed("raster", format, name, data, pixels.astype(np.float32), redundant)

    palette = Image.fromarray(grey).quantize(64)
    yield seed("PNG", "grey.png", saved(grey, "PNG"))
    yield seed("PNG", "deep.png", saved(deep, "PNG"), deep)
    yield seed("PNG", "palette.png", saved(_grey_palette(palette), "PNG"))
    yield seed("PNG", "interlaced.png", interlaced_png(grey))
    yield seed("JPEG", "grey.jpg", saved(grey, "JPEG", quality=92))
    yield seed("JPEG", "progressive.jpg", saved(grey, "JPEG", quality=92, progressive=True))
    yield seed("JPEG", "colour.jpg", saved(np.stack([grey] * 3, -1), "JPEG", quality=92))
    yield seed("JP2", "grey.jp2", saved(grey, "JPEG2000"))
    yield seed("JP2", "deep.jp2", saved(deep, "JPEG2000"), deep)
    yield seed("TIFF uncompressed", "raw.tif", saved(grey, "TIFF"), redundant=False)
    yield seed("TIFF uncompressed", "big-endian.tif", tiff(deep, byteorder=">"), deep, redundant=False)
    yield seed("TIFF uncompressed", "tiles.tif", tiff(deep, tile=(16, 16)), deep, redundant=False)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield seed("TIFF compressed", f"{compression}.tif", saved(grey, "TIFF", compression=compression))
    yield seed("TIFF compressed", "deep.tif", saved(deep, "TIFF", compression="tiff_adobe_deflate"), deep)
    yield seed("TIFF compressed", "tiles-deflate.tif", tiff(grey, tile=(16, 16), compression="zlib"))


def mask_seeds() -> list[Seed]:
    """Files and cells of a manifest's mask column, for the image of :func:`picture`."""
    mask = disc().astype(np.uint8) * 255
    zones = np.where(disc(), 1 + np.mgrid[:HEIGHT, :WIDTH][0] // 22, 0).astype(np.uint16)
    starts = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel(), [0]]).astype(int)))
    runs = " ".join(f"{a + 1} {b - a}" for a, b in starts.reshape(-1, 2))
    down = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [0]]).astype(int)))
    gaps = " ".join(str(one) for one in np.diff(np.concatenate([[0], down])))
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    corners = " ".join(f"{22 + 15 * np.cos(a):.2f},{28 + 15 * np.sin(a):.2f}" for a in angles)
    return [
        Seed("mask", "mask PNG", "mask.png", saved(mask, "PNG"), mask),
        Seed("mask", "mask PNG", "zones.png", saved(zones, "PNG"), zones),
        Seed("mask", "mask PNG", "bits.png", saved(Image.fromarray(mask).convert("1"), "PNG"), mask),
        Seed("mask", "mask TIFF", "mask.tif", saved(mask, "TIFF", compression="tiff_lzw"), mask),
        Seed("mask", "mask GIF", "mask.gif", saved(mask, "GIF"), mask),
        Seed("mask", "mask code", "runs.code", f"runs:{HEIGHT}x{WIDTH}:{runs}".encode(), mask, redundant=False),
        Seed("mask", "mask code", "gaps.code", f"gaps:{HEIGHT}x{WIDTH}:{gaps}".encode(), mask, redundant=False),
        Seed("mask", "mask code", "polygons.code", f"polygons:image:{corners}".encode(), mask, redundant=False),
        Seed("mask", "mask code", "union.code", b"union:sound.png|empty:", picture(8), redundant=False),
    ]


def manifest_seeds() -> list[Seed]:
    """A CSV and a Parquet manifest of three images beside them."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "path": ["a.png", "b.png", "c.png"],
            "id": ["one", "two", "three"],
            "patient_id": ["17", "18", "19"],
            "source": ["x", "x", "y"],
            "split": ["train", "val", "test"],
            "view": ["PA", "AP", "LATERAL"],
            "sex": ["M", "F", "F"],
            "age": [40.0, 63.5, None],
            "label_edema": [1, 0, -1],
            "labels": ["Effusion|Edema", "", "No Finding"],
            "mask_lungs": ["empty:", f"runs:{HEIGHT}x{WIDTH}:10 5", None],
            "report": ["Clear.", None, 'Small "effusion", left.'],
            "synthetic": [0, 0, 0],
        }
    )
    beside = {f"{name}.png": saved(picture(8, at), "PNG") for at, name in enumerate("abc")}
    parquet = io.BytesIO()
    table.to_parquet(parquet)
    return [
        Seed("manifest", "manifest CSV", "manifest.csv", table.to_csv(index=False).encode(), beside=beside),
        Seed("manifest", "manifest Parquet", "manifest.parquet", parquet.getvalue(), beside=beside),
    ]


def dataset(bits: int, signed: bool = False, **elements: Any) -> Dataset:
    """A DX chest radiograph that holds :func:`picture`; of a signed one half the values are below 0."""
    values = picture(bits).astype(np.int32) - ((1 << bits - 1) if signed else 0)
    allocated = 8 if bits <= 8 else 16
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "2.25.7"
    made.Modality, made.BodyPartExamined, made.ViewPosition = "DX", "CHEST", "PA"
    made.PatientName, made.PatientID, made.PatientSex, made.PatientAge = "Doe^Jane", "P-4711", "F", "052Y"
    made.StudyInstanceUID, made.StudyDate = "2.25.8", "20200102"
    made.PixelSpacing, made.WindowCenter, made.WindowWidth = ["0.2", "0.2"], "100", "200"
    made.RescaleSlope, made.RescaleIntercept = "1", "0"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = HEIGHT, WIDTH
    made.BitsAllocated, made.BitsStored, made.HighBit = allocated, bits, bits - 1
    made.PixelRepresentation = int(signed)
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    made.add_new("PixelData", "OW" if allocated == 16 else "OB", values.astype(f"<i{allocated // 8}").tobytes())
    return made


def _dicom(
    format: str,
    name: str,
    made: Dataset,
    bits: int,
    syntax: str = uid.ExplicitVRLittleEndian,
    redundant: bool = True,
    turned: bool = False,
) -> Seed:
    made.file_meta.TransferSyntaxUID = uid.UID(syntax)
    if syntax == uid.ExplicitVRBigEndian and made.BitsAllocated == 16:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    seen = picture(bits).astype(np.float32)
    stream = b"" if syntax == uid.DeflatedExplicitVRLittleEndian else made.PixelData
    return Seed("dicom", format, f"{name}.dcm", buffer.getvalue(), -seen if turned else seen, redundant, stream)


def _compressed(format: str, name: str, bits: int, syntax: str, signed: bool = False, **options: Any) -> Seed:
    made = dataset(bits, signed)
    made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    made.compress(syntax, generate_instance_uid=False, **options)
    return _dicom(format, name, made, bits, syntax)


def _framed(format: str, name: str, bits: int, syntax: str, stream: bytes) -> Seed:
    made = dataset(bits)
    made.add_new("PixelData", "OB", encapsulate([stream]))
    return _dicom(format, name, made, bits, syntax)


def saved(image: np.ndarray | Image.Image, format: str, **options: Any) -> bytes:
    """What Pillow writes."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, format, **options)
    return buffer.getvalue()


def tiff(image: np.ndarray, **options: Any) -> bytes:
    """What tifffile writes: tiles, and either order of bytes."""
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, photometric="minisblack", metadata=None, **options)
    return buffer.getvalue()


def interlaced_png(image: np.ndarray) -> bytes:
    """(H, W) uint8 as a PNG in the seven passes of Adam7, which Pillow reads and does not write."""
    passes = (image[top::down, left::across] for top, left, down, across in ADAM7)
    rows = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 0, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*one) for one in chunks)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _grey_palette(image: Image.Image) -> Image.Image:
    """A palette image whose colours are greys."""
    greys = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)[:, 1]
    image.putpalette(np.repeat(greys, 3).tobytes())
    return image
