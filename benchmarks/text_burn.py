"""Synthetic text burned into images: names, dates, times, numbers and markers; and things that are no text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.interpolate import CubicSpline

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


def device(image: np.ndarray, rng: np.random.Generator, scale: float = 1.0, kind: int | None = None) -> None:
    """Draws one thing that is no text into the float32 ``image``: a wire, tube, clip, ring, loop, arrow, pacemaker,
    ruler, grid, edge or lead; ``kind`` 5 and 10 are arrows."""
    rows, columns = image.shape
    big = 3
    canvas = Image.new("L", (columns * big, rows * big))
    draw = ImageDraw.Draw(canvas)
    y, x = rng.uniform(0, rows), rng.uniform(0, columns)
    s = scale * rng.uniform(6, 40)
    width = max(1, int(scale * rng.uniform(0.8, 5) * big))
    kind = int(rng.integers(13)) if kind is None else kind
    b = float(big)
    if kind <= 1:
        n = int(rng.integers(3, 8))
        steps = np.cumsum(rng.normal(0, s * 1.2, (n, 2)), axis=0) + np.array([y, x])
        t, fine = np.arange(n), np.linspace(0, n - 1, 60)
        points = CubicSpline(t, steps)(fine)
        draw.line([(float(px) * b, float(py) * b) for py, px in points], fill=255, width=width, joint="curve")
        if rng.random() < 0.4:
            py, px = points[-1]
            r = float(scale * rng.uniform(3, 9) * b)
            draw.ellipse((px * b - r, py * b - r, px * b + r, py * b + r), outline=255, width=width)
    elif kind == 2:
        for _ in range(int(rng.integers(1, 7))):
            cy, cx = y + rng.normal(0, s), x + rng.normal(0, s)
            a, length = rng.uniform(0, np.pi), scale * rng.uniform(3, 12)
            draw.line(
                ((cx * b), cy * b, (cx + length * np.cos(a)) * b, (cy + length * np.sin(a)) * b), fill=255, width=width
            )
    elif kind == 3:
        r = s * 0.6 * b
        draw.ellipse((x * b - r, y * b - r * rng.uniform(0.5, 1), x * b + r, y * b + r), outline=255, width=width)
        if rng.random() < 0.4:
            q = r * rng.uniform(0.2, 0.6)
            draw.ellipse((x * b - q, y * b - q, x * b + q, y * b + q), fill=255)
    elif kind == 4:
        for k in range(int(rng.integers(2, 6))):
            cy, r = y + k * s * 1.3, s * 0.35 * b
            draw.arc(
                (x * b - r * 1.6, cy * b - r, x * b + r * 1.6, cy * b + r),
                float(rng.uniform(0, 90)),
                float(rng.uniform(250, 360)),
                fill=255,
                width=width,
            )
            if rng.random() < 0.6:
                draw.line((x * b, cy * b, x * b + r * rng.uniform(-1, 1), cy * b + r), fill=255, width=width)
    elif kind == 5:
        a = rng.choice([0, np.pi / 2, np.pi, -np.pi / 2]) + rng.normal(0, 0.4)
        d, p = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
        tip, tail = np.array([x, y]), np.array([x, y]) - d * s
        head = [tip, tip - d * s * 0.4 + p * s * 0.3, tip - d * s * 0.4 - p * s * 0.3]
        draw.polygon([tuple((v * b).tolist()) for v in head], fill=255)
        if rng.random() < 0.7:
            draw.line([*(tail * b).tolist(), *((tip - d * s * 0.3) * b).tolist()], fill=255, width=width)
    elif kind == 6:
        step, n = scale * rng.uniform(2.5, 9), int(rng.integers(5, 40))
        across = rng.random() < 0.5
        for k in range(n):
            length = scale * (8 if k % 5 == 0 else rng.uniform(3, 6))
            ends = (
                (x + k * step, y, x + k * step, y + length) if across else (x, y + k * step, x + length, y + k * step)
            )
            draw.line([v * b for v in ends], fill=255, width=max(1, int(b * rng.uniform(0.8, 1.6))))
    elif kind == 7:
        gap = scale * rng.uniform(4, 14)
        for k in range(int(rng.integers(3, 9))):
            draw.line(
                (x * b, (y + k * gap) * b, (x + 7 * gap) * b, (y + k * gap) * b), fill=255, width=max(1, width // 3)
            )
            draw.line(
                ((x + k * gap) * b, y * b, (x + k * gap) * b, (y + 7 * gap) * b), fill=255, width=max(1, width // 3)
            )
    elif kind == 8:
        a, length = rng.uniform(0, np.pi), rng.uniform(20, 200)
        for k in range(int(rng.integers(1, 4))):
            o = k * scale * rng.uniform(3, 8)
            draw.line(
                (x * b, (y + o) * b, (x + length * np.cos(a)) * b, (y + o + length * np.sin(a)) * b),
                fill=255,
                width=width,
            )
    elif kind == 10:
        a = rng.choice([0, np.pi / 2, np.pi, -np.pi / 2])
        d, p = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
        head, half, shaft = s * rng.uniform(0.35, 0.6), s * rng.uniform(0.3, 0.5), s * rng.uniform(0.08, 0.22)
        tip = np.array([x, y])
        neck, tail = tip - d * head, tip - d * s
        shape = [
            tip,
            neck + p * half,
            neck + p * shaft,
            tail + p * shaft,
            tail - p * shaft,
            neck - p * shaft,
            neck - p * half,
        ]
        corners = [tuple((v * b).tolist()) for v in shape]
        if rng.random() < 0.6:
            edge = Image.new("L", canvas.size)
            ImageDraw.Draw(edge).polygon(corners, fill=255, outline=255, width=int(max(2, s * b / 6)))
            ring = np.asarray(edge.resize((columns, rows), Image.Resampling.BOX), dtype=np.float32) / 255
            image += ring * ((0 if rng.random() < 0.8 else 255) - image)
        draw.polygon(corners, fill=255)
    elif kind == 11:
        inset = scale * rng.uniform(0, 14) * b
        side = int(rng.integers(4))
        if side < 2:
            at = inset if side == 0 else rows * b - inset
            draw.line(
                (rng.uniform(0, 0.4) * columns * b, at, rng.uniform(0.6, 1) * columns * b, at + rng.normal(0, 4) * b),
                fill=255,
                width=width,
            )
        else:
            at = inset if side == 2 else columns * b - inset
            draw.line(
                (at, rng.uniform(0, 0.4) * rows * b, at + rng.normal(0, 4) * b, rng.uniform(0.6, 1) * rows * b),
                fill=255,
                width=width,
            )
    elif kind == 12:
        h, w = s * rng.uniform(0.1, 0.5), s * rng.uniform(0.5, 2.5)
        h, w = (h, w) if rng.random() < 0.5 else (w, h)
        draw.rectangle((x * b, y * b, (x + w) * b, (y + h) * b), fill=255)
    else:
        for _ in range(int(rng.integers(1, 5))):
            cy, cx, r = y + rng.normal(0, s * 2), x + rng.normal(0, s * 2), scale * rng.uniform(1, 6) * b
            if rng.random() < 0.5:
                draw.ellipse((cx * b - r, cy * b - r, cx * b + r, cy * b + r), fill=255)
            else:
                draw.rounded_rectangle(
                    (cx * b - r, cy * b - r, cx * b + r * rng.uniform(0.5, 3), cy * b + r),
                    radius=r / 3,
                    outline=255,
                    width=width,
                )
    mask = np.asarray(canvas.resize((columns, rows), Image.Resampling.BOX), dtype=np.float32) / 255
    level = float(rng.uniform(30, 200)) * (1 if rng.random() < 0.85 else -1)
    image += mask * level
    np.clip(image, 0, 255, out=image)
