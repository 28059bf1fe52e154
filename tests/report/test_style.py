import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from raddino.report.style import THEME, data_uri, hue, stamp_of, svg


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2)."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_the_paper(mode: int) -> None:
    paper = THEME["paper"][mode]
    assert contrast(THEME["ink"][mode], paper) > 10
    assert contrast(THEME["muted"][mode], paper) > 4.5
    assert all(contrast(colours[mode], paper) > 3 for name, colours in THEME.items() if name.startswith("c"))


def test_svg_is_well_formed_themed_and_closed() -> None:
    def draw(axes) -> None:
        axes.plot([0, 1], [0, 1], color=hue(0), label="<script>$x$&")
        axes.legend()

    text = svg(draw, stamp="synthetic data")
    ElementTree.fromstring(text)
    assert "var(--c0)" in text
    assert "synthetic data" in text
    assert not any(light in text for light, _ in THEME.values())
    assert "<script" not in text
    assert text == svg(draw, stamp="synthetic data")


@pytest.mark.parametrize("shape", [(300, 200), (300, 200, 3), (4, 4)])
def test_pictures_are_shrunk_but_never_enlarged(shape: tuple[int, ...]) -> None:
    uri = data_uri(np.zeros(shape, np.uint8), 100, lossless=True)
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert max(image.size) == min(100, max(shape[:2]))


@pytest.mark.parametrize(
    ("synthetic", "words"),
    [(True, "synthetic data"), ("mixed", "partly synthetic data"), (False, ""), (None, "")],
)
def test_figures_say_what_was_drawn(synthetic: bool | str | None, words: str) -> None:
    assert stamp_of(synthetic) == words
