"""Guides: heads on the class token that predict what is known of an image besides its pixels.

Their gradient reaches the backbone as it is, so that features come to hold what a guide tells, or reversed (Ganin and
Lempitsky, arXiv 1409.7495), so that they lose it. That metadata of both kinds guide a DINO step is FINO's idea
(arXiv 2606.05107), whose heads for categories are banks of prototypes with a contrastive loss; these are classifiers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, PlainSerializer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from raddino.ssl.losses import full

STEEPNESS = 10.0
"""Of the ramp: Ganin and Lempitsky's gamma."""
LOSS, ACCURACY, CORRECT, KNOWN = "guide_loss_", "guide_accuracy_", "guide_correct_", "guide_known_"


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    try:
        return tuple(sorted(dict(value).items()))
    except (TypeError, ValueError):
        raise ValueError("give 'column: keep' or 'column: remove' for each") from None


Columns = Annotated[
    tuple[tuple[str, Literal["keep", "remove"]], ...],
    BeforeValidator(_pairs),
    PlainSerializer(dict, return_type=dict[str, str]),
]
"""A mapping of columns to what becomes of what they tell, kept as sorted pairs."""


@dataclass(frozen=True)
class Guide:
    """What one head predicts.

    Attributes:
        name: of the column.
        keep: whether features are to hold it; else they are to lose it.
        classes: how many there are; 1 stands for a number.
    """

    name: str
    keep: bool
    classes: int


@dataclass
class Guidance:
    """What guides add to a step.

    Attributes:
        total: its value is what the backbone minimises of it, each loss times the strength, negated where it is to be
            removed; its gradient lets each head minimise its own loss.
        terms: by name, detached: of each guide the loss, and of classes the weights of the images known and of those
            told correctly, from which :func:`with_accuracies` makes an accuracy.
    """

    total: Tensor
    terms: dict[str, Tensor]


class Guides(nn.Module):
    """A head for each guide: linear, or with one hidden layer."""

    def __init__(self, dim: int, hidden: int, guides: Sequence[Guide]) -> None:
        super().__init__()
        self.guides = tuple(guides)
        self.heads = nn.ModuleDict({guide.name: _head(dim, hidden, guide.classes) for guide in guides})

    def init_weights(self, generator: torch.Generator | None = None) -> "Guides":
        """Fill all weights: normal with SD 0.02, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                nn.init.zeros_(module.bias)
        return self

    def forward(self, cls: Tensor, targets: Tensor, strength: float) -> Guidance:
        """What the guides add.

        Args:
            cls: (2B, D), class tokens of the first global views before those of the second ones.
            targets: (B, G, 2), of each guide a class's number or a standardised number, and the image's weight; 0 where
                nothing is known.
            strength: factor, 0 or more, of the gradient that reaches ``cls``; at 0 none does, and heads only watch.
        """
        total, terms = full(cls.new_zeros(())), {}
        for guide, target in zip(self.guides, targets.repeat(2, 1, 1).unbind(1), strict=True):
            signed = strength if guide.keep else -strength
            found = full(self.heads[guide.name](scaled(cls, signed)))
            value, weight = target.to(found.dtype).unbind(-1)
            if guide.classes > 1:
                costs = cross_entropy(found, value.long(), reduction="none")
                terms[CORRECT + guide.name] = ((found.detach().argmax(1) == value) * weight).mean()
                terms[KNOWN + guide.name] = weight.mean()
            else:
                costs = smooth_l1_loss(found[:, 0], value, reduction="none")
            loss = (costs * weight).mean()
            terms[LOSS + guide.name] = loss.detach()
            total = total + signed * loss.detach() + (loss - loss.detach())
        return Guidance(total, terms)


def _head(dim: int, hidden: int, outputs: int) -> nn.Sequential:
    widths = [dim, hidden, outputs] if hidden else [dim, outputs]
    layers = [layer for narrow, wide in pairwise(widths) for layer in (nn.Linear(narrow, wide), nn.GELU())]
    return nn.Sequential(*layers[:-1])


def scaled(x: Tensor, factor: float) -> Tensor:
    """``x``, whose gradient is multiplied by ``factor`` on its way back; none goes back at 0."""
    return _Scaled.apply(x, factor) if factor else x.detach()


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


def ramp(step: int, steps: int) -> float:
    """Rise from 0 at step 0 to 1 from ``steps`` on: Ganin and Lempitsky's ``2 / (1 + exp(-10 p)) - 1``, p the share."""
    return 1.0 if step >= steps else 2 / (1 + math.exp(-STEEPNESS * step / steps)) - 1


def with_accuracies(terms: Mapping[str, float]) -> dict[str, float]:
    """The terms with an accuracy for each share that was told correctly; NaN where nothing was known."""
    found = {name: value for name, value in terms.items() if not name.startswith((CORRECT, KNOWN))}
    for name, correct in terms.items():
        if name.startswith(CORRECT):
            guide = name.removeprefix(CORRECT)
            known = terms[KNOWN + guide]
            found[ACCURACY + guide] = correct / known if known else math.nan
    return found
