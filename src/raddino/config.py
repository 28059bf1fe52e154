"""The strict base of every configuration, and how one is read from preset, YAML file and ``--set``."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from raddino.errors import ConfigError, did_you_mean

PRESETS = Path(__file__).parent / "presets"
C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base model: unknown keys, NaN and infinity are refused, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def preset_names() -> list[str]:
    """Names that ``--preset`` takes."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping.

    Raises:
        ConfigError: the file is missing, cannot be read, is not YAML, or is not a mapping.
    """
    if not path.is_file():
        raise ConfigError(f"config file {path} does not exist")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8: give a YAML file of 'key: value' lines") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold 'key: value' lines, found a {type(values).__name__}")
    return values


def load_config(cls: type[C], preset: str | None = None, overrides: list[str] | None = None) -> C:
    """Build a config from a preset's name or a YAML file, then ``dotted.key=value`` overrides.

    Args:
        cls: the config class.
        preset: a name of :func:`preset_names`, a path to a YAML file, or None for the defaults.
        overrides: strings like ``"optim.lr=1e-4"``; values are YAML.

    Raises:
        ConfigError: unknown preset, key or value; one line, with the nearest known name.
    """
    values: dict[str, Any] = {}
    if preset is not None:
        path = Path(preset) if preset.endswith((".yaml", ".yml")) else PRESETS / f"{preset}.yaml"
        if not path.is_file() and not preset.endswith((".yaml", ".yml")):
            names = preset_names()
            raise ConfigError(
                f"unknown preset {preset!r}.{did_you_mean(preset, names)} Known: {', '.join(names)}, or a .yaml file."
            )
        values = read_yaml(path)
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes key=value, for example --set optim.lr=1e-4; got {override!r}")
        _assign(values, key.strip().split("."), _scalar(key, text))
    return validate(cls, values)


def validate(cls: type[C], values: dict[str, Any]) -> C:
    """``cls(**values)`` with pydantic's report turned into one line."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _known_keys(cls, first["loc"][:-1])
            raise ConfigError(
                f"unknown config key {key!r}.{did_you_mean(str(first['loc'][-1]), known)} "
                f"Known here: {', '.join(known)}."
            ) from None
        where = f"config key {key!r}" if key else "config"
        words = first["msg"].removeprefix("Value error, ")
        got = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
        raise ConfigError(f"{where}: {words}{got}") from None


def diff(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Lines ``key: old -> new`` for every leaf that differs between two nested mappings."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += diff(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before} -> {after}")
    return lines


def _scalar(key: str, text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}: {text!r} is not a YAML value; quote text that holds special signs") from None
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {'.'.join(path)}: {part!r} is a value, not a section")
    values[path[-1]] = value


def _known_keys(cls: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    for part in loc:
        field = cls.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        cls = field.annotation
    return list(cls.model_fields)
