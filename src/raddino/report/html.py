"""The report: one HTML file that opens offline, and the table for a paper beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raddino.benchmark.contamination import MEANING, SEEN
from raddino.encoders.base import Provenance
from raddino.files import owner_only, write_text
from raddino.report import curves, ranking
from raddino.report.analyses import sections
from raddino.report.artefacts import Results, Run, public, read_results, read_run
from raddino.report.case_parts import case_parts
from raddino.report.findings_page import SIGNS
from raddino.report.latex import latex_table
from raddino.report.style import DASHES, HUES, OUTLINES, THEME, stamp_of, svg
from raddino.report.tables import (
    CASE_KINDS,
    DETAILED,
    Block,
    Sheet,
    blocks,
    crossed,
    interval_rule,
    metric,
    sheets,
    unplaced,
)
from raddino.report.verdict import verdict

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus
    from raddino.encoders.base import Encoder

KEY_WIDTH = 2.4
"""Pixels; the stroke of ``.key line`` in report.css."""
TEMPLATES = Path(__file__).parent / "templates"


def report(
    results: str | Path,
    *,
    run: str | Path | None = None,
    corpus: Corpus | None = None,
    encoder: str | None = None,
    out: str | Path | None = None,
) -> Path:
    """Write ``report.html``, self-contained, and ``table.tex`` beside it.

    Args:
        results: folder that ``evaluate`` wrote.
        run: pre-training run whose curves and settings are shown.
        corpus: where the images of the galleries come from; images of credentialed sources are never shown.
        encoder: whose features the galleries show; default the run's own.
        out: the HTML file; default ``results/report.html``.

    Returns:
        Path of the HTML file.

    Raises:
        RaddinoError: ``results`` or ``run`` is not such a folder, or ``encoder`` is unknown.
    """
    folder, ran = Path(results), Path(run) if run else None
    found, log = read_results(folder), read_run(ran) if ran else None
    file = Path(out) if out else folder / "report.html"
    spec = encoder or (str(ran / "encoder") if ran and (ran / "encoder" / "config.json").is_file() else None)
    synthetic = _synthetic(found.metrics, corpus, log)
    shown = blocks(found.metrics)
    probed = not shown or any(block.kind not in CASE_KINDS for block in shown)
    variants = _variants(found.metrics)
    cases = case_parts(folder, found.metrics, shown, corpus, stamp_of(found.metrics.get("synthetic")))
    page = _template().render(
        metrics=found.metrics,
        verdict=verdict(
            shown,
            [one for one in found.metrics.get("encoders", []) if one["name"] not in variants],
            (found.metrics.get("analyses") or {}).get("site_ranks"),
        ),
        blocks=shown,
        unplaced=unplaced(found.metrics),
        folds=crossed(found.metrics),
        rule=interval_rule(found.metrics),
        sheets=[sheet for sheet in sheets(shown) if any(_leads(sheet, block) for block in sheet.blocks)],
        synthetic=stamp_of(synthetic),
        theme=THEME,
        outlines=OUTLINES,
        dashes=[_css_dash(pattern) for pattern in DASHES],
        hues=len(HUES),
        environment=public(found.metrics.get("environment") or {}),
        probe=public((found.metrics.get("suite") or {}).get("probe") or {}) if probed else {},
        probed=probed,
        variants=variants,
        detailed=DETAILED,
        cases=cases,
        drawn_cases=stamp_of(corpus.info.get("synthetic", corpus.synthetic)) if corpus else "",
        signs=SIGNS,
        words_seen=_words_seen(found.metrics),
        run=log,
        ranking=_ranking(found, shown, stamp_of(found.metrics.get("synthetic"))),
        analyses=sections(found.metrics, stamp_of(found.metrics.get("synthetic"))),
        training=_training(log, stamp_of(synthetic if log is None or log.synthetic is None else log.synthetic)),
        words=_last_words(log),
        **_galleries(corpus, spec, found.metrics, shown),
    )
    write_text(file.with_name("table.tex"), latex_table(found.metrics))
    with owner_only(any(one.pairs for part in cases for one in part.shown)):
        write_text(file, page)
    return file


def worth_showing(specs: Sequence[str], metrics: dict[str, Any]) -> str | None:
    """Of the encoders that were measured, the first with patch features, else the first with features, else None.

    Args:
        specs: as they were asked for.
        metrics: ``metrics.json``; variants of findings tasks stand behind the encoders that were asked for.
    """
    measured = {row["encoder"] for row in metrics["rows"]}
    asked = zip(specs, metrics["encoders"], strict=False)
    able = [(spec, one) for spec, one in asked if one["name"] in measured and one["dim"]]
    return next((spec for spec, one in able if one["grid"]), next((spec for spec, _ in able), None))


def _words_seen(metrics: dict[str, Any]) -> set[str]:
    """Words for what an encoder had seen that stand in the tables."""
    encoders = metrics.get("encoders", [])
    return {word for one in encoders for word in (one.get("contamination") or {}).values()} | {
        one.get("seen", "") for one in encoders
    }


def _template() -> Any:
    import jinja2

    from raddino.benchmark.results import members_text

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["members"] = members_text
    environment.filters["record"] = lambda told: Provenance.from_dict(told) if told else Provenance(sources=None)
    environment.globals.update(meaning=MEANING, seen_words=SEEN)
    environment.filters["percent"] = lambda share: f"{100 * share:.0f}\u00a0%"
    environment.filters["metric"] = lambda key: metric(key).label
    environment.filters["count"] = lambda n: f"{n:,}".replace(",", "\u202f")
    return environment.get_template("report.html.j2")


def _variants(metrics: dict[str, Any]) -> set[str]:
    """Names in the list of encoders that stand for a variant of a case task, for example shuffled images."""
    named = {row["encoder"] for row in metrics["rows"] if (row.get("detail") or {}).get("variant")}
    return named & {encoder["name"] for encoder in metrics.get("encoders", [])}


def _leads(sheet: Sheet, block: Block) -> bool:
    """Whether the page prints the sheet: further metrics of case tasks stand in their own section."""
    return block.kind not in CASE_KINDS or block.metrics[0] == sheet.metric


def _synthetic(metrics: dict[str, Any], corpus: Corpus | None, run: Run | None) -> bool | str:
    """True when all images are drawn, ``"mixed"`` when some are, False when none is known to be."""
    said = [metrics.get("synthetic"), corpus.synthetic if corpus else None, run.synthetic if run else None]
    said = [word for word in said if word is not None]
    if "mixed" in said or (True in said and False in said):
        return "mixed"
    return True in said


def _ranking(results: Results, shown: list[Block], stamp: str) -> list[dict[str, Any]]:
    """Per task its figures as SVG: ROC and PR for binary targets, predicted against true for the others."""
    if results.predictions is None:
        return []
    figures, seed = [], results.metrics.get("seed", 0)
    for block in (one for one in shown if one.kind not in CASE_KINDS):
        rows = results.predictions[results.predictions["task"] == block.task]
        if "split" in rows:
            rows = rows[rows["split"] == "test"]
        rows = rows.dropna(subset=["target", "score"])
        colours = {line.encoder: line.colour for line in block.lines}
        parts = {str(name): part for name, part in rows.groupby("encoder", sort=False) if name in colours}
        if block.kind == "binary" and parts:
            figures.append({"task": block.task, "panels": _curves(parts, colours, seed, stamp)})
        elif parts:
            figures.append({"task": block.task, "panels": _agreement(parts, colours, stamp)})
    return [figure for figure in figures if figure["panels"]]


def _curves(parts: dict[str, Any], colours: dict[str, int], seed: int, stamp: str) -> list[dict[str, Any]]:
    from raddino.metrics.bootstrap import PatientBootstrap

    roc, precision_recall, prevalence = {}, {}, 0.0
    for name, part in parts.items():
        target, score = part["target"].to_numpy(float), part["score"].to_numpy(float)
        if set(target) != {0.0, 1.0}:
            continue
        bootstrap = PatientBootstrap(part["patient"], ranking.RESAMPLES, seed)
        roc[name] = ranking.roc(target, score, bootstrap)
        precision_recall[name] = ranking.precision_recall(target, score, bootstrap)
        prevalence = float(target.mean())
    if not roc:
        return []
    return [
        _panel("ROC", lambda axes: ranking.draw_roc(axes, roc, colours), stamp, square=True),
        _panel(
            "Precision and recall",
            lambda axes: ranking.draw_precision_recall(axes, precision_recall, colours, prevalence),
            stamp,
            square=True,
        ),
    ]


def _agreement(parts: dict[str, Any], colours: dict[str, int], stamp: str) -> list[dict[str, Any]]:
    values = [part[["target", "score"]] for part in parts.values()]
    ends = (float(min(part.min().min() for part in values)), float(max(part.max().max() for part in values)))

    def one(name: str, part: Any) -> dict[str, Any]:
        return _panel(name, lambda axes: ranking.draw_agreement(axes, part, colours[name], ends), stamp, square=True)

    return [one(name, part) for name, part in parts.items()]


def _training(run: Run | None, stamp: str) -> list[dict[str, Any]]:
    if run is None:
        return []

    def one(panel: curves.Panel) -> dict[str, Any]:
        return _panel(panel.title, lambda axes: curves.draw(axes, panel, run), stamp) | {"reads": panel.reads}

    return [one(panel) for panel in curves.drawable(run)]


def _last_words(run: Run | None) -> str:
    if run is None or "verdict" not in run.monitors:
        return ""
    said = run.monitors["verdict"].dropna()
    return str(said.iloc[-1]) if len(said) else ""


def _panel(title: str, draw: Callable[[Any], None], stamp: str, square: bool = False) -> dict[str, Any]:
    from markupsafe import Markup

    drawing = svg(draw, *((3.2, 3.0) if square else (3.7, 2.5)), stamp=stamp)
    return {"title": title, "svg": Markup(drawing)}


def _galleries(corpus: Corpus | None, spec: str | None, metrics: dict[str, Any], shown: list[Block]) -> dict[str, Any]:
    """Pictures and neighbours, or in ``no_gallery`` the sentence that says why there are none."""
    nothing: dict[str, Any] = {"gallery": [], "retrieval": None, "encoder": None, "no_gallery": "", "no_patches": ""}
    if corpus is None:
        return nothing | {"no_gallery": "No corpus was given to this report, so there are no images to show."}
    if spec is None:
        return nothing | {"no_gallery": "No encoder was given to this report, so there are no features to show."}
    from raddino.encoders.load import load_encoder
    from raddino.features.extract import fit_where_needed
    from raddino.look.shown import draw_rows
    from raddino.report.gallery import FITTED, gallery
    from raddino.report.neighbours import retrieve

    encoder = load_encoder(spec)
    rows = draw_rows(corpus, FITTED)
    if not len(rows):
        return nothing | {"no_gallery": "All images come from credentialed sources, whose images are not shown."}
    fit_where_needed(encoder, corpus)
    targets = [block.target for block in shown if block.kind == "binary"]
    name = _display_name(encoder, metrics)
    return nothing | {
        "gallery": gallery(corpus, encoder, list(rows)) if encoder.grid else [],
        "retrieval": retrieve(corpus, encoder, targets),
        "encoder": name,
        "no_patches": "" if encoder.grid else f"{name} has no patch features to show.",
        "fitted": len(rows),
        "drawn": stamp_of(corpus.info.get("synthetic", corpus.synthetic)),
        "elsewhere": corpus.fingerprint != (metrics.get("corpus") or {}).get("fingerprint"),
    }


def _display_name(encoder: Encoder, metrics: dict[str, Any]) -> str:
    """The name that the results give to this encoder, else its own."""
    known = {entry.get("fingerprint"): entry["name"] for entry in metrics.get("encoders", [])}
    return str(known.get(encoder.fingerprint, encoder.name))


def _css_dash(pattern: object) -> str:
    """The pattern in pixels of the key's lines; matplotlib counts in line widths."""
    if isinstance(pattern, str):
        return ""
    return " ".join(f"{KEY_WIDTH * length:g}" for length in pattern[1])  # type: ignore[index]
