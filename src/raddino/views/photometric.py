"""Changes of grey values: brightness, contrast, blur, solarisation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raddino.views.crop import Taps, resample

BLUR_RADIUS = 4
"""Pixels each side of DINOv2's 9-tap Gaussian."""


def jitter(images: Tensor, brightness: Tensor, contrast: Tensor, contrast_first: Tensor) -> Tensor:
    """Brightness and contrast of (V, H, W) images in [0, 1], in either order, clamped after each.

    A factor (V,) of 1 changes nothing; contrast is scaled about the image's mean, as torchvision does for grey.
    """
    tone = Tone.of(brightness, contrast, contrast_first)
    return tone.apply(images * tone.exposure[:, None, None])


@dataclass(frozen=True)
class Tone:
    """Jitter and normalisation of views as one scale and shift each, all fields (...) float32.

    A clamp before a factor or after it differs in the bounds alone, so each pixel is scaled once.

    Attributes:
        exposure: what the views are multiplied with before :meth:`apply`, in whatever makes them.
        scale: of the grey values.
        average: share of the view's mean in the shift.
        shift: the rest of it.
        highest: upper bound of the result.
        lowest: lower bound, one for all.
        black: what exposed views lose first; None is nothing.
    """

    exposure: Tensor
    scale: Tensor
    average: Tensor
    shift: Tensor
    highest: Tensor
    lowest: float
    black: Tensor | None = None

    @classmethod
    def of(
        cls, brightness: Tensor, contrast: Tensor, contrast_first: Tensor, mean: float = 0.0, std: float = 1.0
    ) -> Tone:
        """The tone of factors (...), of which 1 changes nothing, with the mean and deviation of normalisation."""
        before, after = torch.where(contrast_first, 1, brightness), torch.where(contrast_first, brightness, 1)
        scale = before.clamp(max=1) * after / std
        return cls(
            exposure=before.clamp(min=1),
            scale=scale * contrast,
            average=scale * (1 - contrast),
            shift=torch.full_like(scale, -mean / std),
            highest=(after.clamp(max=1) - mean) / std,
            lowest=-mean / std,
        )

    def through(self, window: Tensor) -> Tone:
        """The tone of views whose grey values from ``window[..., 0]`` to ``window[..., 1]`` are spread over [0, 1]."""
        black, white = window.unbind(-1)
        exposure = self.exposure / (white - black)
        return replace(self, exposure=exposure, black=exposure * black)

    def __getitem__(self, part: slice | tuple[slice, ...]) -> Tone:
        """The tone of some of the views."""
        black = None if self.black is None else self.black[part]
        return Tone(
            self.exposure[part], self.scale[part], self.average[part], self.shift[part], self.highest[part],
            self.lowest, black,
        )  # fmt: skip

    def apply(self, views: Tensor) -> Tensor:
        """Change exposed views (..., H, W) in place."""
        if self.black is not None:
            views.sub_(self.black[..., None, None])
        average = views.clamp_(0, 1).flatten(-2).mean(-1)
        shift = self.shift + average * self.average
        views.mul_(self.scale[..., None, None]).add_(shift[..., None, None]).clamp_(min=self.lowest)
        return torch.minimum(views, self.highest[..., None, None], out=views)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of square images (V, S, S), 9 taps, mirrored edges; ``sigma`` (V,) in pixels, > 0."""
    return blurred(images, blur_weights(sigma))


def blur_weights(sigma: Tensor) -> Tensor:
    """Weights (..., 9) of Gaussians of ``sigma`` (...) pixels; where it is 0 they are NaN."""
    weights = torch.exp(-0.5 * (_offsets(sigma.device) / sigma[..., None]) ** 2)
    return weights / weights.sum(-1, keepdim=True)


def blurred(images: Tensor, weights: Tensor) -> Tensor:
    """Images (V, S, S) blurred by weights (V, 9); what is returned is stored with its axes exchanged."""
    size = images.shape[-1]
    place = torch.arange(size, device=images.device, dtype=torch.int32)[:, None] + _offsets(images.device)
    place = (size - 1) - ((size - 1) - place.abs()).abs()
    taps = Taps(place.expand(1, len(images), -1, -1), weights[None, :, None].expand(-1, -1, size, -1))
    return resample(images, taps, taps)[0].transpose(1, 2)


def _offsets(device: torch.device) -> Tensor:
    return torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=device, dtype=torch.int32)


def solarize(images: Tensor, most: float = 1.0) -> Tensor:
    """Invert what is brighter than half of ``most``."""
    return torch.minimum(images, most - images)
