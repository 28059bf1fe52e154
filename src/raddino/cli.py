"""The command line: each command is a thin layer over the function of the same name."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from raddino import arguments

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

CorpusArg = Annotated[
    str, typer.Argument(help="Corpus folder made by 'raddino prepare', or its URL.", show_default=False)
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU where there is one.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes; the result does not depend on it.", show_default="one a core"),
]
SecondaryCapture = Annotated[
    bool, typer.Option("--secondary-capture", help="Take DICOM Secondary Capture too; it may hold text.")
]
TextEngine = Annotated[
    str, typer.Option(help="What looks for text in the picture: strokes, both or rapidocr (extra ocr), or tesseract.")
]
Seed = Annotated[int, typer.Option(help="Seed; equal seeds give equal results.")]
OUT_OF_MEMORY = re.compile(
    r"^OutOfMemoryError|can't allocate memory|not enough memory|out of memory|ALLOC_FAILED", re.I
)


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    n: Annotated[int, typer.Option("-n", "--number", help="Number of images.")] = 1000,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(help="Pixels on a side.")] = 518,
    format: Annotated[str, typer.Option(help="png (16-bit) or dicom.")] = "png",
    workers: Workers = None,
    detectors: Annotated[int, typer.Option(help="2 plants two detectors that leave fingerprints.")] = 1,
    confound: Annotated[
        str | None,
        typer.Option(help="FINDING=SHARE of its studies that the second detector took.", show_default="independent"),
    ] = None,
) -> None:
    """Draw synthetic chest radiographs with exact ground truth (labels, masks, sex, age, text)."""
    from raddino.sample.generate import sample as run

    made = run(out, n, seed=seed, size=size, format=format, workers=workers, detectors=detectors, confound=confound)
    print(f"sample: {made}")


@app.command()
def prepare(
    images: Annotated[
        str,
        typer.Argument(
            help="Folder, glob in quotes, zip or tar archive, DICOMDIR, .csv / .parquet manifest, a file:// s3:// or "
            "gs:// URL of these, or SOURCE:FOLDER of a public data set ('raddino sources' lists them).",
            show_default=False,
        ),
    ],
    out: Annotated[str, typer.Option(help="Corpus folder to write, or a URL.", show_default=False)],
    column: Annotated[
        list[str] | None,
        typer.Option(help="Manifest column mapping, for example patient=subject_id; repeatable."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Name of the data set, where the manifest has no source column.")
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            help="Whose patient numbers these are, where hospitals' numbers may collide and the manifest has no "
            "namespace column."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Setting of a public data set, for example readers=any; repeatable."),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Share of the patients; 0.1 lies inside 0.25.")] = 1.0,
    shorter_side: Annotated[int, typer.Option(help="Pixels; larger images are shrunk, smaller ones left.")] = 518,
    bits: Annotated[int, typer.Option(help="Grey depth of the packed images, 8 or 16.")] = 8,
    frontal_only: Annotated[bool, typer.Option("--frontal-only", help="Set laterals aside.")] = False,
    secondary_capture: SecondaryCapture = False,
    where: Annotated[
        str | None, typer.Option(help="Condition on manifest columns, for example \"view == 'PA'\".")
    ] = None,
    splits: Annotated[
        str, typer.Option(help="Shares of the patients for train,val,test, where the manifest has no split.")
    ] = "0.7,0.1,0.2",
    seed: Annotated[int, typer.Option(help="Seed of that split.")] = 0,
    fix: Annotated[
        list[str] | None,
        typer.Option(help="geometry: undo turns and inversion that the picture surely shows; repeatable."),
    ] = None,
    text: Annotated[
        str,
        typer.Option(help="Of text in the picture that may name the patient: keep, blank, or quarantine the image."),
    ] = "keep",
    text_engine: TextEngine = "strokes",
    duplicates: Annotated[
        str,
        typer.Option(
            help="Copies of one picture: ignore, report how many, draw the split of their patients together, or "
            "refuse those in two splits."
        ),
    ] = "ignore",
    workers: Workers = None,
    engine: Annotated[str, typer.Option(help="local, or ray for a Ray cluster (workers are then actors).")] = "local",
    then_inspect: Annotated[
        bool, typer.Option("--inspect", help="Look for what is wrong in the finished corpus, as 'raddino inspect'.")
    ] = False,
) -> None:
    """Read X-ray files (DICOM, PNG, JPEG, JPEG 2000, TIFF) into one patient-split corpus without identifiers."""
    import warnings

    from raddino.corpus.prepare import prepare as run
    from raddino.corpus.prepare import summary

    mend = None
    if fix or text != "keep" or text_engine != "strokes":
        from raddino.inspection.mend import mending

        mend = mending(tuple(fix or ()), text, text_engine, then_inspect)
    columns = arguments.pairs("--column", column, "patient=subject_id")
    source_options = {
        key: arguments.value(text) for key, text in arguments.pairs("--option", option, "readers=any").items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the summary says it too
        corpus = run(
            images, out, columns=columns or None, source=source, namespace=namespace, shorter_side=shorter_side,
            bits=bits, frontal_only=frontal_only, secondary_capture=secondary_capture, where=where, seed=seed,
            workers=workers, duplicates=duplicates,
            source_options=source_options or None, fraction=fraction, engine=engine,
            mend=mend,
            splits=tuple(arguments.number("--splits", share) for share in splits.split(",")),
        )  # fmt: skip
    print(summary(corpus))
    if then_inspect:
        _inspect([corpus], text_engine=text_engine, workers=workers)


@app.command()
def inspect(
    corpora: Annotated[list[str], typer.Argument(help="Corpus folders made by 'raddino prepare'.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for inspect.csv, inspection.json and inspect.html.",
            show_default="inspection in the first corpus",
        ),
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option(help="A check to make; repeatable.", show_default="all of them")
    ] = None,
    text_engine: TextEngine = "strokes",
    drift: Annotated[
        bool, typer.Option(help="Ask whether sources, splits and manufacturers are told apart by size and grey values.")
    ] = True,
    drift_features: Annotated[
        bool,
        typer.Option("--drift-features", help="Ask it of what raddino-tiny sees, too: at most 500 images of each."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where anything of severity error is found.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Look for what is wrong in a corpus' pixels, before anything is trained on it."""
    from raddino.corpus.dataset import Corpus

    opened = [Corpus.open(path) for path in corpora]
    worst = _inspect(
        opened, out, checks=check, text_engine=text_engine, drift=drift, drift_features=drift_features, workers=workers
    )
    raise typer.Exit(int(strict and worst == "error"))


