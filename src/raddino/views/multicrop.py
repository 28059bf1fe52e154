"""DINOv2's multi-crop: what to do with each sample is planned on the CPU, and done where the images are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from raddino.config import Config
from raddino.views import photometric
from raddino.views.crop import BOX_DRAWS, Taps, box_draws, crop_taps, place_boxes, resample
from raddino.views.masks import MaskConfig
from raddino.views.photometric import Tone
from raddino.views.pose import frame_size, frames, place, placements
from raddino.views.randomness import generator

GLOBAL_VIEWS = 2
BLUR_SIGMA = (0.1, 2.0)
PLAN_DRAWS = 8
"""Random numbers of a view besides those of its box."""
XRAY_DRAWS = 5
"""Random numbers of a view for its pose and window, from a stream of their own."""
CACHED = 2**18
"""Pixels of views that a CPU makes at once: about what its second cache holds."""
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
        rotate: largest turn of a crop about its centre in degrees, either way; 0 turns none.
        translate: largest shift of a crop down or across, either way, in sides of its box; 0 shifts none.
        window: largest share of the grey values that a random intensity window leaves out; 0 is no window.
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
    rotate: float = Field(0.0, ge=0, le=30)
    translate: float = Field(0.0, ge=0, lt=0.5)
    window: float = Field(0.0, ge=0, lt=1)
    mean: float = 0.5307
    std: float = Field(0.2583, gt=0)
    masks: MaskConfig = MaskConfig()

    @model_validator(mode="after")
    def _ordered(self) -> ViewsConfig:
        for low, high in (self.global_scale, self.local_scale):
            if not 0 < low <= high <= 1:
                raise ValueError(f"a crop scale must hold 0 < low <= high <= 1, got {low}, {high}")
        return self

    @property
    def posed(self) -> bool:
        """Whether crops are turned or shifted."""
        return self.rotate > 0 or self.translate > 0

    @property
    def sizes(self) -> np.ndarray:
        """(V,) pixels of the views' sides."""
        return np.repeat([self.global_size, self.local_size], [GLOBAL_VIEWS, self.local_views])


