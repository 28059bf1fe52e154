"""What a manifest may say of how its images were taken."""

import numpy as np
import pandas as pd

from raddino.images.acquisition import ACQUISITION

TOLD = {
    "manufacturer": ("GE", "Philips", None), "model": ("DigitalDiagnost", "0f3c" * 5),
    "station": ("a1b2" * 5, "c3d4" * 5),
    "detector": ("SCINTILLATOR", None), "kvp": (125.0, 81.0, np.nan), "exposure_index": (1500.0, 210.0),
    "portable": (1.0, 0.0, np.nan), "year_band": ("2010-2014", "shifted"), "patient_position": ("ERECT", "SUPINE"),
}  # fmt: skip
"""Values of each column of :data:`ACQUISITION`, in turn."""


def with_acquisition(manifest: pd.DataFrame) -> pd.DataFrame:
    """A copy with all columns of the acquisition."""
    assert set(TOLD) == set(ACQUISITION)
    rows = np.arange(len(manifest))
    columns = {name: np.array(values, dtype=object)[rows % len(values)] for name, values in TOLD.items()}
    numbers = {name: columns[name].astype(float) for name in ("kvp", "exposure_index", "portable")}
    return manifest.assign(**columns | numbers)
