"""A contact sheet of what a pre-training run will see: images, their views, and what of them is masked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from raddino.corpus.dataset import Corpus
from raddino.errors import ConfigError, RaddinoError
from raddino.files import draft_of
from raddino.report.style import MUTED, OUTLINES, figure, put_stamp, stamp_of
from raddino.training.loader import Collate, Samples
from raddino.training.pretrain import PretrainConfig, training_rows
from raddino.views import Multicrop, ViewPlan
from raddino.views.multicrop import GLOBAL_VIEWS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

MOST_IMAGES = 64
TILE, GAP, TOP, CAPTION = 260, 8, 64, 34
"""Pixels of the sheet: side of a global view, between views, above and below the rows."""
LINE = 12
"""Pixels of a line of words; captions have one more where views are turned, shifted or seen through a window."""
WIDEST = 4 / 3
"""Width of an original by its height, at most."""
DPI = 100
MASKED = np.array([52.0, 137.0, 180.0])
VEIL = 0.55
COLOURS = (OUTLINES["true"], OUTLINES["predicted"], "#b4bbc6")
"""Of the crops on the original: first global, second global, local."""


@dataclass(frozen=True)
class Seen:
    """One image as training sees it, views in grey values from 0 to 255.

    Attributes:
        image: (H, W) uint8.
        plan: of its views.
        crops: (G, G) uint8 each, global ones first, then (L, L).
        masks: (rows, columns) boolean of the global views.
    """

    image: np.ndarray
    plan: ViewPlan
    crops: list[np.ndarray]
    masks: list[np.ndarray]


def draw_views(corpus: Corpus, config: PretrainConfig, out: Path, images: int = 8) -> Path:
    """Draw the first images of the stream that a run with this config trains on, with their views, as a PNG file.

    Raises:
        ConfigError: an ``out`` that is no PNG file, or too many images.
        RaddinoError: no image to show, or one that cannot be read.
    """
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out takes a .png file, got {out}")
    if not 1 <= images <= MOST_IMAGES:
        raise ConfigError(f"--images takes 1 to {MOST_IMAGES}, got {images}")
    seen = first_seen(corpus, config, images)
    views = config.views
    small = min(round(TILE * views.local_size / views.global_size), (TILE - GAP) // 2)
    stacked = max(1, (TILE + GAP) // (small + GAP))
    columns = -(-views.local_views // stacked)
    originals = max(_fitted(one.image)[1] for one in seen)
    lefts = [GAP, *(originals + 2 * GAP + at * (TILE + GAP) for at in range(GLOBAL_VIEWS + 1))]
    width = max(lefts[-1] + columns * (small + GAP), lefts[-1] + GAP)
    caption = CAPTION + LINE * bool(views.posed or views.window)
    height = TOP + images * (TILE + caption + GAP)
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    with figure(width / DPI, height / DPI) as page:
        page.set_layout_engine(None)
        axes = page.add_axes((0, 0, 1, 1))
        for number, one in enumerate(seen):
            top = TOP + number * (TILE + caption + GAP)
            _draw_original(axes, canvas, one, top, lefts[0])
            axes.text(lefts[0], top + TILE + 4, f"image {number + 1}", va="top", fontsize=7.5, color=MUTED)
            for v in range(GLOBAL_VIEWS):
                canvas[top : top + TILE, lefts[1 + v] : lefts[1 + v] + TILE] = _veiled(one.crops[v], one.masks[v])
                words = _said(one.plan, v, float(one.masks[v].mean()))
                axes.text(lefts[1 + v], top + TILE + 4, words, va="top", fontsize=7, color=MUTED)
                _frame(axes, (lefts[1 + v], top, TILE, TILE), v)
            for v, crop in enumerate(one.crops[GLOBAL_VIEWS:]):
                y, x = top + v // columns * (small + GAP), lefts[-1] + v % columns * (small + GAP)
                canvas[y : y + small, x : x + small] = _scaled(crop, small, small)[..., None]
        heads = ["Original and its crops", "Global view 1", "Global view 2", "Local views"]
        for left, head in zip(lefts, heads[: 3 + bool(views.local_views)], strict=False):
            axes.text(left, TOP - 8, head, va="bottom", fontweight="bold")
        axes.text(
            GAP, 8, f"What pre-training sees, seed {config.seed}: 2 x {views.global_size} + {views.local_views} x "
            f"{views.local_size} pixels. Veiled in blue: masked for the student. Not for diagnosis.", va="top",
        )  # fmt: skip
        axes.imshow(canvas, interpolation="nearest", aspect="auto", extent=(0, width, height, 0), zorder=0)
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        put_stamp(page, stamp_of(corpus.info["synthetic"]))
        with draft_of(out) as draft:
            page.savefig(draft, dpi=DPI, format="png", facecolor="white", metadata={"Software": None})
    return out


def first_seen(corpus: Corpus, config: PretrainConfig, images: int) -> list[Seen]:
    """The first images of the run's stream, read, planned, masked and rendered by what training uses."""
    rows = training_rows(corpus, config.model_copy(update={"batch_size": 1}))
    size, views = config.batch_size // config.accumulate, config.views
    grid = (views.global_size // config.vit.patch_size,) * 2
    samples = Samples(corpus, rows, views, config.seed)
    collate = Collate(views, config.seed, size, grid, masked=config.ssl.ibot_weight > 0)
    found: list[Seen] = []
    for start in range(0, images, size):
        shown = min(size, images - start)
        read = [samples[position] for position in range(start, start + shown)]
        batch = collate(read)
        if isinstance(batch, RaddinoError):
            raise batch
        kinds = [kind for kind in Multicrop(views)(batch.images, batch.plan) if kind is not None]
        grey = [
            (kind * views.std + views.mean)
            .clamp(0, 1)
            .mul(255)
            .round()
            .to(torch.uint8)
            .view(-1, shown, *kind.shape[2:])
            for kind in kinds
        ]
        masks = batch.masks.view(GLOBAL_VIEWS, shown, *grid).numpy()
        for at in range(shown):
            sample = read[at]
            assert not isinstance(sample, RaddinoError)
            pixels = sample[1] if sample[1].dtype == torch.uint8 else _bytes(sample[1])
            crops = [crop.numpy() for kind in grey for crop in kind[:, at]]
            found.append(Seen(pixels.numpy(), sample[2], crops, list(masks[:, at])))
    return found


def _bytes(grey: torch.Tensor) -> torch.Tensor:
    return (grey.clamp(0, 1) * 255).round().to(torch.uint8)


def _fitted(image: np.ndarray) -> tuple[int, int]:
    """Height and width of an original on the sheet."""
    height, width = image.shape
    factor = min(TILE / height, WIDEST * TILE / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _draw_original(axes: Axes, canvas: np.ndarray, one: Seen, top: int, left: int) -> None:
    from matplotlib.transforms import Bbox, TransformedBbox

    h, w = _fitted(one.image)
    seen = TransformedBbox(Bbox.from_extents(left - GAP, top - GAP, left + w + GAP, top + h), axes.transData)
    down, across = h / one.image.shape[0], w / one.image.shape[1]
    canvas[top : top + h, left : left + w] = _scaled(one.image, h, w)[..., None]
    for v, (y, x, tall, wide) in reversed(list(enumerate(one.plan.boxes.tolist()))):
        below, right = one.plan.shift[v].tolist()
        box = (left + (x + right * wide) * across, top + (y + below * tall) * down, wide * across, tall * down)
        _frame(axes, box, v, turn=one.plan.turn[v].item()).set_clip_box(seen)


def _frame(axes: Axes, box: tuple[float, float, float, float], view: int, turn: float = 0.0) -> Patch:
    """A box (left, top, width, height) of a view, turned clockwise about its centre."""
    from matplotlib.patches import Rectangle

    x, y, width, height = box
    colour, line = COLOURS[min(view, GLOBAL_VIEWS)], 1.6 if view < GLOBAL_VIEWS else 0.5
    return axes.add_patch(
        Rectangle(
            (x, y), width, height, angle=turn, rotation_point="center", fill=False, edgecolor=colour, linewidth=line
        )
    )


def _scaled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    kind = Image.Resampling.BICUBIC if pixels.shape[0] > height else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize((width, height), kind))


def _veiled(crop: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A global view (TILE, TILE, 3) uint8 with its masked patches in blue, lighter at their border."""
    shown = np.repeat(_scaled(crop, TILE, TILE)[..., None], 3, axis=2).astype(float)
    place = np.minimum(np.arange(TILE) * len(mask) // TILE, len(mask) - 1)
    masked = mask[np.ix_(place, place)]
    shown[masked] = (1 - VEIL) * shown[masked] + VEIL * MASKED
    edge = np.zeros_like(masked)
    edge[1:] |= masked[1:] != masked[:-1]
    edge[:, 1:] |= masked[:, 1:] != masked[:, :-1]
    shown[edge] = 0.4 * MASKED + 0.6 * 255
    return shown.round().astype(np.uint8)


def _said(plan: ViewPlan, view: int, masked: float) -> str:
    """What was done to a view, in words; nothing of the image itself."""
    brightness, contrast, sigma = (float(x[view]) for x in (plan.brightness, plan.contrast, plan.sigma))
    words = ["mirrored"] if plan.flip[view] else []
    words += [f"blur {sigma:.1f} px"] if sigma else []
    words += ["solarised"] if plan.solarize[view] else []
    words += [f"{masked:.0%} masked"] if masked else []
    changed = brightness != 1 or contrast != 1
    factors = [f"brightness x {brightness:.2f}, contrast x {contrast:.2f}"] if changed else []
    (below, right), (black, white) = plan.shift[view].tolist(), plan.window[view].tolist()
    placed = [f"turned {plan.turn[view]:+.1f}°"] if plan.turn[view] else []
    placed += [f"moved {right:+.0%}, {below:+.0%}"] if below or right else []
    placed += [f"window {100 * black:.0f} to {white:.0%}"] if white - black < 1 else []
    return "\n".join(", ".join(line) for line in (words, placed, factors) if line) or "cropped only"
