"""The page of an inspection: what was found, with a contact sheet a reason; one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raddino.errors import counted
from raddino.files import owner_only, write_text
from raddino.look.shown import facts, showable
from raddino.report.holdings import holdings_part
from raddino.report.style import OUTLINES, THEME, data_uri, stamp_of

if TYPE_CHECKING:
    from raddino.inspection.base import Finding, Severity
    from raddino.inspection.drift import Told
    from raddino.inspection.holdings import Tables
    from raddino.inspection.inspect import Inspection

MOST, SIDE = 24, 220
"""Images of a contact sheet, and pixels of each one's longer side."""


@dataclass(frozen=True)
class Tile:
    """One image of a contact sheet; ``partner`` is the picture that belongs to it."""

    image: str
    partner: str | None
    caption: str


@dataclass(frozen=True)
class Contact:
    """A contact sheet: the images of one reason, or the first of them."""

    reason: str
    severity: Severity
    title: str
    count: str
    tiles: list[Tile]
    hidden: int


def write_page(
    inspection: Inspection,
    path: Path,
    held: Tables | None = None,
    told: Sequence[Told] = (),
) -> Path:
    """Write the page, readable by its owner alone: it shows what may be burned into the pixels.

    Args:
        inspection: images of credentialed sources are counted and not shown.
        path: the HTML file.
        held: of :func:`raddino.inspection.holdings.holdings`, shown at the end.
        told: of :func:`raddino.inspection.drift.drift`, shown with it.
    """
    import jinja2

    synthetic = {corpus.info["synthetic"] for corpus in inspection.corpora}
    stamp = stamp_of(synthetic.pop() if len(synthetic) == 1 else "mixed")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    contacts = _contacts(inspection)
    page = environment.get_template("inspection.html.j2").render(
        title=f"What is in {', '.join(corpus.path.name for corpus in inspection.corpora)}",
        head=f"{counted(len(inspection.manifest), 'image')}, "
        f"{counted(len({one.row for one in inspection.findings}), 'image')} with a finding",
        contacts=contacts,
        clean=[reason for reason in inspection.reasons if reason not in {one.reason for one in contacts}],
        holdings=holdings_part(held, told, stamp) if held else None,
        theme=THEME,
        synthetic=stamp,
    )
    with owner_only():
        write_text(path, page)
    return path


def _contacts(inspection: Inspection) -> list[Contact]:
    open_rows = [set(showable(corpus).tolist()) for corpus in inspection.corpora]
    places = list(zip(inspection.manifest["corpus"], inspection.manifest["row"], strict=True))
    made = []
    for reason, (severity, title) in inspection.reasons.items():
        found = inspection.of(reason)
        if not found:
            continue
        shown = [
            one
            for one in found
            if all(places[row][1] in open_rows[places[row][0]] for row in (one.row, one.partner) if row is not None)
        ]
        tiles = [_tile(inspection, one) for one in shown[:MOST]]
        images = len({one.row for one in found})
        made.append(Contact(reason, severity, title, counted(images, "image"), tiles, len(found) - len(shown)))
    return made


def _tile(inspection: Inspection, finding: Finding) -> Tile:
    number, row = (int(inspection.manifest[name][finding.row]) for name in ("corpus", "row"))
    sure = [] if finding.probability is None else [f"{finding.probability:.1%}"]
    words = [*sure, finding.said, facts(inspection.corpora[number], row)]
    partner = None if finding.partner is None else _picture(inspection, finding.partner, ())
    return Tile(_picture(inspection, finding.row, finding.boxes), partner, " · ".join(filter(None, words)))


def _picture(inspection: Inspection, place: int, boxes: tuple[tuple[int, int, int, int], ...]) -> str:
    corpus, row = inspection.corpora[inspection.manifest["corpus"][place]], int(inspection.manifest["row"][place])
    pixels = corpus.read(row)
    grey = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    if not boxes:
        return data_uri(grey, SIDE)
    colour = np.array([int(OUTLINES["predicted"][at : at + 2], 16) for at in (1, 3, 5)], np.uint8)
    framed = np.repeat(grey[..., None], 3, axis=2)
    thick = max(1, max(grey.shape) // SIDE)
    for top, left, height, width in boxes:
        outer = (slice(max(top - thick, 0), top + height + thick), slice(max(left - thick, 0), left + width + thick))
        inside = framed[top : top + height, left : left + width].copy()
        framed[outer] = colour
        framed[top : top + height, left : left + width] = inside
    return data_uri(framed, SIDE)
