"""The command line: each command is a thin layer over the function of the same name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="raddino",
    help="Pre-train, judge and use image-only chest X-ray encoders (DINOv2 self-distillation and masked image "
    "modelling, no report text).\n\nA first journey: sample, prepare, pretrain, evaluate, report.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

CorpusArg = Annotated[Path, typer.Argument(help="Corpus folder made by 'raddino prepare'.", show_default=False)]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU where there is one.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes; the result does not depend on it.", show_default="one a core"),
]
Seed = Annotated[int, typer.Option(help="Seed; equal seeds give equal results.")]


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    n: Annotated[int, typer.Option("-n", "--number", help="Number of images.")] = 1000,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(help="Pixels on a side.")] = 518,
    format: Annotated[str, typer.Option(help="png (16-bit) or dicom.")] = "png",
    workers: Workers = None,
) -> None:
    """Draw synthetic chest radiographs with exact ground truth (labels, masks, sex, age, text)."""
    from raddino.sample.generate import sample as run

    print(f"sample: {run(out, n, seed=seed, size=size, format=format, workers=workers)}")


@app.command()
def prepare(
    images: Annotated[
        str, typer.Argument(help="Folder, glob in quotes, or .csv / .parquet manifest.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Corpus folder to write.", show_default=False)],
    column: Annotated[
        list[str] | None,
        typer.Option(help="Manifest column mapping, for example patient=subject_id; repeatable."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Name of the data set, where the manifest has no source column.")
    ] = None,
    shorter_side: Annotated[int, typer.Option(help="Pixels; larger images are shrunk, smaller ones left.")] = 518,
    bits: Annotated[int, typer.Option(help="Grey depth of the packed images, 8 or 16.")] = 8,
    frontal_only: Annotated[bool, typer.Option("--frontal-only", help="Set laterals aside.")] = False,
    where: Annotated[
        str | None, typer.Option(help="Condition on manifest columns, for example \"view == 'PA'\".")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the patient split, where the manifest has none.")] = 0,
    workers: Workers = None,
) -> None:
    """Read X-ray files (DICOM, PNG, JPEG, TIFF) into one packed, patient-split corpus without identifiers."""
    import warnings

    from raddino.corpus.prepare import prepare as run
    from raddino.corpus.prepare import summary
    from raddino.errors import ConfigError

    columns = {}
    for text in column or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--column takes ours=theirs, for example patient=subject_id; got {text!r}")
        columns[key] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the summary says it too
        corpus = run(
            images, out, columns=columns or None, source=source, shorter_side=shorter_side, bits=bits,
            frontal_only=frontal_only, where=where, seed=seed, workers=workers,
        )  # fmt: skip
    print(summary(corpus))


@app.command()
def pretrain(
    corpus: CorpusArg,
    out: Annotated[
        Path, typer.Option(help="Run folder; the same command on it continues the run.", show_default=False)
    ],
    preset: Annotated[
        str, typer.Option(help="Preset name ('raddino presets' lists them) or .yaml file.")
    ] = "small-batch",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Config override, for example schedule.lr=1e-4; repeatable."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Backbone to start from: encoder or Hugging Face folder, or DINOv2 file."),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
    fork: Annotated[
        bool, typer.Option("--fork", help="Go on from the run's checkpoint with a changed config.")
    ] = False,
) -> None:
    """Pre-train an encoder on a corpus; Ctrl-C leaves a state from which the same command continues."""
    from raddino.config import load_config
    from raddino.corpus.dataset import Corpus
    from raddino.report.curves import plot_curves
    from raddino.training.pretrain import PretrainConfig
    from raddino.training.pretrain import pretrain as run

    overrides = [*(set_ or []), *([f"init={json.dumps(str(init))}"] if init else [])]
    config = load_config(PretrainConfig, preset, overrides)
    encoder = run(Corpus.open(corpus), out, config, device=device, workers=workers, fork=fork)
    print(f"encoder: {encoder}\ncurves: {plot_curves(out)}")


@app.command()
def embed(
    corpus: CorpusArg,
    encoder: Annotated[str, typer.Option(help="Encoder folder, or a name such as raddino-tiny.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="Features file (.safetensors).", show_default="in the corpus folder"),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 32,
    device: Device = "auto",
) -> None:
    """Compute every image's features once and keep them."""
    from raddino.corpus.dataset import Corpus
    from raddino.encoders.load import load_encoder
    from raddino.features.extract import embed as run

    opened = Corpus.open(corpus)
    features = run(opened, load_encoder(encoder, device=device), batch_size=batch_size, out=out)
    print(f"features: {features.path} ({len(features.cls)} x {features.cls.shape[1]})")