@dataclass
class ViewPlan:
    """Everything random about the V = 2 + local_views views of one sample (or, stacked, of B samples).

    Attributes:
        boxes: (V, 4) int64, top, left, height, width in pixels of the image.
        flip, contrast_first, solarize: (V,) boolean.
        brightness, contrast: (V,) float32 factors, 1 for unchanged.
        sigma: (V,) float32 pixels, 0 for no blur.
        turn: (V,) float32 degrees by which the box stands clockwise in the image: what it shows turns the other way.
        shift: (V, 2) float32, down and right, in sides of the box.
        frames: (V, 4) int64, as ``boxes``: what of the image turned and shifted crops are made from.
        window: (V, 2) float32, the grey values that become black and white; 0 and 1 for unchanged.
    """

    boxes: Tensor
    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    contrast_first: Tensor
    sigma: Tensor
    solarize: Tensor
    turn: Tensor
    shift: Tensor
    frames: Tensor
    window: Tensor

    @classmethod
    def draw(cls, config: ViewsConfig, height: int, width: int, seed: int, position: int) -> ViewPlan:
        """The plan of the sample at ``position`` whose image has the given size in pixels."""
        views = GLOBAL_VIEWS + config.local_views
        draws = generator(seed, "views", position).random(views * (BOX_DRAWS + PLAN_DRAWS))
        split, end = GLOBAL_VIEWS * BOX_DRAWS, views * BOX_DRAWS
        kinds = zip(box_draws(draws[:split]), box_draws(draws[split:end]), strict=True)
        area, aspect, place = (np.concatenate(parts) for parts in kinds)
        boxes = place_boxes(area, aspect, place, height, width, *_scales(config))
        jitter, blur, solarize, flip, brightness, contrast, order, sigma = draws[end:].reshape(PLAN_DRAWS, views)
        jittered = jitter < config.jitter
        blurred = blur < [*config.blur[:2], *[config.blur[2]] * config.local_views]
        solarized = (solarize < config.solarize) & (np.arange(views) == 1)

        def factor(strength: float, draw: np.ndarray) -> np.ndarray:
            return np.where(jittered, (1 - strength) + ((1 + strength) - (1 - strength)) * draw, 1)

        low, high = BLUR_SIGMA
        numbers = torch.from_numpy(
            np.stack([
                factor(config.brightness, brightness),
                factor(config.contrast, contrast),
                blurred * (low + (high - low) * sigma),
            ])
        ).float()  # fmt: skip
        switches = torch.from_numpy(np.stack([flip < config.flip, order < 0.5, solarized]))
        turn, shift, window = _xray(config, views, seed, position)
        framed = frames(boxes, turn, shift, config.sizes, height, width) if config.posed else boxes
        return cls(
            boxes=torch.from_numpy(boxes),
            flip=switches[0],
            brightness=numbers[0],
            contrast=numbers[1],
            contrast_first=switches[1],
            sigma=numbers[2],
            solarize=switches[2],
            turn=torch.from_numpy(turn).float(),
            shift=torch.from_numpy(shift).float(),
            frames=torch.from_numpy(framed),
            window=torch.from_numpy(window).float(),
        )

    @staticmethod
    def stack(plans: list[ViewPlan]) -> ViewPlan:
        """One plan whose fields have a leading axis B."""
        return ViewPlan(
            **{field.name: torch.stack([getattr(p, field.name) for p in plans]) for field in fields(ViewPlan)}
        )

    def pin_memory(self) -> ViewPlan:
        """The plan in page-locked memory."""
        return ViewPlan(**{field.name: getattr(self, field.name).pin_memory() for field in fields(ViewPlan)})

    def to(self, device: torch.device) -> ViewPlan:
        """The plan on a device."""
        return ViewPlan(
            **{field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(ViewPlan)}
        )

    def undistorted(self) -> ViewPlan:
        """A stacked plan of the global views alone, where and as mirrored as they were, with unchanged grey values."""
        plan = ViewPlan(**{field.name: getattr(self, field.name)[:, :GLOBAL_VIEWS] for field in fields(self)})
        same = torch.ones_like(plan.brightness)
        return replace(
            plan, brightness=same, contrast=same, sigma=torch.zeros_like(plan.sigma),
            solarize=torch.zeros_like(plan.solarize),
        )  # fmt: skip

    def by_view(self) -> ViewPlan:
        """A stacked plan view by view: fields get shape (V, B, ...)."""
        return ViewPlan(
            **{field.name: getattr(self, field.name).transpose(0, 1).contiguous() for field in fields(self)}
        )


def _scales(config: ViewsConfig) -> np.ndarray:
    """(2, V, 1) smallest and largest shares of the image's area."""
    return np.array([config.global_scale] * GLOBAL_VIEWS + [config.local_scale] * config.local_views).T[..., None]


