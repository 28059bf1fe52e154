"""Text in pixels, measured: identifiers found, markers kept, clean images left alone, by engine and condition.

Into each real image of the sources go three synthetic identifiers (name, date, time of day, number, place) and two
markers, in fonts that the built-in detector was not trained on, in random styles, sizes and contrasts. An identifier
is found when at least 80 % of its ink box would be blanked; a marker is kept when less than 10 % of its would be.
Intervals are Wilson's, 95 %.

    python benchmarks/text.py DATA --sources nih,cohen --splits val,test --engine strokes --out text.json
    python benchmarks/text.py DATA --sources nih,cohen --splits val,test --clean reviewed.csv
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from PIL import ImageFont
from scipy.stats import binomtest
from text_bank import VALIDATED, sized, training_rows
from text_burn import IDENTIFIERS, MARKERS, STYLES, Burned, burn, compressed, fonts

from raddino.inspection.text import apply_policy, find_text, holes
from raddino.progress import track

HELD_OUT = ("DejaVu", "Hack", "Roboto", "Cantarell")
FOUND, HARMED = 0.8, 0.1
SIZES = (8, 60)
SEED = 20


def held_out_fonts(names: tuple[str, ...]) -> list[Path | None]:
    """Fonts of matplotlib and the system whose names begin so; None is Pillow's own."""
    folders = [Path(matplotlib.get_data_path()) / "fonts/ttf", Path("/usr/share/fonts")]
    unique = {
        p.name: p for p in fonts(folders) if p.name.startswith(names) and "Light" not in p.name and "Thin" not in p.name
    }
    return [None, *unique.values()]


def with_text(
    image: np.ndarray, rng: np.random.Generator, faces: Sequence[Path | None], turns: int
) -> tuple[np.ndarray, list[Burned], int]:
    """The image with up to five texts burned in and, in two of three images, JPEG of quality 70 to 95 (else 100)."""
    out, taken, burned = np.rot90(image, turns).astype(np.float32), np.zeros(np.rot90(image, turns).shape, bool), []
    for kind in (*rng.choice(list(IDENTIFIERS), 3), "marker", "marker"):
        text = (
            str(rng.choice(MARKERS if rng.random() < 0.6 else MARKERS[:4]))
            if kind == "marker"
            else IDENTIFIERS[str(kind)](rng)
        )
        for _ in range(8):
            size = round(float(np.exp(rng.uniform(*np.log(SIZES)))))
            face = faces[int(rng.integers(len(faces)))]
            font = ImageFont.load_default(size) if face is None else ImageFont.truetype(str(face), size)
            one = burn(out, text, str(kind), font, str(rng.choice(STYLES)), rng, taken, contrast=(40.0, 200.0))
            if one is not None:
                burned.append(one)
                break
    pixels = out.round().astype(np.uint8)
    quality = int(rng.integers(70, 96)) if rng.random() < 2 / 3 else 100
    return (compressed(pixels, quality) if quality < 100 else pixels), burned, quality


def covered(one: Burned, hole: np.ndarray) -> float:
    """Share of the ink box of ``one`` that is to be blanked."""
    return float(hole[one.top : one.top + one.height, one.left : one.left + one.width].mean())


def conditions(one: Burned, quality: int, source: str) -> list[tuple[str, str]]:
    size = next(f"{a} to {b} px" for a, b in ((8, 10), (11, 14), (15, 24), (25, 60)) if one.size <= b)
    contrast = next(
        name for top, name in ((60, "40 to 60"), (120, "60 to 120"), (256, "over 120")) if one.contrast <= top
    )
    jpeg = "none" if quality == 100 else "70 to 82" if quality <= 82 else "83 to 95"
    kind = one.kind if one.kind != "marker" else "one or two letters" if len(one.text) <= 2 else "words"
    return [
        ("all", ""),
        ("source", source),
        ("kind", kind),
        ("style", one.style),
        ("font size", size),
        ("contrast", contrast),
        ("JPEG quality", jpeg),
    ]


def share(hits: int, n: int) -> dict[str, float | int]:
    """Hits, trials, their share and Wilson's interval."""
    interval = binomtest(hits, n).proportion_ci(0.95, "wilson")
    return {"hits": hits, "n": n, "share": hits / n, "low": interval.low, "high": interval.high}


