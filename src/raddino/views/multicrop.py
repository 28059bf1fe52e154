"""DINOv2's multi-crop: what to do with each sample is planned on the CPU, and done where the images are."""

from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from raddino.config import Config
from raddino.views.crop import crop_and_resize, random_boxes
from raddino.views.masks import MaskConfig
from raddino.views.photometric import blur, jitter, solarize
from raddino.views.randomness import generator

GLOBAL_VIEWS = 2
BLUR_SIGMA = (0.1, 2.0)
Probability = Annotated[float, Field(ge=0, le=1)]


class ViewsConfig(Config):
    """Sizes and strengths of the views. Defaults are RAD-DINO's; each probability means what it says.

    Attributes:
        global_size, local_size: pixels.
        global_scale, local_scale: share of the image's area that a crop covers.
        local_views: number of local views; 0 turns them off.
        flip: probability of a mirrored view.
        jitter: probability of a change of brightness and contrast.
        brightness, contrast: factors are drawn from 1 - x to 1 + x.
        blur: probability for first global, second global and local views.
        solarize: probability for second global views (natural images: 0.2; X-rays: 0).
        mean, std: of grey values in [0, 1], subtracted and divided by at the end.
        masks: of the global views.
    """

    global_size: int = Field(518, gt=0, le=2**14)
    local_size: int = Field(196, gt=0, le=2**14)
    global_scale: tuple[float, float] = (0.5, 1.0)
    local_scale: tuple[float, float] = (0.2, 0.5)
    local_views: int = Field(8, ge=0, le=2**8)
    flip: float = Field(0.5, ge=0, le=1)
    jitter: float = Field(0.8, ge=0, le=1)
    brightness: float = Field(0.4, ge=0, lt=1)
    contrast: float = Field(0.4, ge=0, lt=1)
    blur: tuple[Probability, Probability, Probability] = (0.5, 0.1, 0.5)
    solarize: float = Field(0.0, ge=0, le=1)
    mean: float = 0.5307
    std: float = Field(0.2583, gt=0)
    masks: MaskConfig = MaskConfig()

    @model_validator(mode="after")
    def _ordered(self) -> "ViewsConfig":
        for low, high in (self.global_scale, self.local_scale):
            if not 0 < low <= high <= 1:
                raise ValueError(f"a crop scale must hold 0 < low <= high <= 1, got {low}, {high}")
        return self


@dataclass
class ViewPlan:
    """Everything random about the V = 2 + local_views views of one sample (or, stacked, of B samples).

    Attributes:
        boxes: (V, 4) int64, top, left, height, width in pixels of the image.
        flip, contrast_first, solarize: (V,) boolean.
        brightness, contrast: (V,) float32 factors, 1 for unchanged.
        sigma: (V,) float32 pixels, 0 for no blur.
    """

    boxes: Tensor
    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    contrast_first: Tensor
    sigma: Tensor
    solarize: Tensor

    @classmethod
    def draw(cls, config: ViewsConfig, height: int, width: int, seed: int, position: int) -> "ViewPlan":
        """The plan of the sample at ``position`` whose image has the given size in pixels."""
        rng = generator(seed, "views", position)
        views = GLOBAL_VIEWS + config.local_views
        boxes = [random_boxes(rng, GLOBAL_VIEWS, height, width, config.global_scale)]
        if config.local_views:
            boxes.append(random_boxes(rng, config.local_views, height, width, config.local_scale))
        jittered = rng.random(views) < config.jitter
        blurred = rng.random(views) < [*config.blur[:2], *[config.blur[2]] * config.local_views]
        solarized = (rng.random(views) < config.solarize) & (np.arange(views) == 1)

        def factor(strength: float) -> np.ndarray:
            return np.where(jittered, rng.uniform(1 - strength, 1 + strength, views), 1)

        return cls(
            boxes=torch.from_numpy(np.concatenate(boxes)),
            flip=torch.from_numpy(rng.random(views) < config.flip),
            brightness=torch.from_numpy(factor(config.brightness)).float(),
            contrast=torch.from_numpy(factor(config.contrast)).float(),
            contrast_first=torch.from_numpy(rng.random(views) < 0.5),
            sigma=torch.from_numpy(np.where(blurred, rng.uniform(*BLUR_SIGMA, views), 0)).float(),
            solarize=torch.from_numpy(solarized),
        )

    @staticmethod
    def stack(plans: list["ViewPlan"]) -> "ViewPlan":
        """One plan whose fields have a leading axis B."""
        return ViewPlan(
            **{field.name: torch.stack([getattr(p, field.name) for p in plans]) for field in fields(ViewPlan)}
        )

    def pin_memory(self) -> "ViewPlan":
        """The plan in page-locked memory."""
        return ViewPlan(**{field.name: getattr(self, field.name).pin_memory() for field in fields(ViewPlan)})

    def split(self, start: int, stop: int) -> "ViewPlan":
        """A stacked plan's views ``start`` to ``stop``, view by view: fields get shape ((stop - start) * B, ...)."""
        return ViewPlan(
            **{f.name: getattr(self, f.name)[:, start:stop].transpose(0, 1).flatten(0, 1) for f in fields(self)}
        )


class Multicrop:
    """Renders stacked plans on whatever device the images are on."""

    def __init__(self, config: ViewsConfig) -> None:
        self.config = config

    def __call__(self, images: Tensor, plan: ViewPlan) -> tuple[Tensor, Tensor | None]:
        """Global and local crops of one batch.

        Args:
            images: (B, H, W) float32 in [0, 1], padded at the bottom and right to a common size.
            plan: stacked plan of the B samples, on the CPU.

        Returns:
            Global crops (2B, 1, G, G) and local crops (n B, 1, L, L) or None, normalised, view by view.
        """
        count = plan.boxes.shape[1]
        crops = self._render(images, plan, 0, GLOBAL_VIEWS, self.config.global_size)
        if count == GLOBAL_VIEWS:
            return crops, None
        return crops, self._render(images, plan, GLOBAL_VIEWS, count, self.config.local_size)

    def _render(self, images: Tensor, plan: ViewPlan, start: int, stop: int, size: int) -> Tensor:
        def there(values: Tensor) -> Tensor:
            return values.to(images.device, non_blocking=True)

        boxes, flip = there(plan.boxes[:, start:stop]), there(plan.flip[:, start:stop])
        crops = crop_and_resize(images, boxes, flip, size).transpose(0, 1).flatten(0, 1).clamp(0, 1)
        views = plan.split(start, stop)
        crops = jitter(crops, there(views.brightness), there(views.contrast), there(views.contrast_first))
        if len(rows := views.sigma.nonzero().flatten()):
            crops[there(rows)] = blur(crops[there(rows)], there(views.sigma[rows]))
        if len(rows := views.solarize.nonzero().flatten()):
            crops[there(rows)] = solarize(crops[there(rows)])
        return ((crops - self.config.mean) / self.config.std)[:, None]
