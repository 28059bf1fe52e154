"""Zero-shot: an encoder that shares a space with text is asked in words; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from raddino.errors import RaddinoError
from raddino.progress import subject
from raddino.tasks.probes.base import CHUNK, PROBES, Method, ProbeConfig, Request, Split, check_finite

if TYPE_CHECKING:
    from raddino.encoders.base import TextEncoder

Pair = tuple[str, str]
SLOT = "{finding}"


class ZeroShotConfig(ProbeConfig):
    """Prompts as data, in pairs of a positive and a negative sentence (Tiu et al. 2022, CheXzero).

    Attributes:
        templates: pairs in which ``{finding}`` stands for the name of the label, underscores read as spaces.
        prompts: by name of the label or class, pairs that are used instead of the templates, for example
            ``sex: [["chest x-ray of a man", "chest x-ray of a woman"]]``. Classes use the first of each pair.
    """

    kind: Literal["zero_shot"] = "zero_shot"
    features: Literal["cls"] = "cls"
    templates: Annotated[tuple[Pair, ...], Field(min_length=1)] = (("{finding}", "no {finding}"),)
    prompts: dict[str, Annotated[tuple[Pair, ...], Field(min_length=1)]] = Field(default_factory=dict)

    def pairs(self, label: str) -> list[Pair]:
        """The prompts of a label."""
        words = label.replace("_", " ")
        filled = [
            (positive.replace(SLOT, words), negative.replace(SLOT, words)) for positive, negative in self.templates
        ]
        return list(self.prompts.get(label, filled))


@dataclass(frozen=True)
class ZeroShot:
    """Directions in the shared space.

    The logit of a label is the temperature times (cosine to the positive minus cosine to the negative prompt),
    averaged over pairs: the log-odds of a softmax over the two. The classes of one label are compared by their
    positive prompts alone.

    Attributes:
        encoder: whose ``project`` takes CLS features to the shared space.
        directions: (P, T), temperature included.
        chosen: see :class:`~raddino.tasks.probes.base.Probe`.
    """

    encoder: TextEncoder
    directions: Tensor
    chosen: list[dict[str, Any]]

    @torch.no_grad()
    def predict(self, features: np.ndarray) -> np.ndarray:
        """(N, D) CLS features to (1, N, T). Raises RaddinoError for values that are not finite."""
        check_finite(features, "predicted")
        parts = [
            self.encoder.project(torch.as_tensor(features[at : at + CHUNK], dtype=torch.float32)).cpu().double()
            for at in range(0, max(1, len(features)), CHUNK)
        ]
        return (torch.cat(parts) @ self.directions).numpy()[None]


@torch.no_grad()
def fit_zero_shot(train: Split, val: Split, config: ZeroShotConfig, request: Request) -> ZeroShot:
    """Encode the prompts of ``request.labels``; images are not looked at.

    Raises:
        RaddinoError: the encoder has no text, or the target is a number.
    """
    encoder = request.encoder
    if request.loss == "squared":
        raise RaddinoError(f"zero-shot asks for labels in words; {', '.join(request.labels)} is a number")
    if encoder is None or not hasattr(encoder, "encode_text"):
        name = "this encoder" if encoder is None else subject(encoder.name)
        raise RaddinoError(f"zero-shot needs an encoder with text; {name} has none. Use another kind of probe")
    text = cast("TextEncoder", encoder)
    directions, chosen = [], []
    for label in request.labels:
        pairs = config.pairs(label)
        positive, negative = (text.encode_text(list(one)).cpu().double() for one in zip(*pairs, strict=True))
        direction = positive if request.loss == "softmax" else positive - negative
        directions.append(float(text.logit_scale) * direction.mean(0))
        shown = [one for one, _ in pairs] if request.loss == "softmax" else [" / ".join(pair) for pair in pairs]
        chosen.append({"probe": config.kind, "features": "cls", "prompts": shown})
    return ZeroShot(text, torch.stack(directions, 1), chosen)


PROBES.register("zero_shot")(Method(ZeroShotConfig, fit_zero_shot))