def measured(
    rows: pd.DataFrame, data: Path, engine: str, turned: bool, blanking: bool, names: tuple[str, ...] = HELD_OUT
) -> dict[str, object]:
    """Recall of identifiers, markers kept, and what is left after blanking, on images with burned text."""
    rng, faces = np.random.default_rng(SEED), held_out_fonts(names)
    counts: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    seconds, set_aside, missed = [], 0, []
    for row in track(rows.itertuples(), f"burned, {engine}", len(rows)):
        turns = int(rng.integers(1, 4)) if turned else 0
        image, burned, quality = with_text(sized(data / row.path), rng, faces, turns)
        if turned:
            image = np.ascontiguousarray(np.rot90(image))
            burned = [
                Burned(
                    image.shape[0] - b.left - b.width,
                    b.top,
                    b.width,
                    b.height,
                    b.kind,
                    b.text,
                    b.style,
                    b.size,
                    b.contrast,
                )
                for b in burned
            ]
        start = time.process_time()
        regions = find_text(image, engine)
        seconds.append(time.process_time() - start)
        hole = holes(image.shape, regions)
        for one in burned:
            if one.kind == "marker":
                what, hit = "markers kept", covered(one, hole) < HARMED
            else:
                what, hit = "identifiers found", covered(one, hole) >= FOUND
            if not hit:
                missed.append((what, one.style, one.size, round(one.contrast), len(one.text), row.source))
            for name, value in conditions(one, quality, row.source):
                counts[what, name, value][0] += hit
                counts[what, name, value][1] += 1
        if blanking:
            set_aside += apply_policy(image, "blank", engine)[0] is None
    table = [{"what": w, "condition": c, "value": v, **share(*pair)} for (w, c, v), pair in counts.items()]
    table.sort(key=lambda r: (r["what"], r["condition"], r["value"]))
    return {
        "engine": engine, "turned": turned, "images": len(rows), "fonts": len(faces), "table": table, "missed": missed,
        "ms an image, median": 1e3 * float(np.median(seconds)),
        "ms an image, 95 %": 1e3 * float(np.quantile(seconds, 0.95)),
        "set aside after blanking": set_aside if blanking else None,
    }  # fmt: skip


def clean(rows: pd.DataFrame, data: Path, engine: str, reviewed: Path) -> dict[str, object]:
    """Images with an identifier region among those that a person saw to hold none.

    ``reviewed`` is a CSV with ``index`` (of the row in the manifest) and ``text``: none, markers, initials or other.
    """
    seen = pd.read_csv(reviewed).set_index("index")["text"]
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for row in track(rows.itertuples(), f"clean, {engine}", len(rows)):
        kind = seen.get(row.Index)
        if kind is None:
            continue
        flagged = any(r.kind == "identifier" for r in find_text(sized(data / row.path), engine))
        counts[row.source, kind][0] += flagged
        counts[row.source, kind][1] += 1
    return {
        "engine": engine,
        "table": [{"source": s, "text": k, **share(*pair)} for (s, k), pair in sorted(counts.items())],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with manifest.csv (path, source, split)")
    parser.add_argument("--sources", default="nih,cohen")
    parser.add_argument("--splits", default="val,test", help="of the sources but cohen, which is taken whole")
    parser.add_argument("--engine", default="strokes")
    parser.add_argument("--every", type=int, default=1, help="take every n-th image")
    parser.add_argument("--validate", action="store_true", help="images and fonts kept for choosing limits instead")
    parser.add_argument("--turned", action="store_true", help="turn images by 90, 180 or 270 degrees")
    parser.add_argument("--blanking", action="store_true", help="blank too, and count images that are set aside")
    parser.add_argument("--clean", type=Path, help="CSV of reviewed images; measures these instead of burned text")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = pd.read_csv(args.data / "manifest.csv", low_memory=False)
    rows = rows[rows["source"].isin(args.sources.split(","))]
    rows = rows[(rows["source"] == "cohen") | rows["split"].isin(args.splits.split(","))]
    rows = (training_rows(args.data, validation=True) if args.validate else rows).iloc[:: args.every]
    if args.clean:
        result = clean(rows, args.data, args.engine, args.clean)
    else:
        fonts_of = VALIDATED if args.validate else HELD_OUT
        result = measured(rows, args.data, args.engine, args.turned, args.blanking, fonts_of)
    for line in result["table"]:
        where = " ".join(str(line[k]) for k in ("what", "condition", "value", "source", "text") if line.get(k))
        print(
            f"{where:<50} {line['hits']:>5} / {line['n']:<5}",
            f"{line['share']:.2%} [{line['low']:.2%}, {line['high']:.2%}]",
        )
    print({k: v for k, v in result.items() if k not in ("table", "missed")})
    if args.out:
        args.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
