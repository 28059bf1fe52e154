"""The supervised reference: a U-Net of segmentation-models-pytorch on grey squares."""

from __future__ import annotations

import warnings
from typing import Any, Literal

from torch import nn

from raddino.encoders.preparation import Preparation
from raddino.errors import ConfigError, RaddinoError, did_you_mean

MEAN, STD = 0.5, 0.25


def build_unet(
    classes: int, encoder_name: str = "efficientnet-b0", weights: Literal["imagenet"] | None = None
) -> nn.Module:
    """A U-Net (Ronneberger et al. 2015), from grey (B, 1, S, S) of :func:`unet_preparation` to (B, classes, S, S).

    Random weights are drawn from torch's own generator: seed it first.

    Args:
        classes: channels of the logits.
        encoder_name: of segmentation-models-pytorch.
        weights: ``"imagenet"`` fetches the encoder's weights from its hub; a kernel's three channels are summed into
            one.

    Raises:
        ConfigError: an unknown encoder.
        RaddinoError: the library is not installed, or the weights cannot be fetched.
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        raise RaddinoError("unet needs segmentation_models_pytorch: pip install 'raddino[seg]'") from None
    names = smp.encoders.get_encoder_names()
    if encoder_name not in names:
        hint = did_you_mean(encoder_name, names)
        raise ConfigError(
            f"unet_encoder: segmentation-models-pytorch has no {encoder_name!r}.{hint} Its own list: "
            "smp.encoders.get_encoder_names()"
        )
    made: dict[str, Any] = {"in_channels": 1, "classes": classes, "encoder_weights": weights}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return smp.Unet(encoder_name, **made)
        except Exception as error:  # the hub's library fails in many ways
            if weights is None:
                raise
            raise RaddinoError(
                f"unet: {weights} weights of {encoder_name} cannot be fetched ({type(error).__name__}); "
                "put them into the hub's cache, or leave unet_weights out for random ones"
            ) from None


def unet_preparation(side: int) -> Preparation:
    """From a square grey image (see :func:`raddino.tasks.segmentation.frame.square`) to (1, side, side).

    Args:
        side: pixels, a multiple of 32.
    """
    return Preparation((side, side), None, (MEAN,), (STD,), interpolation="bilinear")
