"""The nearest measurement within a window, against a search through all."""

import numpy as np
import pandas as pd

from raddino.corpus.sources.mimic_iv import nearest

NAN = float("nan")


def test_nearest_against_brute_force():
    rng = np.random.default_rng(0)
    subjects = pd.Series([f"{n}" for n in rng.integers(0, 12, 200)])
    dates = pd.Series(pd.Timestamp("2180-01-01") + pd.to_timedelta(rng.integers(0, 300, 200), "D"))
    dates[::17] = pd.NaT
    measured = pd.DataFrame(
        {
            "subject_id": [f"{n}" for n in rng.integers(0, 12, 150)],
            "date": pd.Timestamp("2180-01-01") + pd.to_timedelta(rng.integers(0, 300, 150), "D"),
            "value": np.arange(150.0),
        }
    )
    found = nearest(subjects, dates, measured, 20)
    for subject, date, value in zip(subjects, dates, found, strict=True):
        own = measured[measured["subject_id"] == subject]
        near = own[(own["date"] - date).abs() <= pd.Timedelta(days=20)] if date == date else own[:0]
        order = sorted(zip((near["date"] - date).abs(), near["date"], -near.index, near["value"], strict=True))
        np.testing.assert_equal(value, order[0][3] if order else NAN)
