"""One look for every figure: colour-blind safe hues, quiet axes, pictures as inline SVG or data URIs.

Figures are drawn in the light colours. In the page's SVG each of them becomes a CSS variable, so that one
drawing serves light and dark. Hues follow Okabe and Ito (2008), darkened or lightened to a contrast of 3:1.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THEME = {
    "paper": ("#fdfdfc", "#14171c"),
    "ink": ("#1b2028", "#e6e9ee"),
    "muted": ("#5b6573", "#9aa5b4"),
    "rule": ("#dde2e8", "#2e353f"),
    "c0": ("#0b63b5", "#62aef5"),
    "c1": ("#cc4e08", "#ff9257"),
    "c2": ("#007f5f", "#3cc7a0"),
    "c3": ("#a34a86", "#e596c9"),
    "c4": ("#a87400", "#f0c04a"),
    "c5": ("#3489b4", "#8fd3f4"),
    "c6": ("#6a6f78", "#b4bbc6"),
}
HUES = [light for name, (light, _) in THEME.items() if name.startswith("c")]
DASHES = [
    "-",
    (0, (6, 1.5)),
    (0, (2.5, 1.2)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (1, 1)),
    (0, (9, 2)),
    (0, (4, 1, 1, 1, 1, 1)),
]
OUTLINES = {"true": THEME["c5"][1], "predicted": THEME["c1"][1]}
"""On radiographs, which are dark in either mode."""
STAMP_INCHES = 0.13
INK, MUTED, RULE = (THEME[name][0] for name in ("ink", "muted", "rule"))

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "raddino",
    "font.family": "sans-serif",
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "text.parse_math": False,
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
}


_COORDINATE = re.compile(r"(\d+\.\d\d)\d+")
"""To a hundredth of a point: what lies below is not seen."""


def hue(i: int) -> str:
    """Line colour of the i-th thing; the same thing keeps its colour on the whole page."""
    return HUES[i % len(HUES)]


def dash(i: int) -> object:
    """Line pattern of the i-th thing, so that colour is never the only difference."""
    return DASHES[i % len(DASHES)]


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of ``width`` x ``height`` inches in the house style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        yield Figure(figsize=(width, height), layout="constrained")


def svg(draw: Callable[[Axes], None], width: float = 3.7, height: float = 2.7, stamp: str = "") -> str:
    """What ``draw`` puts on one pair of axes, as an ``<svg>`` element whose colours are CSS variables."""
    with figure(width, height) as page:
        axes = page.subplots()
        draw(axes)
        put_stamp(page, stamp)
        buffer = io.StringIO()
        page.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"font: ([^;\"]*?px) [^;\"]+", r"font: \1 var(--sans)", text)
    text = re.sub(r'\bd="[^"]*"', lambda path: _COORDINATE.sub(r"\1", " ".join(path[0].split())), text)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    for name, (light, _) in THEME.items():
        text = text.replace(light, f"var(--{name})")
    return text


def stamp_of(synthetic: bool | str | None) -> str:
    """The words that every figure made from drawn radiographs carries; empty for real images."""
    return "partly synthetic data" if synthetic == "mixed" else "synthetic data" if synthetic else ""


def put_stamp(page: Figure, words: str) -> None:
    """Write the stamp in the lower right corner, below everything else."""
    if words and (engine := page.get_layout_engine()) is not None:
        room = STAMP_INCHES / page.get_figheight()
        engine.set(rect=(0, room, 1, 1 - room))  # type: ignore[call-arg]
    page.text(0.995, 0.008, words, ha="right", va="bottom", fontsize=7.5, style="italic", color=MUTED)


def banded(values: dict[int, float]) -> set[int]:
    """Palette numbers of the curves that get a band: all of three, of more the first (reference) and the highest."""
    return set(values) if len(values) <= 3 else {min(values), max(values, key=lambda colour: values[colour])}


def draw_level(axes: Axes, value: float, words: str) -> None:
    """A dotted horizontal line, named to the right of the axes, where no curve runs."""
    axes.axhline(value, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate(
        words, (1, value), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
        ha="left", va="center", color=MUTED, fontsize=8, annotation_clip=False,
    )  # fmt: skip


def legend(axes: Axes, columns: int = 2) -> None:
    """A legend above the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, borderaxespad=0.2)


def data_uri(pixels: np.ndarray, side: int, *, lossless: bool = False) -> str:
    """Grey (H, W) or colour (H, W, 3) uint8 pixels as a data URI.

    Args:
        side: longest side of the stored picture, in pixels; never enlarged.
        lossless: PNG instead of JPEG, for small pictures whose pixels are meant to be seen.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "png" if lossless else "jpeg"
    image.save(buffer, kind, optimize=True, **({} if lossless else {"quality": 86}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