def _inspect(corpora: list[Any], out: Path | None = None, **options: Any) -> str | None:
    """Inspect opened corpora, say what was found, write it, and return the gravest severity."""
    from raddino.report.inspected import look_into

    done = look_into(corpora, out, **options)
    print(done.text)
    print(f"inspected: {', '.join(map(str, done.write(out)))}")
    return done.found.worst


@app.command()
def sources() -> None:
    """List the public data sets that 'prepare' reads as they are distributed, and how to obtain them."""
    from raddino.corpus.sources import describe_sources

    print(describe_sources())


@app.command()
def pretrain(
    corpora: Annotated[
        list[str], typer.Argument(help="Corpus folders made by 'raddino prepare', or URLs.", show_default=False)
    ],
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
        str | None,
        typer.Option(
            help="Backbone to start from: encoder, Hugging Face or checkpoint folder, DINOv2 file, or NAME[:PLACE] as "
            "in dinov2-base; none for random weights."
        ),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="How often a source is drawn, for example nih=2; repeatable.", show_default="1"),
    ] = None,
    cap: Annotated[
        list[str] | None,
        typer.Option(help="Most training images of a source, for example synthetic=5000; repeatable."),
    ] = None,
    duplicates: Annotated[
        str,
        typer.Option(
            help="Training images of which a copy stands in another split: ignore, leave-out, or refuse to train."
        ),
    ] = "ignore",
    device: Device = "auto",
    workers: Workers = None,
    fork: Annotated[
        bool, typer.Option("--fork", help="Go on from the run's checkpoint with a changed config.")
    ] = False,
    fit: Annotated[
        bool,
        typer.Option(
            "--fit",
            help="Where memory is short, turn on activation checkpointing and, if need be, share weights out among the "
            "processes and make micro-batches smaller.",
        ),
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: tensorboard, mlflow, wandb; they get the numbers of metrics.jsonl too.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Pre-train an encoder on a corpus; Ctrl-C leaves a state from which the same command continues."""
    from raddino.config import load_config
    from raddino.corpus.combine import combine
    from raddino.corpus.dataset import Corpus
    from raddino.dist import rank
    from raddino.report.curves import plot_curves
    from raddino.training.pretrain import PretrainConfig
    from raddino.training.pretrain import pretrain as run

    overrides = [*(set_ or []), *([f"init={json.dumps(init)}"] if init is not None else [])]
    config = load_config(PretrainConfig, preset, overrides)
    opened: Corpus = Corpus.open(corpora[0])
    if len(corpora) > 1 or weight or cap or duplicates != "ignore":
        weights = {
            name: arguments.number("--weight", value)
            for name, value in arguments.pairs("--weight", weight, "nih=2").items()
        }
        caps = {
            name: int(arguments.number("--cap", value))
            for name, value in arguments.pairs("--cap", cap, "nih=5000").items()
        }
        opened = combine([opened, *map(Corpus.open, corpora[1:])], weights, caps, config.seed, duplicates)
    encoder = run(
        opened, out, config, device=device, workers=workers, fork=fork, fit=fit,
        track=arguments.names("--track", track) or (),
    )  # fmt: skip
    if rank() == 0:
        print(f"encoder: {encoder}\ncurves: {plot_curves(out)}")


@app.command()
def plan(
    preset: Annotated[
        str, typer.Argument(help="Preset name ('raddino presets' lists them) or .yaml file.", show_default=False)
    ],
    corpus: Annotated[
        str | None, typer.Argument(help="Corpus folder to train on, if there is one already.", show_default=False)
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            help="NAME or NAMExNUMBER of the table of accelerators, for example h100x8.",
            show_default="this machine, measured by a few steps",
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Number of training images, where there is no corpus.", show_default=False)
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(help="Share of the hardware's peak rate that training reaches.", show_default="0.3, assumed"),
    ] = None,
    watts: Annotated[
        float | None, typer.Option(help="Power of one device.", show_default="the table's; this machine's is unknown")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Config override, for example batch_size=256; repeatable."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Say what a pre-training run takes: arithmetic, steps, memory, storage, hours and energy."""
    from raddino.config import load_config
    from raddino.training.plan import plan as run
    from raddino.training.plan import plan_text
    from raddino.training.settings import PretrainConfig

    config = load_config(PretrainConfig, preset, set_)
    made = run(config, corpus, hardware=hardware, images=images, share=share, watts=watts, device=device)
    print(plan_text(made))


@app.command()
def views(
    corpus: CorpusArg,
    preset: Annotated[
        str, typer.Option(help="Preset name ('raddino presets' lists them) or .yaml file.")
    ] = "small-batch",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Config override, for example views.flip=0; repeatable."),
    ] = None,
    images: Annotated[int, typer.Option(help="Number of images.")] = 8,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.", show_default="the preset's")] = None,
    out: Annotated[Path, typer.Option(help="PNG file to write; it shows patients' images.")] = Path("views.png"),
) -> None:
    """Draw a contact sheet of what 'pretrain' with the same preset, settings and seed will see."""
    from raddino.config import load_config
    from raddino.corpus.dataset import Corpus
    from raddino.report.views_sheet import draw_views
    from raddino.training.pretrain import PretrainConfig

    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    config = load_config(PretrainConfig, preset, overrides)
    print(f"views: {draw_views(Corpus.open(corpus), config, out, images)}")


