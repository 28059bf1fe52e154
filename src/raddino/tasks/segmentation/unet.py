"""The supervised reference: a U-Net of segmentation-models-pytorch on grey squares."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from raddino.encoders.network import read_state
from raddino.encoders.preparation import Preparation
from raddino.errors import ConfigError, RaddinoError, did_you_mean
from raddino.files import sha256

MEAN, STD = 0.5, 0.25
IMAGENET = "imagenet"
PREFIXES = ("module.", "encoder.", "backbone.")
CLASSIFIER = re.compile(r"(?:fc|_fc|classifier|head|last_linear)\.")
NAMED = re.compile(r" sha256:[0-9a-f]{16}$")


def build_unet(classes: int, encoder_name: str = "efficientnet-b0", weights: str | None = None) -> nn.Module:
    """A U-Net (Ronneberger et al. 2015), from grey (B, 1, S, S) of :func:`unet_preparation` to (B, classes, S, S).

    Random weights are drawn from torch's own generator: seed it first.

    Args:
        classes: channels of the logits.
        encoder_name: of segmentation-models-pytorch.
        weights: of the encoder: ``"imagenet"`` fetches them from its hub, anything else is a file, see
            :func:`fill_encoder`; None for random ones. A kernel's three channels are summed into one.

    Raises:
        ConfigError: an unknown encoder.
        RaddinoError: the library is not installed, or the weights cannot be fetched, read or used.
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
    fetched = weights if weights == IMAGENET else None
    made: dict[str, Any] = {"in_channels": 1, "classes": classes, "encoder_weights": fetched}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            unet = smp.Unet(encoder_name, **made)
        except Exception as error:  # the hub's library fails in many ways
            if fetched is None:
                raise
            raise RaddinoError(
                f"unet: {weights} weights of {encoder_name} cannot be fetched ({type(error).__name__}); "
                "put them into the hub's cache, or leave unet_weights out for random ones"
            ) from None
    if weights is not None and fetched is None:
        fill_encoder(unet.encoder, encoder_name, Path(weights).expanduser())
    return unet


def fill_encoder(encoder: nn.Module, name: str, file: Path) -> None:
    """Fill a U-Net's encoder from a classifier's weights, named as torchvision, timm or the encoder's library has them.

    Prefixes before all names (``module.``, ``encoder.``) are taken off, the classifier's last layer is left out, and
    kernels of three channels are summed over them where the encoder takes one.

    Args:
        encoder: of segmentation-models-pytorch.
        name: of it.
        file: ``.safetensors``, or what ``torch.save`` wrote; nothing in it is executed.

    Raises:
        RaddinoError: no such file, damaged, or of another network.
    """
    state = {key: one for key, one in _unprefixed(read_state("unet", file)).items() if not CLASSIFIER.match(key)}
    own = encoder.state_dict()
    wrong = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    wrong += [key for key in state if key not in own]
    for key in sorted(own.keys() & state.keys()):
        if own[key].ndim == 4 and own[key].shape[1] == 1 and state[key].shape[1:2] == (3,):
            state[key] = state[key].sum(1, keepdim=True)
        if state[key].shape != own[key].shape:
            wrong.append(key)
        elif not state[key].isfinite().all():
            raise RaddinoError(f"unet: {file.name} holds NaN or infinity in {key}: fetch it again")
    if wrong:
        raise RaddinoError(
            f"unet: {file.name} does not fit {name} ({len(wrong)} of {len(own)} tensors, {wrong[0]!r} first): set "
            "unet_encoder to the network that it is of"
        )
    encoder.load_state_dict(state, strict=False)


def named_weights(weights: str | None) -> str | None:
    """``unet_weights`` without a place of this machine: a file's name and the start of its digest.

    Raises:
        RaddinoError: there is no such file.
    """
    if weights is None or weights == IMAGENET or NAMED.search(weights):
        return weights
    file = Path(weights).expanduser()
    if not file.is_file():
        raise RaddinoError(f"unet_weights: no file {file}: give one, 'imagenet', or leave it out for random weights")
    return f"{file.name} sha256:{sha256(file)[:16]}"


def _unprefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): one for key, one in state.items()}
    return state


def unet_preparation(side: int) -> Preparation:
    """From a square grey image (see :func:`raddino.tasks.segmentation.frame.square`) to (1, side, side).

    Args:
        side: pixels, a multiple of 32.
    """
    return Preparation((side, side), None, (MEAN,), (STD,), interpolation="bilinear")
