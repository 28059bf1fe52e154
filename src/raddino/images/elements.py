"""Values of DICOM elements that may be missing, empty, or not what their representation promises."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any

from raddino.images.facts import plausible

if TYPE_CHECKING:
    from pydicom import Dataset

LARGEST_NUMBER = 1e9


def told(dataset: Dataset, keyword: str) -> bool:
    """Whether an element is there and holds anything, readable or not."""
    element = dataset.get_item(keyword)
    if element is None or element.value is None:
        return False
    if isinstance(element.value, bytes):
        return bool(element.value.strip())
    return not isinstance(element.value, (str, MutableSequence)) or len(element.value) > 0


def unusable(dataset: Dataset, keyword: str) -> bool:
    """Whether an element says something other than the 0 that stands for unknown; ask where its value was of no use."""
    return told(dataset, keyword) and number(dataset, keyword) != 0


def values(dataset: Dataset, keyword: str | int) -> list[Any]:
    """All values of an element, by keyword or tag; none when it is missing, empty or cannot be parsed."""
    try:
        value = dataset[keyword].value if keyword in dataset else None
    except Exception:
        return []
    if value is None or (isinstance(value, str) and not value):
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def first(dataset: Dataset, keyword: str) -> Any:
    """The first value of an element, or None."""
    return next(iter(values(dataset, keyword)), None)


def text(dataset: Dataset, keyword: str) -> str:
    """The first value of an element as stripped text; missing or unparsable gives an empty string."""
    value = first(dataset, keyword)
    return "" if value is None else str(value).strip("\0 \t\r\n")


def number(dataset: Dataset, keyword: str) -> float | None:
    """The first value of an element as a finite number within 1e9, or None."""
    return plausible(first(dataset, keyword), -LARGEST_NUMBER, LARGEST_NUMBER)
