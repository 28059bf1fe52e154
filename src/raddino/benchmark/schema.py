"""What readers rely on in ``metrics.json``, which may have come from anyone; it may say more."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raddino.encoders.base import Provenance
from raddino.errors import RaddinoError

FORMAT = 1
MOST_ROWS = 200_000


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Difference(_Part):
    to: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    test: str | None = None


class _Drop(_Part):
    inside: str = Field(alias="from")
    value: float | None = None
    low: float | None = None
    high: float | None = None


class _Detail(_Part):
    tasks: list[str] = Field(default_factory=list)
    model: str = ""
    variant: str = ""
    options: dict[str, Any] | None = None
    folds: int = 0
    repeats: int = 0


class _Row(_Part):
    task: str
    encoder: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    median: float | None = None
    n: int = 0
    positives: int | None = None
    prevalence: float | None = None
    patients: int | None = None
    split: str = "test"
    resamples: int | None = None
    excluded: int | None = None
    interval: str = ""
    seed: int = 0
    seeds: int | None = None
    seed_mean: float | None = None
    seed_sd: float | None = None
    members: list[str] = Field(default_factory=list)
    listed: int = 0
    encoder_fingerprint: str | None = None
    data_fingerprint: str | None = None
    detail: _Detail | None = None
    difference: _Difference | None = None
    signature: str = ""
    site: str | None = None
    without: str | None = None
    drop: _Drop | None = None


class _Recognised(_Part):
    images: int
    seen: int


class _Encoder(_Part):
    name: str
    seen: str = ""
    fingerprint: str | None = None
    dim: int | None = None
    provenance: dict[str, Any] | None = None
    contamination: dict[str, str] | None = None
    recognised: dict[str, _Recognised] | None = None


class _Used(_Part):
    used: int
    left_out: int


class _Task(_Part):
    name: str
    kind: str = ""
    target: str = ""
    where: str | None = None
    site: str | None = None
    positive: str | int | float | None = None
    n: dict[str, int] | None = None
    by_source: dict[str, _Used] | None = None
    absent: dict[str, str] | None = None
    signatures: dict[str, str] | None = None


class _Asked(_Part):
    name: str
    kind: str = ""
    target: str = ""
    options: dict[str, Any] = Field(default_factory=dict)


class _Suite(_Part):
    description: str = ""
    tasks: list[_Asked] = Field(default_factory=list)
    probe: dict[str, Any] | None = None


class _LeftOut(_Part):
    skipped: dict[str, int] = Field(default_factory=dict)
    warnings: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class _Corpus(_Part):
    name: str = ""
    fingerprint: str | None = None
    images: int | None = None
    patients: int | None = None
    sources: dict[str, int] | None = None
    left_out: _LeftOut | None = None


class _Found(_Part):
    """A row of an analysis; which of the optional entries it must have says :data:`FOUND`."""

    task: str
    encoder: str | None
    metric: str | None
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    patients: int | None = None
    signature: str = ""
    reason: str | None = None
    role: str | None = None
    attribute: str | None = None
    group: str | None = None
    best: str | None = None
    worst: str | None = None
    best_value: float | None = None
    worst_value: float | None = None
    expected: float | None = None
    p_holm: float | None = None
    fraction: float | None = None
    seed_sd: float | None = None
    gallery: str | None = None
    k: int | None = None
    chance: float | None = None
    scaled: bool | None = None
    predicted: float | None = None
    temperature: float | None = None
    site: str | None = None
    recalibration: str | None = None
    other: str | None = None
    of: str | None = None
    reached: float | None = None
    leads: bool | None = None
    threshold: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    suspects: int | None = None
    fewest: float | None = None
    most: float | None = None
    id: str | None = None
    given: str | None = None
    suggested: str | None = None
    agree: int | None = None
    split: str | None = None
    source: str | None = None
    confounder: str | None = None
    drop: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    corruption: str | None = None
    severity: int | None = None
    level: float | None = None
    unit: str | None = None
    aggregate: bool = False
    members: list[str] = Field(default_factory=list)
    pairs: str | None = None


ANY = "any role"
FOUND: dict[str, dict[str, tuple[str, ...]]] = {
    "label_efficiency": {ANY: ("fraction",)},
    "retrieval": {ANY: ("gallery", "k")},
    "subgroups": {
        ANY: ("role", "attribute"),
        "group": ("group",),
        "gap": ("best", "worst", "best_value", "worst_value", "p_holm"),
    },
    "calibration": {
        ANY: ("role",),
        "bin": ("scaled", "predicted"),
        "summary": ("temperature",),
        "recalibrated": ("recalibration",),
    },
    "site_ranks": {
        ANY: ("role", "site"),
        "rank": ("encoder", "of", "reached"),
        "agreement": ("other",),
        "leader": ("encoder", "leads"),
    },
    "decision_curves": {ANY: ("role", "threshold"), "model": ("encoder", "gain")},
    "operating_points": {ANY: ("role", "encoder", "level", "threshold")},
    "label_noise": {
        ANY: ("role", "encoder"),
        "share": ("suspects",),
        "suspect": ("id", "given", "suggested", "agree", "split", "source"),
    },
    "confounders": {ANY: ("role", "confounder"), "stratum": ("group",), "stratified": ("drop",)},
    "robustness": {ANY: ("corruption", "severity")},
    "consistency": {ANY: ("pairs",)},
}
"""Entries that a row with a value has, by analysis and role; those of analyses that the package lacks are not read."""
PRESENT = {
    "label_efficiency": ("fraction",),
    "subgroups": ("role", "attribute", "group"),
    "calibration": ("role",),
}
"""Entries that every row has, perhaps without a value."""


class _Gap(_Part):
    task: str | None = None
    encoder: str | None = None
    reason: str


class _Metrics(_Part):
    rows: list[_Row] = Field(max_length=MOST_ROWS)
    encoders: list[_Encoder] = Field(default_factory=list)
    tasks: list[_Task] = Field(default_factory=list)
    absent: list[_Gap] = Field(default_factory=list)
    suite: _Suite = Field(default_factory=_Suite)
    analyses: dict[str, list[dict[str, Any]]] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    corpus: _Corpus = Field(default_factory=_Corpus)
    synthetic: bool | Literal["mixed"] | None = None
    seed: int = 0


def check_metrics(data: dict[str, Any], place: str, remedy: str) -> None:
    """Refuse what no evaluation writes.

    Args:
        data: of the file.
        place: names the file in errors.
        remedy: what the user can do.

    Raises:
        RaddinoError: another format, or a missing or wrong entry.
    """
    if data.get("format") != FORMAT:
        found = str(data.get("format"))[:40]
        raise RaddinoError(f"{place} has result format {found}; this version reads {FORMAT}: {remedy}")
    try:
        whole = _Metrics.model_validate(data)
        for one in whole.encoders:
            if one.provenance is not None:
                Provenance.from_dict(one.provenance)
        for name in whole.analyses.keys() & FOUND.keys():
            _check_analysis(name, whole.analyses[name], {one.name for one in whole.encoders})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:40] for part in first["loc"])
        raise RaddinoError(f"{place} is damaged ({where}: {first['msg']}): {remedy}") from None
    except RaddinoError as error:
        raise RaddinoError(f"{place} is damaged ({error}): {remedy}") from None


def _check_analysis(name: str, rows: list[dict[str, Any]], encoders: set[str]) -> None:
    """Refuse rows of an analysis that lack what its section of the report reads.

    Raises:
        RaddinoError: names the entry.
    """
    for place, given in enumerate(rows):
        row = _Found.model_validate(given)
        lacking = [key for key in PRESENT.get(name, ()) if key not in given]
        if row.value is None:
            lacking += ["reason"] if row.reason is None else []
        else:
            needed = ("n", "metric", *FOUND[name][ANY], *FOUND[name].get(row.role or "", ()))
            lacking += [key for key in needed if getattr(row, key) is None]
            if name == "robustness" and row.severity:
                worse = () if row.metric == "cosine" else ("drop", "drop_low", "drop_high")
                lacking += [key for key in ("level", "unit", *worse) if key not in given]
        if lacking:
            raise RaddinoError(f"analyses.{name}.{place}: no {lacking[0]}")
        if row.encoder is not None and row.encoder not in encoders:
            raise RaddinoError(f"analyses.{name}.{place}: an encoder that is not listed")
