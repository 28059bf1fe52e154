"""Texts of the command line to values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from raddino.config import parse_yaml, validate
from raddino.errors import ConfigError

if TYPE_CHECKING:
    from raddino.benchmark.suite import CrossValidation


def pairs(option: str, texts: list[str] | None, example: str) -> dict[str, str]:
    """``["a=b"]`` to ``{"a": "b"}``."""
    found = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{option} takes {example.partition('=')[0]}=…, for example {example}; got {text!r}")
        found[key] = value
    return found


def number(option: str, text: str) -> float:
    """A finite number."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ConfigError(f"{option} takes numbers, got {text!r}")
    return found


def value(text: str) -> Any:
    """A YAML value: a number, true, false, a list or a word."""
    try:
        return parse_yaml(text)
    except ValueError:
        raise ConfigError(f"--option takes a YAML value after the equals sign, got {text!r}") from None


def settings(texts: list[str] | None) -> dict[str, dict[str, Any]]:
    """``["segmentation.head=upernet"]`` to ``{"segmentation": {"head": "upernet"}}``."""
    found: dict[str, dict[str, Any]] = {}
    for key, text in pairs("--set", texts, "segmentation.head=upernet").items():
        kind, dot, name = key.partition(".")
        if not dot or not name:
            raise ConfigError(f"--set takes KIND.SETTING=VALUE, for example segmentation.head=upernet; got {key!r}")
        found.setdefault(kind, {})[name] = value(text)
    return found


def several(option: str, texts: list[str] | None, example: str) -> dict[str, list[str]]:
    """``["a=b", "a=c,d"]`` to ``{"a": ["b", "c", "d"]}``."""
    found: dict[str, list[str]] = {}
    for text in texts or []:
        for key, values in pairs(option, [text], example).items():
            found.setdefault(key, []).extend(value.strip() for value in values.split(",") if value.strip())
    return found


def analyses(text: str | None) -> list[str] | None:
    """Names between commas; ``"all"`` is every analysis, None the suite's own."""
    from raddino.benchmark.analyses.base import ANALYSES

    if text == "all":
        import raddino.benchmark.analyses  # noqa: F401  (registers them)

        return list(ANALYSES)
    return None if text is None else _between_commas(text)


def cross_validation(text: str | None) -> CrossValidation | None:
    """``"5x10"``: 5 folds, 10 repeats; None for None."""
    from raddino.benchmark.suite import CrossValidation

    if text is None:
        return None
    folds, times, repeats = text.partition("x")
    if not times or not folds.isdecimal() or not repeats.isdecimal():
        raise ConfigError(f"--cross-validate takes FOLDSxREPEATS, for example 5x10; got {text!r}")
    return validate(CrossValidation, {"folds": int(folds), "repeats": int(repeats)})


def names(option: str, text: str | None) -> list[str] | None:
    """Names between commas, at least one; None for None."""
    if text is None:
        return None
    if not (found := _between_commas(text)):
        raise ConfigError(f"{option} takes names between commas, got {text!r}")
    return found


def _between_commas(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
