"""Sex, age, weight and BMI of MIMIC-CXR's patients from MIMIC-IV, whose dates are shifted alike.

Tables: https://mimic.mit.edu/docs/iv/modules/hosp/ (patients, omr) and .../icu/chartevents.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from raddino.corpus.sources.base import Incomplete, find, numbers, read_table

TABLES = ("hosp/patients.csv", "hosp/omr.csv")
CHARTS = "icu/chartevents.csv"
OLDEST_KNOWN = 89
POUND, INCH = 0.45359237, 2.54
OMR = {"Weight (Lbs)": ("weight", POUND), "BMI (kg/m2)": ("bmi", 1.0), "Height (Inches)": ("height", INCH)}
CHART_ITEMS = {
    "226512": ("weight", 1.0),
    "224639": ("weight", 1.0),
    "226531": ("weight", POUND),
    "226730": ("height", 1.0),
    "226707": ("height", INCH),
}
"""Admission weight (kg), daily weight (kg), admission weight (lbs), height (cm), height (in)."""
PLAUSIBLE = {"weight": (20, 400), "height": (100, 230), "bmi": (8, 120)}
CHUNK = 1_000_000
DAY = "datetime64[ns]"


def demographics(folder: Path, subjects: pd.Series, dates: pd.Series) -> pd.DataFrame:
    """Sex, and age at the study: ``anchor_age`` plus the years since ``anchor_year``.

    Ages above 89 are not known: MIMIC-IV writes 91 for all of them.

    Args:
        folder: of MIMIC-IV.
        subjects: (N,) ``subject_id`` as text.
        dates: (N,) of the studies, NaT where unknown.

    Returns:
        (N, 2) ``sex`` and ``age`` in years.
    """
    people = read_table(folder, TABLES[0], ["subject_id", "gender", "anchor_age", "anchor_year"])
    people = people.drop_duplicates("subject_id").set_index("subject_id").reindex(subjects)
    age = numbers(people["anchor_age"]) + dates.dt.year.to_numpy() - numbers(people["anchor_year"])
    known = (numbers(people["anchor_age"]) <= OLDEST_KNOWN) & age.between(0, OLDEST_KNOWN)
    return pd.DataFrame({"sex": people["gender"].to_numpy(), "age": age.where(known).to_numpy()}, index=subjects.index)


def body_size(folder: Path, subjects: pd.Series, dates: pd.Series, window_days: int, chartevents: bool) -> pd.DataFrame:
    """Weight and BMI measured nearest to each study.

    A measurement counts when it lies at most ``window_days`` days before or after the day of the study; of two
    equally near ones the earlier counts, of several on a day the last. Implausible values (weight outside 20 to 400
    kg, BMI 8 to 120, height 100 to 230 cm) are passed over. Where no BMI was written down, it follows from weight and
    height, both within the window.

    Returns:
        (N, 2) ``weight`` in kg and ``bmi`` in kg/m², NaN where nothing lies in the window.
    """
    wanted = set(subjects)
    parts = [_measurements(folder, TABLES[1], ("chartdate", "result_name", "result_value"), OMR, wanted)]
    if chartevents:
        parts.append(_measurements(folder, CHARTS, ("charttime", "itemid", "valuenum"), CHART_ITEMS, wanted))
    all_of = pd.concat(parts, ignore_index=True)
    linked = {
        quantity: nearest(subjects, dates, all_of[all_of["quantity"] == quantity], window_days)
        for quantity in PLAUSIBLE
    }
    derived = linked["weight"] / (linked["height"] / 100) ** 2
    return pd.DataFrame({"weight": linked["weight"].round(2), "bmi": linked["bmi"].fillna(derived).round(2)})


def nearest(subjects: pd.Series, dates: pd.Series, measurements: pd.DataFrame, window_days: int) -> pd.Series:
    """The value of the subject's measurement nearest in days, NaN beyond the window; ties go to the earlier.

    Args:
        subjects: (N,). dates: (N,) days.
        measurements: ``subject_id``, ``date`` (a day), ``value``; of several on a day the last row counts.
        window_days: greatest distance.
    """
    table = measurements.drop_duplicates(["subject_id", "date"], keep="last").sort_values("date")
    table = table[["subject_id", "date", "value"]].astype({"subject_id": object, "date": DAY})
    table["measured"] = table["date"]
    studies = pd.DataFrame({"subject_id": subjects.astype(object), "date": dates.astype(DAY)})
    studies = studies[studies["date"].notna()].sort_values("date", kind="stable").reset_index(names="row")
    tolerance = pd.Timedelta(days=window_days)
    sides = {
        side: pd.merge_asof(studies, table, on="date", by="subject_id", direction=side, tolerance=tolerance)
        for side in ("backward", "forward")
    }
    before = (sides["backward"]["date"] - sides["backward"]["measured"]).dt.days
    after = (sides["forward"]["measured"] - sides["forward"]["date"]).dt.days
    later = before.isna() | (after < before)
    value = sides["backward"]["value"].where(~later, sides["forward"]["value"])
    return pd.Series(value.to_numpy(), index=studies["row"]).reindex(subjects.index).astype(float)


def _measurements(
    folder: Path, entry: str, columns: tuple[str, str, str], items: dict[str, tuple[str, float]], wanted: set[str]
) -> pd.DataFrame:
    """Rows of the wanted subjects and items, read in pieces: ``subject_id``, ``date``, ``quantity``, ``value``."""
    path, (when, what, value) = find(folder, entry), columns
    if path is None:
        raise Incomplete(f"not found: {entry}")
    kept = []
    try:
        for piece in pd.read_csv(path, dtype=str, usecols=["subject_id", *columns], chunksize=CHUNK):
            kept.append(piece[piece[what].isin(items) & piece["subject_id"].isin(wanted)])
    except ValueError:
        raise Incomplete(f"{path.name} lacks one of the columns subject_id, {', '.join(columns)}") from None
    rows = pd.concat(kept, ignore_index=True)
    quantity = rows[what].map(lambda name: items[name][0])
    values = numbers(rows[value]) * rows[what].map(lambda name: items[name][1]).astype(float)
    low, high = (quantity.map(lambda name, end=end: PLAUSIBLE[name][end]).astype(float) for end in (0, 1))
    moment = pd.to_datetime(rows[when], errors="coerce")
    table = pd.DataFrame(
        {
            "subject_id": rows["subject_id"],
            "date": moment.dt.normalize(),
            "quantity": quantity,
            "value": values,
        }
    )
    usable = values.between(low, high) & moment.notna()
    return table.assign(moment=moment)[usable].sort_values("moment", kind="stable").drop(columns="moment")
