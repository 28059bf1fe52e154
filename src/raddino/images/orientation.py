"""Whether a picture is stored as it is looked at; nothing is turned, a contradiction is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raddino.images.elements import number, says_yes, told, values

if TYPE_CHECKING:
    from pydicom import Dataset

USUAL = {"PA": ("LF",), "AP": ("LF",), "FRONTAL": ("LF",), "LATERAL": ("AF", "PF")}
"""Where rows and columns lead (PS3.3 C.7.6.1.1.1) in a picture hung for reading: a frontal one with the patient's
left on the right, feet down; a lateral one from either side."""
ANY_USUAL = ("LF", "AF", "PF")
OBLIQUE_USUAL = ("LF", "RF", "AF", "PF")


def orientation_notes(dataset: Dataset, view: str | None) -> list[str]:
    """Notes on PatientOrientation and FieldOfView elements that do not fit the view."""
    notes = []
    words = [str(value).strip().upper() for value in values(dataset, "PatientOrientation")]
    letters = "".join(word[:1] for word in words)
    if len(words) == 2 and len(letters) == 2 and set(letters) <= set("LRAPHF"):
        usual = USUAL.get(view or "", OBLIQUE_USUAL if view == "OBLIQUE" else ANY_USUAL)
        if letters not in usual:
            said = "\\".join(letters)
            if letters in ANY_USUAL:
                notes.append(f"PatientOrientation {said} contradicts the view {view}")
            else:
                notes.append(f"stored turned or mirrored: PatientOrientation is {said}")
    elif any(words) or (told(dataset, "PatientOrientation") and not words):
        notes.append("PatientOrientation cannot be read")
    rotations = values(dataset, "FieldOfViewRotation")
    turned = told(dataset, "FieldOfViewRotation") and (
        len(rotations) != 1 or number(dataset, "FieldOfViewRotation") not in (0, 360)
    )
    if turned or says_yes(dataset, "FieldOfViewHorizontalFlip"):
        notes.append("stored turned or mirrored: FieldOfViewRotation or FieldOfViewHorizontalFlip says so")
    return notes
