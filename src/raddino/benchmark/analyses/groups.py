"""Groups of images that a result may differ between: sex, age band, view, source, device present."""

from __future__ import annotations

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

    Age bands are [0, 18), [18, 40), [40, 60), [60, 80) and 80 years and above. A device is present where any label
    of :data:`DEVICES` is 1, and absent where all that are known are 0.

    Args:
        manifest: of the corpus.
        names: of ``sex``, ``age band``, ``view``, ``source`` and ``device``; None for all.
    """
    devices = tuple(f"label_{name}" for name in DEVICES if f"label_{name}" in manifest)
    found = [Attribute(name, (name,), _text(manifest[name])) for name in ("sex", "view", "source") if name in manifest]
    if "age" in manifest:
        found.insert(1, Attribute("age band", ("age",), _age_bands(manifest["age"])))
    if devices:
        found.append(Attribute("device", devices, _device(manifest[list(devices)])))
    return [
        one for one in found if (names is None or one.name in names) and any(group is not None for group in one.groups)
    ]


def _text(values: pd.Series) -> np.ndarray:
    filled = values.replace("", None).astype(object)
    return filled.where(filled.notna(), None).to_numpy()


def _age_bands(ages: pd.Series) -> np.ndarray:
    years = pd.to_numeric(ages, errors="coerce")
    bands = pd.cut(years, [0, *AGE_EDGES, np.inf], right=False, labels=list(AGE_BANDS)).astype(object)
    return bands.where(bands.notna(), None).to_numpy()


def _device(labels: pd.DataFrame) -> np.ndarray:
    numbers = labels.apply(pd.to_numeric, errors="coerce")
    present, known = (numbers == 1).any(axis=1), numbers.isin([0, 1]).any(axis=1)
    groups = np.full(len(labels), None, dtype=object)
    groups[known], groups[present] = "no device", "device"
    return groups
