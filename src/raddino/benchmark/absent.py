"""What could not be measured, and why, in words that a report may show."""

from __future__ import annotations

import errno
import logging
from typing import Any

from raddino.benchmark.results import public
from raddino.errors import RaddinoError, UnwritableError

log = logging.getLogger(__name__)


def absence(task: str | None, encoder: str | None, reason: str) -> dict[str, Any]:
    """An entry of ``absent`` in ``metrics.json``; None for all tasks, or for all encoders."""
    return {"task": task, "encoder": encoder, "reason": reason}


def reason_of(what: str, error: Exception) -> str:
    """What a report may say of a failure: our own words, of a foreign error only its kind.

    Raises:
        OSError: the failure itself, where a full disk or a lack of rights is to blame: it would cost what follows too.
    """
    if isinstance(error, UnwritableError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        raise error
    expected = isinstance(error, RaddinoError)
    log.warning("%s failed", what, exc_info=not expected)
    return public(str(error)) if expected else f"{what.split()[0]} failed with {type(error).__name__}"


def lost(failures: dict[str, dict[str, str]], tasks: list[str]) -> list[dict[str, Any]]:
    """Absences of the tasks that encoders failed on; an encoder that could not be loaded failed on all."""
    return [
        absence(task, encoder, reason)
        for encoder, failed in failures.items()
        for task in tasks
        if (reason := failed.get(task, failed.get("")))
    ]