@app.command()
def evaluate(
    corpus: CorpusArg,
    out: Annotated[Path, typer.Option(help="Results folder.", show_default=False)],
    encoders: Annotated[
        str,
        typer.Option(
            help="Comma-separated encoders, each NAME, FOLDER or NAME=FOLDER; the first is the reference.",
            show_default=False,
        ),
    ],
    suite: Annotated[
        str | None, typer.Option(help="Suite name or .yaml file.", show_default="every usable column")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="Manifest column to predict; repeatable.")] = None,
    run: Annotated[Path | None, typer.Option(help="Pre-training run whose curves go into the report.")] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of patients.")] = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Judge encoders by linear probes on frozen features, with patient-level intervals, and write the report."""
    from raddino.benchmark.evaluate import evaluate as judge
    from raddino.corpus.dataset import Corpus
    from raddino.errors import ConfigError
    from raddino.report.artefacts import read_run
    from raddino.report.html import report as write
    from raddino.report.terminal import text_table

    names, specs = [], []
    for text in encoders.split(","):
        name, equals, spec = text.strip().partition("=")
        if not name or (equals and not spec):
            raise ConfigError(f"--encoders takes NAME, FOLDER or NAME=FOLDER between commas; got {text!r}")
        names.append(name if equals else None)
        specs.append(spec if equals else name)
    if run is not None:
        read_run(run)  # a wrong folder is told before the work, not after it
    opened = Corpus.open(corpus)
    results = judge(
        opened, specs, suite=suite, targets=target, out=out, seed=seed, resamples=resamples, names=names, device=device
    )
    page = write(out, run=run, corpus=opened, encoder=specs[0])
    print(text_table(results.data))
    print(f"report: {page}")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="Results folder of 'raddino evaluate'.", show_default=False)],
    run: Annotated[Path | None, typer.Option(help="Pre-training run whose curves to show.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Corpus whose images to show.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Encoder whose features to show.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="HTML file.", show_default="report.html in the results folder")
    ] = None,
) -> None:
    """Write one self-contained HTML page (and LaTeX table) from a results folder."""
    from raddino.corpus.dataset import Corpus
    from raddino.report.html import report as write

    opened = Corpus.open(corpus) if corpus else None
    print(f"report: {write(results, run=run, corpus=opened, encoder=encoder, out=out)}")


@app.command()
def verify(
    files: Annotated[
        list[Path],
        typer.Argument(help="Golden .safetensors files, each with its .json beside it.", show_default=False),
    ],
    precision: Annotated[str, typer.Option(help="float64, float32 or both.")] = "both",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Replay golden files of DINOv2's training step through our own; exit 1 if any limit is exceeded."""
    from raddino.errors import ConfigError
    from raddino.training.verify import verify as run

    if precision not in ("float64", "float32", "both"):
        raise ConfigError(f"--precision takes float64, float32 or both, got {precision!r}")
    held = True
    for file in files:
        for dtype in ("float64", "float32"):
            if precision not in (dtype, "both"):
                continue
            print(f"{file.stem}  {dtype}  {device}")
            for check in run(file, dtype, device):
                held &= check.ok
                print(
                    f"  {'ok  ' if check.ok else 'FAIL'}  {check.quantity:<17} {check.deviation:9.2e}"
                    f"  limit {check.limit:7.0e}  of {check.count:>3}, worst {check.worst}"
                )
    print("all limits hold" if held else "a limit is exceeded")
    raise typer.Exit(0 if held else 1)


@app.command()
def presets() -> None:
    """List the pre-training presets."""
    from raddino.config import PRESETS, preset_names

    for name in preset_names():
        first = (PRESETS / f"{name}.yaml").read_text().splitlines()[0]
        print(f"{name:<22} {first.lstrip('# ')}")


@app.command()
def encoders() -> None:
    """List the encoders that are known by name; any encoder folder is one too."""
    from raddino.encoders.load import known_encoders, load_encoder

    for name in known_encoders():
        encoder = load_encoder(name)
        print(f"{name:<16} {encoder.dim:>5} numbers an image  {encoder.provenance.note}")


def main() -> None:
    """Run the command line; errors of ours and of the file system are one line on stderr and exit status 2."""
    from raddino.errors import RaddinoError

    try:
        app()
    except RaddinoError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        place = error.filename or "a file"
        words = error.strerror or error
        print(f"error: cannot use {place}: {words}; check the path, its rights and the free space", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
