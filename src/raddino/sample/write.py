"""Writing one synthetic radiograph: 16-bit PNG or DICOM (digital X-ray, for presentation), and 8-bit masks."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Picture

from raddino.sample.projection import Array

if TYPE_CHECKING:
    from raddino.sample.studies import Image

BITS_STORED = 12
DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
_HUFFMAN_ONLY = 2


def write_png(path: Path, pixels: Array) -> None:
    """Write grey pixels (H, W), uint8 or uint16, fast rather than small; the file appears whole or not at all."""
    part = path.with_suffix(".part")
    strategy = {"compress_type": _HUFFMAN_ONLY} if pixels.dtype == np.uint16 else {}
    Picture.fromarray(pixels).save(part, "PNG", compress_level=1, **strategy)
    os.replace(part, path)


def write_dicom(path: Path, grey: Array, image: "Image") -> None:
    """Write grey levels (H, W) in [0, 1] as a DX object (PS3.3 A.26) of 12 stored bits.

    Three in ten are MONOCHROME1 (stored inverted). UIDs follow from (seed, index), so equal images are equal files.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    patient, scene = image.patient, image.scene
    seed, top = patient.seed, (1 << BITS_STORED) - 1
    name = f"S{seed}P{patient.index:06d}"
    inverse = is_monochrome1(seed, image.index)
    stored = np.round(grey * top).astype(np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DX_FOR_PRESENTATION
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["raddino", "image", str(seed), str(image.index)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=["raddino", "study", name, str(image.study)])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=["raddino", "series", str(seed), str(image.index)])
    data.PatientID, data.PatientName, data.PatientBirthDate = name, f"Synthetic^{name}", ""
    data.PatientSex, data.PatientAge = patient.sex, f"{patient.age:03d}Y"
    data.PatientWeight, data.PatientSize = f"{patient.weight:.1f}", f"{patient.height:.3f}"
    data.StudyDate = data.StudyTime = data.AccessionNumber = data.ReferringPhysicianName = ""
    data.StudyID, data.SeriesNumber, data.InstanceNumber = str(image.study), 1, 1
    data.Modality, data.Manufacturer, data.BodyPartExamined = "DX", "raddino (synthetic)", "CHEST"
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
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, BITS_STORED, BITS_STORED - 1, 0
    data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "LOG", 1 if inverse else -1
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "US"
    data.WindowCenter, data.WindowWidth = str((top + 1) / 2), str(top + 1)
    data.LossyImageCompression, data.AcquisitionContextSequence = "00", []
    data.PixelData = (top - stored if inverse else stored).astype("<u2").tobytes()
    part = path.with_suffix(".part")
    data.save_as(part, enforce_file_format=True)
    os.replace(part, path)


def is_monochrome1(seed: int, index: int) -> bool:
    """Whether the DICOM form of that image is stored inverted."""
    return bool(np.random.default_rng([seed, 13, index]).random() < 0.3)
