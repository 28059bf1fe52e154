"""Groups of images that a result may differ between: who was imaged, what is seen, and how the image was taken."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from raddino.tasks.base import TaskConfig

AGE_EDGES = (18, 40, 60, 80)
AGE_BANDS = ("<18", "18-39", "40-59", "60-79", "80+")
DEVICES = (
    "support_devices", "devices", "device", "pacemaker", "chest_drain", "chest_tube", "endotracheal_tube",
    "tracheostomy_tube", "nasogastric_tube", "central_venous_line", "central_venous_catheter", "catheter",
    "tubings", "monitoring_probes", "ecg_leads", "metal",
)  # fmt: skip
"""Labels ``label_<name>`` that count as a device in or on the patient."""
KVP_EDGES, KVP_BANDS = (90, 110), ("<90 kVp", "90-109 kVp", "110+ kVp")
THIRDS = ("low third", "middle third", "high third")
HASH = re.compile(r"[0-9a-f]{20}")
MOST_GROUPS, THE_REST = 12, "all others"
"""Models, stations and the like beyond the most frequent of the corpus are one group."""
ACQUIRED = (
    "manufacturer", "model", "station", "detector", "kvp band", "exposure index", "portable", "year band",
    "patient position",
)  # fmt: skip
"""Attributes that say how the image was taken."""


@dataclass(frozen=True)
class Attribute:
    """A partition of the images of a corpus.

    Attributes:
        name: as results call it.
        columns: of the manifest that it is read from.
        groups: (N,) name of each image's group, None where it is not known.
    """

    name: str
    columns: tuple[str, ...]
    groups: np.ndarray

    def is_target_of(self, task: TaskConfig) -> bool:
        """Whether a binary task asks for this very thing, which then is constant within each group."""
        return task.kind == "binary" and task.target in self.columns


def attributes(manifest: pd.DataFrame, names: tuple[str, ...] | None = None) -> list[Attribute]:
    """The attributes that the manifest knows of at least one image.

    Age bands are [0, 18), [18, 40), [40, 60), [60, 80) and 80 years and above; those of the tube voltage [0, 90),
    [90, 110) and 110 kVp and above. Exposure indices are thirds among the images of one manufacturer, whose scale is
    its own. A device is present where any label of :data:`DEVICES` is 1, and absent where all that are known are 0. Of
    an attribute of the acquisition with more than twelve groups the eleven largest stay, and the rest is one.

    Args:
        manifest: of the corpus.
        names: of ``sex``, ``age band``, ``view``, ``source``, ``device`` and :data:`ACQUIRED`; None for all.
    """
    devices = tuple(f"label_{name}" for name in DEVICES if f"label_{name}" in manifest)
    found = [Attribute(name, (name,), _text(manifest[name])) for name in ("sex", "view", "source") if name in manifest]
    if "age" in manifest:
        found.insert(1, Attribute("age band", ("age",), _bands(manifest["age"], AGE_EDGES, AGE_BANDS)))
    if devices:
        found.append(Attribute("device", devices, _device(manifest[list(devices)])))
    found += _acquired(manifest)
    return [
        one for one in found if (names is None or one.name in names) and any(group is not None for group in one.groups)
    ]


def _acquired(manifest: pd.DataFrame) -> list[Attribute]:
    """How images were taken, in the order of :data:`ACQUIRED`."""
    groups = {}
    for name in ACQUIRED:
        column = {"kvp band": "kvp"}.get(name, name.replace(" ", "_"))
        if column not in manifest:
            continue
        values = manifest[column]
        if name == "kvp band":
            groups[name] = Attribute(name, (column,), _bands(values, KVP_EDGES, KVP_BANDS))
        elif name == "exposure index":
            makers = manifest["manufacturer"] if "manufacturer" in manifest else pd.Series(None, manifest.index)
            groups[name] = Attribute(name, (column,), _thirds(values, makers))
        elif name == "portable":
            groups[name] = Attribute(name, (column,), _text(values.map({1: "portable", 0: "not portable"})))
        else:
            groups[name] = Attribute(name, (column,), _largest(_short(name, _text(values))))
    return list(groups.values())


def _text(values: pd.Series) -> np.ndarray:
    filled = values.replace("", None).astype(object)
    return filled.where(filled.notna(), None).to_numpy()


def _bands(values: pd.Series, edges: tuple[float, ...], names: tuple[str, ...]) -> np.ndarray:
    """The band of each number from 0 on; one that is equal to an edge is in the band above it."""
    numbers = pd.to_numeric(values, errors="coerce")
    bands = pd.cut(numbers, [0, *edges, np.inf], right=False, labels=list(names)).astype(object)
    return bands.where(bands.notna(), None).to_numpy()


def _thirds(values: pd.Series, makers: pd.Series) -> np.ndarray:
    """The third of each number among those of one maker, equal ones in one; None where a maker has fewer than three."""
    numbers = pd.to_numeric(values, errors="coerce")
    of = numbers.groupby(makers.fillna("").astype(str))
    share = (of.rank(method="average") - 0.5) / of.transform("count")
    share = share.where(of.transform("nunique") >= len(THIRDS))
    return _bands(share, (1 / 3, 2 / 3), THIRDS)


def _short(name: str, groups: np.ndarray) -> np.ndarray:
    """``groups`` with hashes cut to what can be read, ``station 1a2b3c4d``."""
    codes, different = pd.factorize(groups)
    words = [f"{name} {one[:8]}" if HASH.fullmatch(str(one)) else one for one in different]
    return np.array([*words, None], dtype=object)[codes]


def _largest(groups: np.ndarray) -> np.ndarray:
    """``groups`` in which the smallest are one where there are more than :data:`MOST_GROUPS`; of equal ones by name."""
    sizes = pd.Series(groups, dtype=object).value_counts()
    if len(sizes) <= MOST_GROUPS:
        return groups
    kept = sorted(sizes.index, key=lambda name: (-sizes[name], name))[: MOST_GROUPS - 1]
    return np.array([name if name is None or name in kept else THE_REST for name in groups], dtype=object)


def _device(labels: pd.DataFrame) -> np.ndarray:
    numbers = labels.apply(pd.to_numeric, errors="coerce")
    present, known = (numbers == 1).any(axis=1), numbers.isin([0, 1]).any(axis=1)
    groups = np.full(len(labels), None, dtype=object)
    groups[known], groups[present] = "no device", "device"
    return groups
