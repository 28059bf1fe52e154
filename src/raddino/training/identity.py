"""What makes a folder a run, ``config.yaml`` and ``environment.json``: written, and compared when the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from raddino.config import diff, read_yaml
from raddino.encoders.kept_spec import weights_digest
from raddino.errors import ConfigError
from raddino.files import write_text
from raddino.training.seen import ENVIRONMENT
from raddino.training.settings import ASK, PretrainConfig

CONFIG, INIT = "config.yaml", "init"
SHOWN = 16


def initial_weights(init: str | None) -> str | None:
    """What a run keeps of its ``init``: a name as it is, of weights at a place their digest and not the place."""
    digest = weights_digest(init) if init else ""
    return f"weights {digest[:SHOWN]}" if digest else init


def refuse_change(
    out: Path, config: PretrainConfig, environment: dict[str, Any], told: dict[str, Any], fork: bool
) -> None:
    """Refuse a run with another config unless it is forked.

    Args:
        out: folder of the run.
        config, environment: as it is asked for now.
        told: ``environment.json`` as the folder holds it.
        fork: go on all the same.

    Raises:
        ConfigError: what has changed.
    """
    if not (out / CONFIG).is_file():
        return
    defaults = json.loads(PretrainConfig(compile=config.compile).model_dump_json())
    old = {"corpus": told.get("corpus", {})} | _filled(read_yaml(out / CONFIG), defaults)
    new = {"corpus": environment["corpus"]} | json.loads(config.model_dump_json())
    old["sharding"] = new["sharding"]  # decides where weights lie, not what is computed
    if INIT in told:
        old[INIT], new[INIT] = told[INIT], environment[INIT]
    if not fork and (changes := diff(old, new)):
        raise ConfigError(
            f"{out} holds a run with another config ({'; '.join(changes)}): "
            "give another --out, undo the change, or pass --fork to go on with it"
        )


def write_identity(out: Path, config: PretrainConfig, environment: dict[str, Any]) -> None:
    """``environment.json``, then ``config.yaml``, which makes the folder a run; neither says where weights lie."""
    said = json.loads(config.model_dump_json())
    if environment[INIT] != config.init:
        said[INIT] = ASK
    for name, text in (
        (ENVIRONMENT, json.dumps(environment, indent=2) + "\n"),
        (CONFIG, yaml.safe_dump(said, sort_keys=False)),
    ):
        write_text(out / name, text)


def _filled(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """A run's config; settings that it is older than have their defaults."""
    return defaults | {
        key: _filled(value, there)
        if isinstance(value, dict) and isinstance(there := defaults.get(key), dict)
        else value
        for key, value in values.items()
    }
