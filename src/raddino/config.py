"""The strict base of every configuration, and how one is read from preset, YAML file and ``--set``."""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from raddino.errors import ConfigError, did_you_mean

PRESETS = Path(__file__).parent / "presets"
LARGEST_YAML, DEEPEST_YAML, MOST_NODES = 2**18, 32, 2**17
"""Bytes of a text, levels, and values with every alias written out."""
TAGS = ("null", "bool", "int", "float", "str", "seq", "map", "merge")
SHOWN = 100
C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base model: unknown keys, NaN and infinity are refused, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    """YAML's counterparts of JSON's types: dates are texts, a key stands once, aliases are bounded."""

    yaml_implicit_resolvers: ClassVar = {
        sign: [(tag, rule) for tag, rule in rules if not tag.endswith(":timestamp")]
        for sign, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.level = getattr(self, "level", 0) + 1
        if self.level > DEEPEST_YAML:
            raise ValueError("nested too deeply")
        repeated = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)  # of an alias, the very node that it names
        self.level -= 1
        sizes = self.__dict__.setdefault("sizes", {})
        if repeated and id(node) not in sizes:
            raise ValueError("an alias of what it stands in")
        if id(node) not in sizes:
            self._check(node)
            parts = [one for part in node.value for one in (part if isinstance(part, tuple) else (part,))]
            inner = 0 if isinstance(node.value, str) else sum(sizes[id(one)] for one in parts)
            sizes[id(node)] = 1 + inner
        if sizes[id(node)] > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES} values")
        return node

    def _check(self, node: Any) -> None:
        if node.tag.rpartition(":")[2] not in TAGS:
            raise ValueError(f"the type {node.tag.rpartition(':')[2]!r}, which is not taken")
        if isinstance(node, yaml.MappingNode):
            keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            for (_, key), count in keys.most_common(1):
                if count > 1:
                    raise ValueError(f"the key {key[:SHOWN]!r} twice")


def parse_yaml(text: str) -> Any:
    """A YAML text that anyone may have written, bounded in size, depth and aliases, as values of JSON's types.

    Raises:
        ValueError: what is wrong with it, in one line.
    """
    if len(text) > LARGEST_YAML:
        raise ValueError(f"more than {LARGEST_YAML // 1024} KiB")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())[:300] or type(error).__name__) from None


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
        if path.stat().st_size > 4 * LARGEST_YAML:
            raise ValueError(f"more than {LARGEST_YAML // 1024} KiB")
        values = parse_yaml(path.read_text(encoding="utf-8")) or {}
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8: give a YAML file of 'key: value' lines") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give a YAML file of 'key: value' lines") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
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
        key = ".".join(str(part)[:SHOWN] for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _known_keys(cls, first["loc"][:-1])
            raise ConfigError(
                f"unknown config key {key!r}.{did_you_mean(str(first['loc'][-1]), known)} "
                f"Known here: {', '.join(known)}."
            ) from None
        where = f"config key {key!r}" if key else "config"
        words = first["msg"].removeprefix("Value error, ")
        got = "" if isinstance(first["input"], dict) else f" (got {_short(first['input'])})"
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
        value = parse_yaml(text)
    except ValueError:
        raise ConfigError(f"--set {key}: {text!r} is not a YAML value; quote text that holds special signs") from None
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}…"


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
