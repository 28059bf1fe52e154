"""Writing one synthetic radiograph: 16-bit PNG or DICOM (digital X-ray, for presentation), 8-bit masks."""

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raddino.files import draft_of
from raddino.sample.projection import Array

if TYPE_CHECKING:
    from raddino.sample.studies import Image

BITS_STORED = 12


def write_png(path: Path, pixels: Array) -> None:
    """Write grey pixels (H, W), uint8 or uint16, as PNG; the file appears whole or never.

    One filter (Up) and zlib's run-length strategy: three times as fast as Pillow, and hardly larger.
    """
    height, width = pixels.shape
    depth = 8 * pixels.itemsize
    bytes_ = pixels.astype(">u2" if depth == 16 else np.uint8).view(np.uint8).reshape(height, -1)
    lines = np.full((height, bytes_.shape[1] + 1), 2, np.uint8)
    lines[0, 1:] = bytes_[0]
    np.subtract(bytes_[1:], bytes_[:-1], out=lines[1:, 1:])
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    data = packer.compress(lines.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    with draft_of(path) as draft, draft.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
            crc = zlib.crc32(kind + body)
            file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc))


def write_dicom(path: Path, grey: Array, image: "Image") -> None:
    """Write grey levels (H, W) in [0, 1] as a DX object (PS3.3 A.26) of 12 stored bits.

    Three in ten are MONOCHROME1, stored inverted. UIDs follow from (seed, index): equal images, equal files.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    patient, scene = image.patient, image.scene
    seed, top = patient.seed, (1 << BITS_STORED) - 1
    name = f"S{seed}P{patient.index:06d}"

    def uid(level: str, number: object) -> UID:
        return generate_uid(entropy_srcs=["raddino", level, str(seed), str(number)])

    inverse = is_monochrome1(seed, image.index)
    stored = np.round(grey * top).astype(np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = uid("image", image.index)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = uid("study", f"{name}E{image.study}")
    data.SeriesInstanceUID = uid("series", image.index)
    data.PatientID, data.PatientName, data.PatientBirthDate = name, f"Synthetic^{name}", ""
    data.PatientSex, data.PatientAge = patient.sex, f"{patient.age:03d}Y"
    data.PatientWeight, data.PatientSize = f"{patient.weight:.1f}", f"{patient.height:.3f}"
    data.StudyDate = data.StudyTime = data.AccessionNumber = data.ReferringPhysicianName = ""
    data.StudyID, data.SeriesNumber, data.InstanceNumber = str(image.study), 1, 1
    data.Modality, data.Manufacturer, data.BodyPartExamined = "DX", "raddino (synthetic)", "CHEST"
    if image.detector is not None:
        data.Manufacturer, data.DetectorType = image.detector.manufacturer, image.detector.kind
    data.ViewPosition = "LL" if scene.view == "LATERAL" else scene.view
    data.ImageLaterality, data.PatientOrientation = "U", ["A", "F"] if scene.view == "LATERAL" else ["L", "F"]
    data.ImageType, data.PresentationIntentType = ["DERIVED", "PRIMARY"], "FOR PRESENTATION"
    data.DerivationDescription = "Synthetic chest radiograph drawn by raddino; no patient was imaged."
    data.BurnedInAnnotation, data.PatientIdentityRemoved = "NO", "YES"
    data.DeidentificationMethod = "Synthetic"
    data.ImagerPixelSpacing = [f"{scene.camera.pitch * 10:.5f}"] * 2
    data.SamplesPerPixel, (data.Rows, data.Columns) = 1, grey.shape
    data.PhotometricInterpretation = "MONOCHROME1" if inverse else "MONOCHROME2"
    data.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, BITS_STORED, BITS_STORED - 1
    data.PixelRepresentation = 0
    data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "LOG", 1 if inverse else -1
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "US"
    data.WindowCenter, data.WindowWidth = str((top + 1) / 2), str(top + 1)
    data.LossyImageCompression, data.AcquisitionContextSequence = "00", []
    data.PixelData = (top - stored if inverse else stored).astype("<u2").tobytes()
    with draft_of(path) as draft:
        data.save_as(draft, enforce_file_format=True)


def is_monochrome1(seed: int, index: int) -> bool:
    """Whether the DICOM form of that image is stored inverted."""
    return bool(np.random.default_rng([seed, 13, index]).random() < 0.3)
