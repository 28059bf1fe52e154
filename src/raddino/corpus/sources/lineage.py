"""What public data sets are made of: other names of the same images, and images that stand in two of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class Overlap(IntEnum):
    """How much of a data set that is tested lies in one that was seen; a larger number is more."""

    NONE = 0
    MAY = 1
    """Possible, and nobody published whether."""
    PART = 2
    WHOLE = 3


@dataclass(frozen=True)
class Part:
    """A data set whose images were taken from another.

    Attributes:
        name: of the part.
        whole: of the data set that its images come from.
        reference: where that is said.
    """

    name: str
    whole: str
    reference: str


@dataclass(frozen=True)
class Shown:
    """Images that were published openly, and collections of the open web or of articles that may have caught them.

    Attributes:
        name: of the data set.
        collections: that may hold its images.
        reference: where it is said how each was collected.
    """

    name: str
    collections: tuple[str, ...]
    reference: str


NAMES: dict[str, tuple[str, ...]] = {
    "nih": (
        "chestx-ray14", "chestx-ray8", "chest-xray14", "cxr14", "nih-cxr", "nih-cxr14", "nih-chestx-ray14",
        "nih-chestx-ray8", "nih-chest-xray", "nih-chest-x-rays",
    ),
    "rsna-pneumonia": ("rsna", "rsna-pneumonia-detection", "rsna-pneumonia-detection-challenge", "kaggle-rsna"),
    "siim-acr": ("siim", "siim-ptx", "siim-acr-ptx", "siim-pneumothorax", "siim-acr-pneumothorax"),
    "chestx-det": ("chestx-det10",),
    "mimic-cxr": ("mimic", "mimic-cxr-jpg", "mimic-cxr-v2"),
    "ms-cxr": (),
    "chest-imagenome": ("imagenome",),
    "chexpert": ("chexpert-plus", "chexpert-small", "chexpert-v1.0", "chexpert-v1.0-small"),
    "chexlocalize": (),
    "padchest": ("bimcv-padchest",),
    "padchest-gr": (),
    "vindr-cxr": ("vindr", "vinbigdata", "vinbigdata-chest-xray-abnormalities-detection"),
    "vindr-ribcxr": ("ribcxr",),
    "iu-xray": ("openi", "open-i", "indiana", "indiana-university", "iu-cxr", "iu-chest-x-ray", "nlmcxr"),
    "jsrt": ("scr", "jsrt-scr"),
    "montgomery": ("montgomery-county", "montgomeryset", "nlm-montgomerycxrset"),
    "shenzhen": ("chinaset", "chinaset-allfiles", "nlm-chinacxrset", "shenzhen-hospital"),
    "cohen": ("covid-chestxray", "covid-chestxray-dataset", "covid-19-image-data-collection"),
    "kermany": ("guangzhou", "chest-xray-pneumonia", "kermany-2018"),
    "brax": (),
    "candid-ptx": ("candid",),
    "chexmask": (),
    "pmc-15m": ("pmc15m",),
    "wit-400m": ("webimagetext",),
    "webli": (),
}  # fmt: skip
"""By name, other names of the same images; case and signs do not count."""

PARTS = (
    Part("rsna-pneumonia", "nih", "Shih et al., Radiology: AI 1(1):e180041 (2019)"),
    Part("siim-acr", "nih", "Filice et al., J Digit Imaging 33:490 (2020)"),
    Part("chestx-det", "nih", "README of github.com/Deepwise-AILab/ChestX-Det-Dataset"),
    Part("ms-cxr", "mimic-cxr", "Boecking et al., ECCV 2022, arXiv 2204.09817, section 3.1"),
    Part("chest-imagenome", "mimic-cxr", "Wu et al., arXiv 2108.00316"),
    Part("chexlocalize", "chexpert", "Saporta et al., Nat Mach Intell 4:867 (2022)"),
    Part("padchest-gr", "padchest", "Castro et al., arXiv 2411.05085"),
    Part("vindr-ribcxr", "vindr-cxr", "https://vindr.ai/datasets/ribcxr"),
)
"""Which data set was drawn from which. Two that were drawn from one may share images."""

UNIONS: dict[str, tuple[str, ...]] = {"chexmask": ("nih", "chexpert", "mimic-cxr", "padchest", "vindr-cxr")}
"""Data sets that hold the images of several whole ones (CheXmask: Gaggion et al., Scientific Data 11:511, 2024)."""

SHOWN = (
    Shown(
        "cohen",
        ("pmc-15m", "wit-400m", "webli"),
        "Cohen et al., arXiv 2003.11597 (figures of articles and websites); Zhang et al., arXiv 2303.00915 (figures of "
        "PubMed Central); Radford et al., arXiv 2103.00020, and Zhai et al., arXiv 2303.15343 (the open web)",
    ),
)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_CANONICAL = {_key(one): name for name, others in NAMES.items() for one in (name, *others)}


def canonical(name: str) -> str:
    """The name in :data:`NAMES` of a data set, or letters and digits of one that is not there."""
    return _CANONICAL.get(_key(name), _key(name))


def overlap(seen: str, tested: str) -> Overlap:
    """How much of the data set ``tested`` was seen by who saw ``seen``; both under any of their names.

    ``WHOLE``: they are one, or ``tested`` was drawn from ``seen``. ``PART``: ``seen`` was drawn from ``tested``.
    ``MAY``: both were drawn from one data set, or images shown openly may stand in a collection of the web.
    """
    grades = [max(_overlap(one, other) for one in _members(seen)) for other in _members(tested)]
    return grades[0] if min(grades) == max(grades) else min(max(grades), Overlap.PART)


def _members(name: str) -> tuple[str, ...]:
    name = canonical(name)
    return UNIONS.get(name, (name,))


def _overlap(seen: str, tested: str) -> Overlap:
    above, over = set(_wholes(seen)), set(_wholes(tested))
    if seen in over:
        return Overlap.WHOLE
    if tested in above:
        return Overlap.PART
    may = any({one.name, other} == {seen, tested} for one in SHOWN for other in one.collections)
    return Overlap.MAY if may or above & over else Overlap.NONE


def _wholes(name: str) -> Iterator[str]:
    """The data set itself and all that it was drawn from."""
    yield name
    for part in PARTS:
        if part.name == name:
            yield from _wholes(part.whole)
