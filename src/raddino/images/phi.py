"""The PHI guard: which DICOM elements are read at all, and how identifiers become keyed hashes.

The key stays with the person who prepared the corpus.
"""

import hmac
import os
import secrets
import stat
from functools import lru_cache
from pathlib import Path
from unicodedata import normalize

from raddino.errors import RaddinoError

# The only DICOM elements the reader parses (PS3.6 keywords): what says how the pixels are to be read,
PIXEL_ELEMENTS = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation", "PixelData",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "PixelSpacing", "ImagerPixelSpacing",
    "PixelAspectRatio", "PresentationLUTShape", "FieldOfViewRotation", "FieldOfViewHorizontalFlip",
)  # fmt: skip
# what may be told,
FACT_ELEMENTS = (
    "Modality", "BodyPartExamined", "ViewPosition", "ViewCodeSequence", "PatientOrientation",
    "PresentationIntentType", "BurnedInAnnotation", "RecognizableVisualFeatures", "SOPClassUID", "ConversionType",
    "ImageType", "PatientSex", "PatientAge", "PatientWeight", "PatientSize", "DetectorType", "KVP", "ExposureIndex",
    "PatientPosition", "PatientOrientationCodeSequence",
)  # fmt: skip
# what is searched for words of ours (makers, models, PORTABLE, ERECT …) and repeated in no other way,
WORD_ELEMENTS = (
    "Manufacturer", "ManufacturerModelName", "StudyDescription", "SeriesDescription",
    "PerformedProcedureStepDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription",
)  # fmt: skip
# and what is hashed, or used up in an age and a band of years, and goes no further.
PRIVATE_ELEMENTS = (
    "PatientID", "StudyInstanceUID", "StationName", "PatientBirthDate", "StudyDate", "AcquisitionDate", "SeriesDate",
    "ContentDate",
)  # fmt: skip
ALLOWED_ELEMENTS = PIXEL_ELEMENTS + FACT_ELEMENTS + WORD_ELEMENTS + PRIVATE_ELEMENTS
# OverlayBitPosition repeats in groups 6000 to 601E: which unused bits of a pixel hold a drawing.
OVERLAY_BIT_POSITIONS = tuple(range(0x6000_0102, 0x6020_0102, 0x2_0000))
DIGITS = 20
SHORTEST_KEY = 16


def keyed_hash(key: str, kind: str, *parts: str) -> str:
    """20 hex digits (80 bits) of HMAC-SHA256 over ``kind`` and ``parts``.

    The same key gives the same hash on any machine and day; without the key neither the value nor a list of
    guesses can be checked against the hash.
    """
    mac = _mac(key).copy()
    mac.update("\0".join((kind, *parts)).encode("utf-8", "surrogatepass"))
    return mac.hexdigest()[:DIGITS]


@lru_cache(maxsize=4)
def _mac(key: str) -> hmac.HMAC:
    return hmac.new(key.encode(), digestmod="sha256")


def patient_hash(key: str, namespace: str, patient: str) -> str:
    """Pseudonym of a patient, the same in every corpus made with ``key``, wherever the number was read.

    Args:
        key: see :func:`load_key`.
        namespace: whose numbers they are: hospitals whose numbers may collide have one each.
        patient: number in a manifest or DICOM header, in any Unicode normalisation. ``IssuerOfPatientID`` is no
            part of it: it stands in some files of a person and lacks in others.
    """
    return keyed_hash(key, "patient", namespace, normalize("NFC", patient))


def study_hash(key: str, owner: str, study: str) -> str:
    """Pseudonym of a study; ``owner`` is its patient's pseudonym, or the namespace where there is none."""
    return keyed_hash(key, "study", owner, study)


def station_hash(key: str, namespace: str, station: str) -> str:
    """Pseudonym of an X-ray station; two hospitals with a namespace each may call theirs the same."""
    return keyed_hash(key, "station", namespace, _spelling(station))


def model_hash(key: str, model: str) -> str:
    """Pseudonym of a model that :func:`raddino.images.acquisition.parse_model` does not know."""
    return keyed_hash(key, "model", _spelling(model))


def _spelling(name: str) -> str:
    """Without regard to case, spaces and Unicode normalisation."""
    return " ".join(normalize("NFKC", name).casefold().split())


def key_name(key: str) -> str:
    """What tells one key from another and leads back to neither."""
    return keyed_hash(key, "key")


def load_key(key: str | None = None) -> str:
    """The hashing key: ``key``, else ``$RADDINO_KEY``, else the user's key file, made on first use.

    The file is ``$XDG_CONFIG_HOME/raddino/key`` (``~/.config/raddino/key``), readable by its owner only: one
    key per person, outside every corpus, so that a corpus may be shared without it.

    Raises:
        RaddinoError: the key has fewer than 16 characters, or the file can be read by others.
    """
    given = key if key is not None else os.environ.get("RADDINO_KEY")
    if given is not None:
        if len(given) < SHORTEST_KEY:
            raise RaddinoError(
                f"the hashing key needs at least {SHORTEST_KEY} characters, or patient numbers could be "
                "guessed from their hashes; leave it out to have one made"
            )
        return given
    path = key_path()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return load_key()
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32))
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise RaddinoError(f"the key file {path} can be read by other users; run: chmod 600 {path}")
    return load_key(path.read_text(encoding="utf-8").strip())


def key_path() -> Path:
    """Where the generated key lives."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "raddino" / "key"
