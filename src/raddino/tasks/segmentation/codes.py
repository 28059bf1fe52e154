"""SNOMED CT codes of what DICOM SEG segments show (DICOM PS3.16, CID 7150 and 7151), found by class name."""

from __future__ import annotations

import re

Coded = tuple[str, str]
"""Code value in SNOMED CT, and its meaning."""

ANATOMY: Coded = ("123037004", "Anatomical Structure")
ABNORMAL: Coded = ("49755003", "Morphologically Abnormal Structure")
OBJECT: Coded = ("260787004", "Physical object")

FALLBACK: tuple[Coded, Coded] = (ANATOMY, ("91723000", "Anatomical Structure"))
"""Category and type of a class that no pattern names; the segment's label still says what it is."""

PATTERNS: tuple[tuple[str, Coded, Coded], ...] = (
    (r"pneumothorax", ABNORMAL, ("36118008", "Pneumothorax")),
    (r"effusion", ABNORMAL, ("60046008", "Pleural effusion")),
    (r"nodule", ABNORMAL, ("27925004", "Nodule")),
    (r"endotracheal|\bett\b", OBJECT, ("26412008", "Endotracheal tube")),
    (r"central venous|\bcvc\b", OBJECT, ("52124006", "Central venous catheter")),
    (r"pacemaker", OBJECT, ("14106009", "Cardiac pacemaker")),
    (r"nasogastric|feeding tube|\bngt\b", OBJECT, ("25062003", "Feeding tube")),
    (r"catheter", OBJECT, ("19923001", "Catheter")),
    (r"tube|tubing|drain|\bline", OBJECT, ("83059008", "Tube")),
    (r"upper", ANATOMY, ("281392002", "Upper zone of lung")),
    (r"middle", ANATOMY, ("281393007", "Middle zone of lung")),
    (r"lower", ANATOMY, ("281394001", "Lower zone of lung")),
    (r"\blungs?\b", ANATOMY, ("39607008", "Lung")),
    (r"mediastinum", ANATOMY, ("72410000", "Mediastinum")),
    (r"heart", ANATOMY, ("80891009", "Heart")),
    (r"\bribs?\b", ANATOMY, ("113197003", "Rib")),
    (r"clavicle", ANATOMY, ("51299004", "Clavicle")),
    (r"trachea", ANATOMY, ("44567001", "Trachea")),
    (r"airway", ANATOMY, ("89187006", "Airway structure")),
)


def codes_of(name: str) -> tuple[Coded, Coded]:
    """Property category and property type of a class; the first pattern found in its name decides.

    ``Upper``, ``middle`` and ``lower`` zones need the word lung or zone beside them.
    """
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
    for pattern, category, kind in PATTERNS:
        zone = pattern in ("upper", "middle", "lower")
        if re.search(pattern, words) and (not zone or re.search(r"\b(lung|zone)\b", words)):
            return category, kind
    return FALLBACK