@app.command()
def embed(
    corpus: CorpusArg,
    encoder: Annotated[str, typer.Option(help="Encoder folder, NAME, NAME:PLACE or hf:org/name.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="Features file (.safetensors or .parquet).", show_default="in the corpus folder"),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 32,
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto for bf16 on a GPU.")] = "fp32",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network first; pays on large corpora.")
    ] = False,
    patches: Annotated[bool, typer.Option("--patches", help="Keep patch features too, in half precision.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that read images (0: threads); with ray, actors.")] = 0,
    engine: Annotated[str, typer.Option(help="local (also under torchrun), or ray for a Ray cluster.")] = "local",
    device: Device = "auto",
) -> None:
    """Compute every image's features once and keep them."""
    from raddino.corpus.dataset import Corpus
    from raddino.encoders.load import load_encoder
    from raddino.features.extract import embed as run
    from raddino.features.ranks import join_ranks

    ranks = join_ranks()
    features = run(
        Corpus.open(corpus), load_encoder(encoder, device=device), batch_size=batch_size, out=out,
        precision=precision, compile=compile, patches=patches, workers=workers, engine=engine,
    )  # fmt: skip
    if ranks.rank == 0:
        print(f"features: {features.path} ({len(features.cls)} x {features.cls.shape[1]})")


