"""Settings of a segmentation task: what the mask says, which head reads the patches, how it is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from raddino.config import Config

Head = Literal["linear", "vitdet", "upernet"]
MaskValue = Annotated[int, Field(ge=0, le=65535)]
MOST_CLASSES = 24
MOST_PIXELS = 4096
BITS = 16
WANTED = {"values": "a mask value or several", "bits": "a bit number of 0 to 15", "columns": "a mask column"}


class SegmentationConfig(Config):
    """What is segmented, by what head, trained how.

    Attributes:
        coding: how the target's mask column is read. ``"values"``: one value a class, classes exclude each other;
            ``"bits"``: bit n of a value stands for class n, classes overlap; ``"columns"``: each class has a mask
            column of its own, in which everything above 0 that is not ignored is foreground, classes overlap.
        classes: name to mask value(s), to bit number, or to mask column (without ``mask_``).
        ignore: mask values whose pixels are neither trained nor scored.
        empty: pandas query over the manifest: images without a mask file whose mask is known to be empty, for example
            ``"label_pneumothorax == 0"``; other images without one are left out. With ``"columns"`` it says when every
            missing one is empty; without it an image needs all of them.
        pool_conventions: take masks together that sources draw in different ways (lungs with and without what lies
            behind the heart); a task that meets two is refused otherwise.
        head: what reads the patch features.
        depths: patch features of the last block alone (1), or of four depths (4).
        finetune: train the encoder too (ours and Transformers' ones), with ``layer_decay``.
        layer_decay: factor on the learning rate from one block to the one below it.
        loss: Dice with cross-entropy, or with focal loss.
        augment: move, turn, scale and light images while training; features are then computed anew for each step.
        mirror: pairs of classes that change places in the mirror image; an empty list says that none does and allows
            flips; None forbids flips, in training and testing.
        test_flips: average the prediction with that of the mirror image (needs ``mirror``).
        window: side, as a share of the square image's, of sliding windows at test time; 1 sees the image whole.
        drop_islands: pieces of a class smaller than this share of its largest in the image are dropped from test
            predictions, see :func:`raddino.tasks.segmentation.predict.drop_islands`; 0 drops none.
        steps: most optimiser steps.
        batch_size: images a step.
        lr, weight_decay, warmup: of AdamW; warm-up in steps, then cosine to 0.
        evaluate_every: steps between validations; the best by Dice is kept.
        patience: validations without a better one before training stops.
        side: pixels of the square targets of training, at most 4096; None for four times the patch grid.
        unet_encoder: of the reference ``unet``, a name of segmentation-models-pytorch.
        unet_weights: of its encoder: ``"imagenet"`` (from its hub), a file (classifier weights as torchvision or timm
            name them), or None for random ones.
        unet_side: pixels of its square input and targets, a multiple of 32.
        surface_tolerance: pixels of the mask within which surfaces agree (normalised surface Dice).
    """

    coding: Literal["values", "bits", "columns"] = "values"
    classes: dict[str, MaskValue | tuple[MaskValue, ...] | str]
    ignore: tuple[MaskValue, ...] = ()
    empty: str | None = None
    pool_conventions: bool = False
    head: Head = "linear"
    depths: Literal[1, 4] = 1
    finetune: bool = False
    layer_decay: float = Field(default=0.75, gt=0, le=1)
    loss: Literal["dice_ce", "dice_focal"] = "dice_ce"
    augment: bool = False
    mirror: tuple[tuple[str, str], ...] | None = None
    test_flips: bool = False
    window: float = Field(default=1.0, gt=0.1, le=1)
    drop_islands: float = Field(default=0.0, ge=0, le=1)
    steps: PositiveInt = 1000
    batch_size: PositiveInt = 16
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-2
    warmup: NonNegativeInt = 50
    evaluate_every: PositiveInt = 100
    patience: PositiveInt = 5
    side: int | None = Field(default=None, ge=1, le=MOST_PIXELS)
    unet_encoder: str = "efficientnet-b0"
    unet_weights: str | None = Field(default=None, min_length=1)
    unet_side: int = Field(default=512, ge=32, le=MOST_PIXELS, multiple_of=32)
    surface_tolerance: PositiveFloat = 4.0

    @model_validator(mode="after")
    def _sound(self) -> SegmentationConfig:
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise ValueError(f"classes: 1 to {MOST_CLASSES} are needed, got {len(self.classes)}")
        columns = self.coding == "columns"
        for name, code in self.classes.items():
            if not name.strip() or not name.isprintable():
                raise ValueError(f"classes: a name is one line of text, got {name!r}")
            no_bit = self.coding == "bits" and not (isinstance(code, int) and code < BITS)
            if isinstance(code, str) != columns or no_bit:
                raise ValueError(f"classes: {name} takes {WANTED[self.coding]}, got {code!r}")
        for name in (one for pair in self.mirror or () for one in pair):
            if name not in self.classes:
                raise ValueError(f"mirror: {name!r} is no class")
        if self.unet_side == 32 and self.batch_size == 1:
            raise ValueError("unet_side of 32 leaves one pixel at the U-Net's bottom: batch_size must be 2 or more")
        if self.test_flips and self.mirror is None:
            raise ValueError("test_flips needs mirror: the pairs of classes that change places, or []")
        return self

    @property
    def exclusive(self) -> bool:
        """Whether a pixel belongs to one class at most."""
        return self.coding == "values"
