"""The supervised U-Net as a row beside the encoders: segmentation tasks train it on their masks, it has no features."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raddino.encoders.base import ENCODERS, Encoder, Family, Features, Provenance
from raddino.errors import RaddinoError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

NAME = "unet"
KNOWN = Provenance(licence="MIT", note="a segmentation task trains it on its masks, from the task's unet_weights")


class UnetReference:
    """Stands for :func:`raddino.tasks.segmentation.unet.build_unet`, which every segmentation task trains anew.

    Attributes:
        supervised: True: there is nothing frozen to read, images and masks train all of it.
    """

    supervised = True
    dim = 0
    grid: tuple[int, int] | None = None

    def __init__(self) -> None:
        self.name, self.provenance = NAME, KNOWN

    @property
    def fingerprint(self) -> str:
        """The same for all: what is trained is told by the task's own settings."""
        return hashlib.sha256(NAME.encode()).hexdigest()[:16]

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """Raises RaddinoError: there are no features."""
        raise RaddinoError(f"{NAME} is trained on masks; it has no features: use it on segmentation tasks")

    def encode(self, batch: Tensor) -> Features:
        """Raises RaddinoError: there are no features."""
        raise RaddinoError(f"{NAME} is trained on masks; it has no features: use it on segmentation tasks")


def load(place: str | None, device: str) -> Encoder:
    """The reference; the task decides its encoder and where it runs.

    Raises:
        RaddinoError: a place is given.
    """
    if place is not None:
        raise RaddinoError(
            f"{NAME} has no weights; leave out the part after the colon, set the task's unet_encoder and unet_weights"
        )
    return UnetReference()


ENCODERS.register(NAME)(
    Family(load, "reference: a supervised U-Net, trained by each segmentation task", KNOWN, extra="seg")
)