def _xray(config: ViewsConfig, views: int, seed: int, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turns (V,), shifts (V, 2) and windows (V, 2) of a sample's views."""
    if not (config.posed or config.window):
        return np.zeros(views), np.zeros((views, 2)), np.tile([0.0, 1.0], (views, 1))
    turn, down, right, hidden, darker = generator(seed, "xray", position).random((XRAY_DRAWS, views))
    hidden = config.window * hidden
    black = hidden * darker
    return (
        config.rotate * (2 * turn - 1),
        config.translate * (2 * np.stack([down, right], axis=1) - 1),
        np.stack([black, 1 - (hidden - black)], axis=1),
    )


class Multicrop:
    """Renders stacked plans on whatever device the images are on."""

    def __init__(self, config: ViewsConfig) -> None:
        self.config = config

    @torch.no_grad()
    def __call__(self, images: Tensor, plan: ViewPlan) -> tuple[Tensor, Tensor | None]:
        """Global and local crops of one batch.

        Args:
            images: (B, H, W) uint8, or float32 in [0, 1], padded at the bottom and right to a common size.
            plan: stacked plan of the B samples, on the CPU.

        Returns:
            Global crops (2B, 1, G, G) and local crops (n B, 1, L, L) or None, normalised, view by view.
        """
        plan = plan.by_view()
        there, (count, batch) = plan.to(images.device), plan.flip.shape
        tone = Tone.of(there.brightness, there.contrast, there.contrast_first, self.config.mean, self.config.std)
        if self.config.window:
            tone = tone.through(there.window)
        if images.dtype == torch.uint8:
            tone = replace(tone, exposure=tone.exposure / 255)
        kinds = [
            self._kind(plan, there, tone, slice(0, GLOBAL_VIEWS), self.config.global_size),
            self._kind(plan, there, tone, slice(GLOBAL_VIEWS, count), self.config.local_size),
        ][: 1 + (count > GLOBAL_VIEWS)]
        at_once = CACHED if images.device.type == "cpu" else sum(kind.out.numel() for kind in kinds)
        samples = max(1, at_once // self.config.global_size**2)
        for b in range(0, batch, samples):
            tables = _tables(images[b : b + samples])
            for kind in kinds:
                step = max(1, at_once // (len(tables) * kind.size**2))
                for v in range(0, len(kind.out), step):
                    self._render(tables, kind, (slice(v, v + step), slice(b, b + samples)))
        first, *others = (kind.out.flatten(0, 1)[:, None] for kind in kinds)
        return first, others[0] if others else None

    def undistorted(self, images: Tensor, plan: ViewPlan, size: int) -> Tensor:
        """The global crops (2B, 1, size, size) of one batch at another size, without changes of their grey values."""
        config = self.config.model_copy(update={"global_size": size, "local_views": 0, "window": 0.0})
        return Multicrop(config)(images, plan.undistorted())[0]

    def _kind(self, plan: ViewPlan, there: ViewPlan, tone: Tone, views: slice, size: int) -> _Kind:
        boxes, flip, tone, placement, made = there.boxes[views], there.flip[views], tone[views], None, size
        if self.config.posed:
            placement = placements(boxes, there.frames[views], there.turn[views], there.shift[views], flip)
            boxes, flip, made = there.frames[views], torch.zeros_like(flip), frame_size(size, self.config.rotate)
        longest = int(plan.frames[views, :, 2:].max()) if len(boxes) else 1
        across, down = crop_taps(boxes, flip, made, tone.exposure, longest)
        out = torch.empty(*boxes.shape[:2], size, size, device=boxes.device)
        return _Kind(
            size, across, down, placement, tone, plan.sigma[views] > 0, photometric.blur_weights(there.sigma[views]),
            plan.solarize[views], out,
        )  # fmt: skip

    def _render(self, tables: Tensor, kind: _Kind, part: tuple[slice, slice]) -> None:
        """Fill a part of the kind's views from the images with their axes exchanged."""
        crops = resample(tables, kind.across.part(part), kind.down.part(part))
        if kind.placement is not None:
            crops = place(crops, kind.placement[part], kind.size)
        kind.tone[part].apply(crops)
        most, weights = (1 - 2 * self.config.mean) / self.config.std, kind.blur[part].flatten(0, 1)
        views = _changed(crops.flatten(0, 1), kind.blurred[part], photometric.blurred, weights)
        views = _changed(views, kind.solarize[part], lambda some: photometric.solarize(some, most))
        kind.out[part] = views.unflatten(0, crops.shape[:2])


@dataclass
class _Kind:
    """Global or local views of a batch: fields (V, B, ...), those for decisions on the CPU, the others in place."""

    size: int
    across: Taps
    down: Taps
    placement: Tensor | None
    tone: Tone
    blurred: Tensor
    blur: Tensor
    solarize: Tensor
    out: Tensor


def _changed(views: Tensor, which: Tensor, change: Callable[..., Tensor], *fields: Tensor) -> Tensor:
    """Views (N, S, S) of which those named by ``which``, N booleans on the CPU, are changed, with their ``fields``."""
    rows = which.flatten().nonzero()[:, 0]
    if len(rows) == len(views):
        return change(views, *fields)
    if len(rows):
        rows = rows.to(views.device, non_blocking=True)
        views.index_copy_(0, rows, change(*(x.index_select(0, rows) for x in (views, *fields))))
    return views


def _tables(images: Tensor) -> Tensor:
    """Images (B, H, W) as float32 (B, W, H), padded so that neighbours in a column lie in different cache sets."""
    height, width = (size + (16 - size) % 32 for size in images.shape[1:])
    padded = images.new_zeros(len(images), height, width)
    padded[:, : images.shape[1], : images.shape[2]] = images
    return padded.float().transpose(1, 2).contiguous()
