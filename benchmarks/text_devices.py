"""Things in radiographs that are no text, drawn: wires, clips, arrows, rulers, dots of print."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline

KINDS = 17
ARROWS = (5, 10, 15)


def device(image: np.ndarray, rng: np.random.Generator, scale: float = 1.0, kind: int | None = None) -> None:
    """Draws one thing that is no text into the float32 ``image``: a wire, tube, clip, ring, loop, arrow, pacemaker,
    ruler, grid, edge, bar, dots of print, ECG clip or sternal wire; ``ARROWS`` are the kinds that are arrows."""
    rows, columns = image.shape
    big = 3
    canvas = Image.new("L", (columns * big, rows * big))
    draw = ImageDraw.Draw(canvas)
    y, x = rng.uniform(0, rows), rng.uniform(0, columns)
    s = scale * rng.uniform(6, 40)
    width = max(1, int(scale * rng.uniform(0.8, 5) * big))
    kind = int(rng.integers(KINDS)) if kind is None else kind
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
    elif kind == 13:
        step, a = scale * rng.uniform(2.2, 7), rng.uniform(0, np.pi / 2)
        r, reach = step * rng.uniform(0.2, 0.48), int(rng.integers(3, 14))
        wide = reach * rng.uniform(0.3, 1)
        for i in range(-reach, reach + 1):
            for k in range(-int(wide), int(wide) + 1):
                cy, cx = y + step * (i * np.cos(a) - k * np.sin(a)), x + step * (i * np.sin(a) + k * np.cos(a))
                draw.ellipse(((cx - r) * b, (cy - r) * b, (cx + r) * b, (cy + r) * b), fill=int(rng.integers(120, 256)))
    elif kind == 14:
        a, r = rng.uniform(0, 2 * np.pi), scale * rng.uniform(2.5, 9)
        d = np.array([np.cos(a), np.sin(a)])
        for at, radius in ((0.0, r), (rng.uniform(0.8, 2.2) * r, r * rng.uniform(0.4, 0.9))):
            cx, cy = np.array([x, y]) + at * d
            box = ((cx - radius) * b, (cy - radius) * b, (cx + radius) * b, (cy + radius) * b)
            draw.ellipse(box, fill=255 if rng.random() < 0.5 else None, outline=255, width=width)
        if rng.random() < 0.6:
            draw.ellipse([(v - 0.4 * r) * b for v in (x, y)] + [(v + 0.4 * r) * b for v in (x, y)], fill=0)
        t = np.linspace(0, scale * rng.uniform(20, 120), 50)
        bend = rng.normal(0, 0.02)
        lead = np.array([x, y]) + np.stack([t * np.cos(a + bend * t), t * np.sin(a + bend * t)], axis=1)
        draw.line([tuple((p * b).tolist()) for p in lead], fill=255, width=max(2, width // 2), joint="curve")
    elif kind == 15:
        a = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else float(rng.integers(4)) * np.pi / 2
        for k in range(int(rng.choice([1, 1, 2]))):
            tip = np.array([x, y]) + k * rng.normal(0, 2 * s, 2)
            for turn in (0.0, 0.5, -0.5):
                end = tip - (s if turn == 0 else s * rng.uniform(0.3, 0.5)) * np.array(
                    [np.cos(a + turn), np.sin(a + turn)]
                )
                draw.line([*(tip * b).tolist(), *(end * b).tolist()], fill=255, width=width)
    elif kind == 16:
        for k in range(int(rng.integers(1, 6))):
            cy, r = y + k * s * rng.uniform(0.9, 1.3), s * rng.uniform(0.2, 0.4) * b
            draw.ellipse(
                (x * b - r * 1.4, cy * b - r, x * b + r * 1.4, cy * b + r), outline=255, width=max(2, width // 2)
            )
            draw.line((x * b, cy * b, (x + rng.normal(0, 3)) * b, cy * b - 1.6 * r), fill=255, width=width)
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
