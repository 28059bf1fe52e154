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
    data_fingerprint: str | None = None
    detail: dict[str, Any] | None = None
    difference: _Difference | None = None
    signature: str = ""
    site: str | None = None
    drop: _Drop | None = None


class _Encoder(_Part):
    name: str
    seen: str = ""
    fingerprint: str | None = None
    provenance: dict[str, Any] | None = None
    contamination: dict[str, str] | None = None


class _Task(_Part):
    name: str
    kind: str = ""
    target: str = ""
    where: str | None = None
    site: str | None = None


class _Gap(_Part):
    task: str | None = None
    encoder: str | None = None
    reason: str


class _Metrics(_Part):
    rows: list[_Row] = Field(max_length=MOST_ROWS)
    encoders: list[_Encoder] = Field(default_factory=list)
    tasks: list[_Task] = Field(default_factory=list)
    absent: list[_Gap] = Field(default_factory=list)
    suite: dict[str, Any] = Field(default_factory=dict)
    analyses: dict[str, list[dict[str, Any]]] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    corpus: dict[str, Any] = Field(default_factory=dict)
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
        for one in _Metrics.model_validate(data).encoders:
            if one.provenance is not None:
                Provenance.from_dict(one.provenance)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:40] for part in first["loc"])
        raise RaddinoError(f"{place} is damaged ({where}: {first['msg']}): {remedy}") from None
    except RaddinoError as error:
        raise RaddinoError(f"{place} is damaged ({error}): {remedy}") from None