@app.command()
def evaluate(
    corpus: CorpusArg,
    out: Annotated[Path, typer.Option(help="Results folder.", show_default=False)],
    encoders: Annotated[
        str,
        typer.Option(
            help="Comma-separated encoders, each NAME, NAME:PLACE or FOLDER, with LABEL= before it if wanted; "
            "the first is the reference.",
            show_default=False,
        ),
    ],
    suite: Annotated[
        str | None, typer.Option(help="Suite name or .yaml file.", show_default="every usable column")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="Manifest column to predict; repeatable.")] = None,
    probe: Annotated[
        str | None,
        typer.Option(help="linear, logistic, knn, attentive or zero_shot.", show_default="the suite's: linear"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Setting of all tasks of a kind, for example segmentation.head=upernet; repeatable.",
        ),
    ] = None,
    analyses: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: retrieval, label_efficiency, subgroups, calibration, site_ranks, confounders, "
            "robustness, consistency, decision_curves, operating_points, label_noise; or all.",
            show_default="the suite's",
        ),
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            help="ENCODER=SOURCE: you declare that the source's test images were not in the encoder's training; "
            "repeatable."
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Condition on manifest columns; no other image is seen.", show_default=False)
    ] = None,
    train_on: Annotated[
        str | None,
        typer.Option(
            help="External validation: comma-separated sources of the corpus to train and select on.",
            show_default="all but --test-on",
        ),
    ] = None,
    test_on: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated sources of the corpus, or folders of other corpora, to test the same probes on.",
            show_default="all but --train-on, where that is given",
        ),
    ] = None,
    leave_one_site_out: Annotated[
        bool, typer.Option("--leave-one-site-out", help="Train on all sources but one, test on it, each in turn.")
    ] = False,
    cross_validate: Annotated[
        str | None,
        typer.Option(
            help="FOLDSxREPEATS by patient, for example 5x10, whatever the corpus's splits.",
            show_default="the suite's",
        ),
    ] = None,
    fine_tune: Annotated[
        list[str] | None,
        typer.Option(
            help="full, last-2 (any number of blocks) or lora: train the encoders on the labels too; repeatable."
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Pre-training run whose curves go into the report.")] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of patients.")] = 1000,
    seed: Seed = 0,
    precision: Annotated[str, typer.Option(help="Of the embedding: fp32, bf16, or auto for bf16 on a GPU.")] = "fp32",
    device: Device = "auto",
) -> None:
    """Judge encoders by probes, segmentation heads and language models on them, and write the report."""
    from raddino.benchmark.evaluate import evaluate as judge
    from raddino.corpus.dataset import Corpus
    from raddino.errors import ConfigError
    from raddino.report.artefacts import read_run
    from raddino.report.html import report as write
    from raddino.report.html import worth_showing
    from raddino.report.terminal import text_table

    names, specs = [], []
    for text in encoders.split(","):
        name, equals, spec = text.strip().partition("=")
        if not name or (equals and not spec):
            raise ConfigError(f"--encoders takes NAME, NAME:PLACE or FOLDER between commas; got {text!r}")
        names.append(name if equals else None)
        specs.append(spec if equals else name)
    if run is not None:
        read_run(run)  # a wrong folder is told before the work, not after it
    opened = Corpus.open(corpus)
    results = judge(
        opened, specs, suite=suite, targets=target, out=out, seed=seed, resamples=resamples, names=names,
        device=device, precision=precision, probe=probe, analyses=arguments.analyses(analyses),
        options=arguments.settings(set_), held_out=arguments.several("--held-out", held_out, "trained=nih"),
        where=where, train_on=arguments.names("--train-on", train_on), test_on=arguments.names("--test-on", test_on),
        cross_validation=arguments.cross_validation(cross_validate), fine_tune=fine_tune,
        leave_one_site_out=leave_one_site_out,
    )  # fmt: skip
    page = write(out, run=run, corpus=opened, encoder=worth_showing(specs, results.data))
    print(text_table(results.data))
    models = dict.fromkeys(row["detail"]["model"] for row in results.data["rows"] if "model" in row["detail"])
    for model in models:
        print(f"model: {out / model}")
    if (out / "probes").is_dir():
        print(f"probes: {out / 'probes'} (raddino predict; not for clinical use)")
    print(f"report: {page}")


