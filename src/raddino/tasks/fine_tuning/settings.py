"""What is trained of an encoder, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from raddino.config import Config, validate
from raddino.errors import ConfigError

LAST = re.compile(r"last-(\d{1,3})")


class FineTuneConfig(Config):
    """One way of training an encoder with a linear head on the labels of a task.

    Attributes:
        method: ``"full"``: all weights; ``"last"``: those of the last blocks and of what follows them; ``"lora"``:
            low-rank updates of the linear layers in all blocks (Hu et al. 2021). The head is always trained.
        blocks: how many the last ones are.
        rank, alpha: of the updates, which are multiplied by alpha / rank.
        learning_rates: each is tried; of AdamW, after the warm-up.
        layer_decay: factor on the learning rate from one block to the one below it; of ``"lora"``, and of weights that
            were never trained, it is 1.
        weight_decay: of weights with two dimensions or more.
        steps: most optimiser steps of each learning rate, a cosine long.
        warmup: steps.
        batch_size: images a step.
        evaluate_every: steps between looks at validation.
        patience: looks without a better one before a learning rate is given up.
        augment: turn, move, scale and light the training images a little.
    """

    method: Literal["full", "last", "lora"]
    blocks: PositiveInt = 2
    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1e-5, 1e-4, 1e-3)
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.75
    weight_decay: NonNegativeFloat = 0.05
    steps: PositiveInt = 300
    warmup: Annotated[int, Field(ge=0)] = 30
    batch_size: PositiveInt = 32
    evaluate_every: PositiveInt = 50
    patience: PositiveInt = 4
    augment: bool = True

    @property
    def words(self) -> str:
        """How tables call it."""
        last = "last block" if self.blocks == 1 else f"last {self.blocks} blocks"
        return {"full": "fine-tuned", "last": last, "lora": f"LoRA {self.rank}"}[self.method]


def parse_fine_tune(value: Any) -> FineTuneConfig:
    """From itself, from a word (``"full"``, ``"last-2"``, ``"lora"``) or from a mapping.

    Raises:
        ConfigError: another word, key or value.
    """
    if isinstance(value, FineTuneConfig):
        return value
    if isinstance(value, str):
        found = LAST.fullmatch(value)
        value = {"method": "last", "blocks": int(found[1])} if found else {"method": value}
        if value["method"] not in ("full", "last", "lora"):
            raise ConfigError(f"fine_tune takes full, last-2 (any number) or lora, got {value['method']!r}")
    if not isinstance(value, Mapping):
        raise ConfigError(f"fine_tune takes full, last-2, lora, or settings with a method; got {value!r}")
    return validate(FineTuneConfig, dict(value))


FineTuneSetting = Annotated[FineTuneConfig, BeforeValidator(parse_fine_tune)]
"""Type of a config field that takes a word too."""
