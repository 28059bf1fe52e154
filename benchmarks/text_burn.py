"""Synthetic text burned into images: names, dates, times, numbers and markers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARKERS = (
    *("L", "R", "AP", "PA", "PORTABLE", "SUPINE", "ERECT", "UPRIGHT", "DECUB", "DECUBITUS", "PORT", "LAT", "LATERAL"),
    *("LEFT", "RIGHT", "SEMI-ERECT", "SEMIERECT", "SITTING", "STANDING", "PRONE", "MOBILE", "SEMI", "LINKS", "RECHTS"),
)
FIRST = (
    "Anna José Zoë Jörg Łukasz François Mary John Wei Ngọc Søren Inés Amélie Piotr Olga Ravi Fatima Björn Noël Eve Al"
)
LAST = (
    "Müller Smith Nguyễn García Lefèvre Ødegård Kowalska Peña Brontë Ivanov Çelik O'Neill D'Souza Li Ng Lee Wright "
    "Park Laporte Parker Portman Reyes Erector Rightley Leftwich Prower Lateur Semmler Apel Paap Ramos Lang Ali"
)
PLACES = "Hospital Klinik Radiology St. Mary General Clinique Centro Universitario Ward Bed Room ICU Dept. Saint-Luc"
FIELDS = "MRN ID DOB Acc# PatID No. Geb. Ref Name Pat Tech Dr. Age kV mAs SID"


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _digits(rng: np.random.Generator, n: int) -> str:
    return "".join(str(d) for d in rng.integers(0, 10, n))


def name(rng: np.random.Generator) -> str:
    first, last = _choose(rng, FIRST.split()), _choose(rng, LAST.split())
    form = ("{l}, {f}", "{l}^{f}", "{f} {l}", "{l}", "{L}, {F}", "{L}^{F}", "{L} {F}", "{L}", "{i}. {l}", "{L} {i}")
    return _choose(rng, form).format(f=first, l=last, F=first.upper(), L=last.upper(), i=first[0])


def date(rng: np.random.Generator) -> str:
    year, month, day = int(rng.integers(1920, 2027)), int(rng.integers(1, 13)), int(rng.integers(1, 29))
    name_of = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1]
    form = (
        "{y}-{m:02}-{d:02}",
        "{d:02}.{m:02}.{y}",
        "{m}/{d}/{y}",
        "{y}{m:02}{d:02}",
        "{d:02} {n} {y}",
        "{d}/{m}/{s:02}",
    )
    return _choose(rng, form).format(y=year, m=month, d=day, n=name_of, s=year % 100)


def time_of_day(rng: np.random.Generator) -> str:
    hour, minute, second = (int(rng.integers(k)) for k in (24, 60, 60))
    form = (
        "{h:02}:{m:02}",
        "{h:02}:{m:02}:{s:02}",
        "{h}.{m:02} hrs",
        "{g}:{m:02} AM",
        "{g}:{m:02} PM",
        "{h:02}h{m:02}",
    )
    return _choose(rng, form).format(h=hour, m=minute, s=second, g=hour % 12 + 1)


def number(rng: np.random.Generator) -> str:
    field, digits = _choose(rng, FIELDS.split()), _digits(rng, int(rng.integers(4, 11)))
    form = ("{d}", "{d}", "{f} {d}", "{f}: {d}", "{a}{d}", "{d}-{e}", "{a}{b}{d}", "{e}Y", "1.2.840.{d}.{e}")
    a, b = (chr(65 + int(k)) for k in rng.integers(0, 26, 2))
    return _choose(rng, form).format(d=digits, e=_digits(rng, 3), f=field, a=a, b=b)


def place(rng: np.random.Generator) -> str:
    return " ".join(_choose(rng, PLACES.split()) for _ in range(int(rng.integers(1, 4))))


IDENTIFIERS = {"name": name, "date": date, "time": time_of_day, "number": number, "place": place}
STYLES = ("bright", "dark", "semi", "outlined", "boxed dark", "boxed bright")


@dataclass(frozen=True)
class Burned:
    """One text: its box in pixels, ``kind`` (a key of ``IDENTIFIERS`` or ``"marker"``) and how it was drawn.

    ``contrast`` is how many grey levels the ink differs from the median under it, or from its outline or box."""

    top: int
    left: int
    height: int
    width: int
    kind: str
    text: str
    style: str
    size: int
    contrast: float


def ink_mask(text: str, font: ImageFont.FreeTypeFont, angle: float = 0.0, stroke: int = 0) -> np.ndarray:
    """Coverage of the drawn text, (h, w) float32 in [0, 1], cut to its ink."""
    left, top, right, bottom = font.getbbox(text, stroke_width=stroke)
    canvas = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8))
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), text, fill=255, font=font, stroke_width=stroke)
    if angle:
        canvas = canvas.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"nothing is drawn for {text!r}")
    if stroke == 0:
        return np.asarray(canvas.crop(box), dtype=np.float32) / 255
    return np.asarray(canvas, dtype=np.float32) / 255


def burn(
    image: np.ndarray,
    text: str,
    kind: str,
    font: ImageFont.FreeTypeFont,
    style: str,
    rng: np.random.Generator,
    taken: np.ndarray | None = None,
    angle: float = 0.0,
    contrast: tuple[float, float] = (40.0, 255.0),
    turns: int = 0,
    at: tuple[int, int] | None = None,
) -> Burned | None:
    """Draws ``text`` into the float32 ``image`` (0 to 255, in place) where ``taken`` is False, which is then marked.

    None where no free place or no ink of the least contrast is found.
    """
    mask = np.rot90(ink_mask(text, font, angle), turns)
    h, w = mask.shape
    pad = max(2, round(font.size / 5))
    rows, columns = image.shape
    if h + 2 * pad >= rows or w + 2 * pad >= columns:
        return None
    for _ in range(30):
        if at is not None:
            top, left = at
        elif rng.random() < 0.6:
            top = (
                int(rng.choice([pad, rows - h - pad])) if rng.random() < 0.6 else int(rng.integers(pad, rows - h - pad))
            )
            left = (
                int(rng.choice([pad, columns - w - pad]))
                if rng.random() < 0.6
                else int(rng.integers(pad, columns - w - pad))
            )
        else:
            top, left = int(rng.integers(pad, rows - h - pad)), int(rng.integers(pad, columns - w - pad))
        around = np.s_[max(top - pad, 0) : top + h + pad, max(left - pad, 0) : left + w + pad]
        inner = np.s_[top : top + h, left : left + w]
        if taken is not None and taken[around].any():
            if at is not None:
                return None
            continue
        ground = float(np.median(image[inner]))
        wanted = float(rng.uniform(*contrast))
        patch = image[inner]
        if style in ("boxed dark", "boxed bright"):
            box, ink = (
                (rng.uniform(0, 40), rng.uniform(120, 255))
                if style == "boxed dark"
                else (rng.uniform(180, 255), rng.uniform(0, 100))
            )
            image[around] = box
            patch = image[inner]
            patch += mask * (ink - patch)
            reached = abs(ink - box)
        elif style == "outlined":
            ink, edge = (255.0, 0.0) if rng.random() < 0.7 else (0.0, 255.0)
            width = max(1, round(font.size / 18))
            wide = Image.fromarray((np.pad(mask, width) * 255).astype(np.uint8))
            ring = np.asarray(_dilated(np.asarray(wide, dtype=np.float32) / 255, width))
            outer = np.s_[top - width : top + h + width, left - width : left + w + width]
            image[outer] += ring * (edge - image[outer])
            patch = image[inner]
            patch += mask * (ink - patch)
            reached = 255.0
        else:
            bright = style != "dark"
            if style == "semi":
                bright = ground < 128
            ground = float(np.quantile(image[inner], 0.98 if bright else 0.02))
            room = 255 - ground if bright else ground
            if room < contrast[0]:
                if at is not None:
                    return None
                continue
            reached = min(max(wanted, contrast[0]), room)
            ink = ground + reached if bright else ground - reached
            if style == "semi":
                alpha = rng.uniform(0.45, 0.85)
                ink = 255.0 if bright else 0.0
                alpha = max(alpha, contrast[0] / room)
                reached = alpha * room
                mask = mask * alpha
            patch += mask * (ink - patch)
        np.clip(image, 0, 255, out=image)
        if taken is not None:
            taken[around] = True
        return Burned(top, left, h, w, kind, text, style, int(font.size), reached)
    return None


def _dilated(mask: np.ndarray, width: int) -> np.ndarray:
    out = mask
    for _ in range(width):
        wide = np.pad(out, 1)
        out = np.maximum.reduce(
            [wide[1 + y : 1 + y + out.shape[0], 1 + x : 1 + x + out.shape[1]] for y in (-1, 0, 1) for x in (-1, 0, 1)]
        )
    return out


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """The uint8 image after JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def fonts(folders: Sequence[Path]) -> list[Path]:
    """Font files of the folders that hold every letter used here (those of mathematics and symbols do not)."""
    skip = ("Math", "Siz", "NonUni", "cmex", "cmsy", "cmmi", "LastResort", "pdf", "Hairline", "Display")
    found = sorted(p for f in folders for p in Path(f).rglob("*") if p.suffix.lower() in (".ttf", ".otf"))
    return [p for p in found if not any(s in p.name for s in skip)]