@app.command()
def segment(
    images: Annotated[str, typer.Argument(help="Image file, folder, glob in quotes, or manifest.", show_default=False)],
    model: Annotated[Path, typer.Option(help="Model folder, RESULTS/models/TASK/ENCODER.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder for the masks; run again, it does what is missing.", show_default=False)
    ],
    encoder: Annotated[
        str | None, typer.Option(help="The model's encoder, where it has moved.", show_default="the model's own")
    ] = None,
    format: Annotated[
        str, typer.Option(help="png, or dicom-seg (of DICOM files, whose patient and study it joins).")
    ] = "png",
    contours: Annotated[bool, typer.Option("--contours", help="Also the image with outlines.")] = False,
    carry_header: Annotated[
        bool,
        typer.Option(
            "--carry-header", help="dicom-seg: repeat all of the source's patient and study, not only what joins them."
        ),
    ] = False,
    secondary_capture: SecondaryCapture = False,
    drop_islands: Annotated[
        float | None,
        typer.Option(
            help="Drop pieces smaller than this share of the class's largest in the image; 1 keeps the largest.",
            show_default="the model's own setting",
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Segment images with a model that 'raddino evaluate' trained; masks as PNG or DICOM SEG."""
    from raddino.tasks.segmentation.segment import segment as run

    done = run(
        images, model, out, encoder=encoder, format=format, contours=contours, carry_header=carry_header,
        secondary_capture=secondary_capture, drop_islands=drop_islands, device=device,
    )  # fmt: skip
    for reason, count in done.skipped.items():
        print(f"skipped {count}: {reason}")
    for words, count in done.warnings.items():
        print(f"note on {count}: {words}")
    print(f"segmented: {done.written} ({done.present} were there) in {done.out}")


@app.command()
def predict(
    images: Annotated[str, typer.Argument(help="Image file, folder, glob in quotes, or manifest.", show_default=False)],
    probe: Annotated[
        list[Path],
        typer.Option(help="Probe folder, RESULTS/probes/TASK/ENCODER; repeatable.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option(help="CSV file to write, readable by you alone: it holds the names of the files.")
    ] = Path("predictions.csv"),
    encoder: Annotated[
        str | None, typer.Option(help="The probes' encoder, where it has moved.", show_default="the probes' own")
    ] = None,
    secondary_capture: SecondaryCapture = False,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 32,
    device: Device = "auto",
) -> None:
    """Apply probes that 'raddino evaluate' trained: calibrated probabilities or numbers. Not for clinical use."""
    from raddino.errors import counted
    from raddino.tasks.predict import predict as run

    done = run(
        images, probe, out, encoder=encoder, secondary_capture=secondary_capture, batch_size=batch_size, device=device
    )
    for reason, count in done.skipped.items():
        print(f"skipped {count}: {reason}")
    for words, count in done.warnings.items():
        print(f"note on {count}: {words}")
    print(f"predicted: {counted(done.images, 'image')} in {done.out} (not for clinical use)")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="Results folder of 'raddino evaluate'.", show_default=False)],
    run: Annotated[Path | None, typer.Option(help="Pre-training run whose curves to show.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Corpus whose images to show.")] = None,
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


@app.command("app")
def look(
    corpus: Annotated[str | None, typer.Option(help="Corpus whose images to look at.")] = None,
    encoder: Annotated[
        list[str] | None, typer.Option(help="Encoder; repeat it to see two side by side.", show_default="raddino-tiny")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on this machine.", min=0, max=65535, show_default="a free one")] = 0,
    device: Device = "auto",
) -> None:
    """See what an encoder sees, on a page of this machine alone (extra app)."""
    from raddino.app.start import start

    start(corpus, encoder or ["raddino-tiny"], port, device)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Results folder.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="Results folder that is tested against it.", show_default=False)],
    pair: Annotated[
        list[str] | None, typer.Option(help="Encoder of A and of B, for example initial=trained; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.html and comparison.json.")] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of patients.")] = 1000,
    seed: Seed = 0,
) -> None:
    """Test the encoders of one results folder against those of another, on the images that both measured."""
    from raddino.benchmark.compare import compare as run
    from raddino.report.page import comparison_text, write_comparison

    found = run(a, b, pairs=arguments.pairs("--pair", pair, "initial=trained") or None, resamples=resamples, seed=seed)
    print(comparison_text(found))
    if out is not None:
        print(f"comparison: {write_comparison(found, out)}")


@app.command()
def leaderboard(
    results: Annotated[list[Path], typer.Argument(help="Results folders, of any machines.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder for leaderboard.html and leaderboard.csv.")] = None,
) -> None:
    """Merge results folders into one ranking; what is not comparable stands apart."""
    from raddino.benchmark.leaderboard import leaderboard as run
    from raddino.report.page import leaderboard_text, write_leaderboard

    merged = run(results)
    print(leaderboard_text(merged))
    if out is not None:
        print(f"leaderboard: {write_leaderboard(merged, out)}")


@app.command()
def study(
    name: Annotated[
        str, typer.Argument(help="Shipped study (docs/study.md lists them) or .yaml file.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of arms and reports; the same command on it goes on.", show_default=False)
    ],
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus folder to pre-train on; repeatable.", show_default="the study's")
    ] = None,
    evaluate_on: Annotated[
        str | None, typer.Option(help="Corpus folder to judge on.", show_default="the other splits of --corpus")
    ] = None,
    size: Annotated[str | None, typer.Option(help="A size of the study; smoke fits a laptop.")] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="Where an encoder of the study lies, for example rad-dino=rad-dino:FOLDER; repeatable."),
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", "--dry-run", help="Print the plan, its cost and its disk, and stop.")
    ] = False,
    hardware: Annotated[
        str | None,
        typer.Option(help="NAME or NAMExNUMBER of the plan's hours.", show_default="this machine, measured"),
    ] = None,
    arm: Annotated[int | None, typer.Option(help="Run this number of the plan alone, without a report.")] = None,
    launch: Annotated[
        str | None,
        typer.Option(help="slurm or torchrun: write a script that runs the arms; ray: run them on a Ray cluster."),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Run a study: arms of pre-training and evaluation, compared, fitted and reported; finished arms are kept."""
    from raddino.report.study import study as run

    page = run(
        name, out, corpora=corpus or (), evaluate_on=evaluate_on, size=size,
        encoders=arguments.pairs("--encoder", encoder, "rad-dino=rad-dino:FOLDER"), plan_only=plan_only,
        hardware=hardware, arm=arm, launch=launch, device=device, workers=workers,
    )  # fmt: skip
    if page is not None:
        print(f"study: {page}")


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
def audit(
    path: Annotated[Path, typer.Argument(help="File or folder: a corpus, run, results, logs …", show_default=False)],
    sources: Annotated[
        list[str] | None,
        typer.Option(help="Folder, glob, file or manifest it was made from; repeatable.", show_default=False),
    ] = None,
    strings: Annotated[
        Path | None, typer.Option(help="Text file with an identifier a line.", show_default=False)
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Count also identifiers that stand there on purpose, as in DICOM SEG.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the identifiers themselves.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="File for machines, .json or .csv, readable by you alone.", show_default=False)
    ] = None,
) -> None:
    """Search artefacts for identifiers of their sources, or for what looks like one.

    Exit status 0: nothing found; 1: found; 2: an error, or something that could not be opened.
    """
    from raddino.audit.account import audit_text, write_audit
    from raddino.audit.audit import audit as run

    done = run(path, sources=sources or (), strings=strings, strict=strict, show=show)
    print(audit_text(done))
    if out is not None:
        write_audit(done, out)
        print(f"audit: {out}")
    raise typer.Exit(1 if done.found else 0 if done.clean else 2)


@app.command()
def presets() -> None:
    """List the pre-training presets."""
    from raddino.config import PRESETS, preset_names

    for name in preset_names():
        first = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        print(f"{name:<22} {first.lstrip('# ')}")


@app.command()
def encoders(
    random: Annotated[
        Path | None,
        typer.Option(
            help="Write one of every family with random weights to this folder, to try the machinery offline."
        ),
    ] = None,
) -> None:
    """List the encoders that are known by name, with what each needs; any encoder folder is one too."""
    from raddino.encoders.load import describe_encoders

    if random is not None:
        from raddino.encoders.random_weights import write_random_weights

        for name, spec in write_random_weights(random).items():
            print(shlex.quote(f"{name}={spec}"))
        size = sum(file.stat().st_size for file in random.rglob("*") if file.is_file())
        print(f"{size / 1e9:.1f} GB in {random}", file=sys.stderr)
        return
    print(f"{'name':<28} {'width':<9} {'input':<9} {'here':<5} supervision, licence\n    what it is; what it needs")
    for one in describe_encoders():
        gated = ", gated" if one["gated"] else ""
        print(f"{one['name']:<28} dim {one['dim']!s:<5} side {one['side']!s:<4} {'here' if one['here'] else '-':<5} "
              f"{one['supervision']}, {one['licence']}{gated}")  # fmt: skip
        print(f"    {one['summary']}" + (f"; needs {one['needs']}" if one["needs"] else ""))


@app.command()
def export(
    encoder: Annotated[str, typer.Argument(help="Encoder folder, NAME or NAME:PLACE.", show_default=False)],
    format: Annotated[str, typer.Option(help="huggingface, official, timm, torch-export or onnx.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    precision: Annotated[str, typer.Option(help="fp32, or fp16 for torch-export and onnx.")] = "fp32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Write an encoder for another library, checked by that library, with a model card."""
    from raddino.encoders.export import export as run

    print(f"export: {run(encoder, out, format, precision=precision, overwrite=overwrite)}")


def main() -> None:
    """Run the command line; every error is one line on stderr and exit status 2.

    With ``RADDINO_TRACEBACK=1`` an error that nobody foresaw shows its traceback too.
    """
    from raddino.errors import RaddinoError

    _stand_in_for_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may hold what the terminal cannot show
    try:
        app()
    except RaddinoError as error:
        words = " ".join(str(error).split())
    except UnicodeEncodeError:
        words = "the name of a file or folder is not UTF-8: rename it"
    except OSError as error:
        place, reason = error.filename or "a file", error.strerror or type(error).__name__
        words = f"cannot use {place}: {reason}; check the path, its rights and the free space"
    except Exception as error:
        if os.environ.get("RADDINO_TRACEBACK"):
            traceback.print_exc()
        words = _unforeseen(error)
    else:
        return
    print(f"error: {words}", file=sys.stderr)
    raise SystemExit(2)


def _stand_in_for_closed_streams() -> None:
    """Put ``/dev/null`` where a standard stream is closed (``>&-``), or a file of ours or a child's gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _unforeseen(error: Exception) -> str:
    """What to say of an error that nobody foresaw; not its own words, which may quote data."""
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"):
        return (
            "out of memory: take smaller batches (pretrain: --set accumulate=2 or more; embed: --batch-size), fewer "
            "--workers, or a smaller network"
        )
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    return f"unforeseen {type(error).__name__} in {place}; RADDINO_TRACEBACK=1 in the environment shows all of it"


if __name__ == "__main__":
    main()
