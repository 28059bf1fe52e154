"""``raddino pretrain``: from a corpus to an encoder, resumable at any moment."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raddino.config import read_yaml, validate
from raddino.cores import usable_cores
from raddino.corpus.dataset import Corpus
from raddino.corpus.splits import patient_fraction
from raddino.device import resolve_device
from raddino.encoders.base import ENCODERS, Provenance
from raddino.encoders.load import load_encoder
from raddino.encoders.ours import VitEncoder, save_encoder
from raddino.encoders.seen_images import FILE as SEEN_IMAGES
from raddino.encoders.seen_images import SeenImages
from raddino.errors import ConfigError, RaddinoError, counted
from raddino.files import lock, read_json
from raddino.heap import kept_pages
from raddino.ssl import SelfDistillation
from raddino.ssl.guides import Guide
from raddino.training import guides, memory
from raddino.training.blocks import decided, prepare_blocks
from raddino.training.checkpoint import (
    checkpoint_backbone,
    is_checkpoint,
    latest_step,
    load_checkpoint,
    tidy,
    training_state,
)
from raddino.training.identity import CONFIG, INIT, initial_weights, refuse_change, write_identity
from raddino.training.loader import Collate, Positions, Samples, make_loader
from raddino.training.loop import Loop
from raddino.training.metrics_log import MetricsLog, NoLog, read_metrics
from raddino.training.monitor import Monitor
from raddino.training.optimizer import build_optimizer
from raddino.training.parallel import DataParallel, together, whole
from raddino.training.schedule import Schedule
from raddino.training.seen import ENVIRONMENT, at_step, initial_images, run_record, synthetic
from raddino.training.settings import ASK, PretrainConfig
from raddino.training.trackers import Tracking, check_trackers
from raddino.views.randomness import integer
from raddino.vit import VisionTransformer
from raddino.vit.weights import Backbone, Normalisation, fold_grey, load_backbone, resize_positions

ARCHITECTURE = ("embed_dim", "depth", "num_heads", "patch_size", "mlp_ratio", "num_register_tokens", "ffn")


def pretrain(
    corpus: Corpus | Path | str,
    out: Path | str,
    config: PretrainConfig,
    *,
    device: str = "auto",
    workers: int | None = None,
    fork: bool = False,
    fit: bool = False,
    track: Sequence[str] = (),
) -> Path:
    """Train a student and its teacher, or continue a run that was cut short.

    The same call on the same folder continues by itself from the newest checkpoint; on CPU the result is
    bit-identical to an uninterrupted run, whatever the number of workers. Under ``torchrun`` each process trains on
    its share of every micro-batch as one process would on the whole (``docs/pretrain.md``).

    Args:
        corpus: what to train on.
        out: run folder: ``config.yaml``, ``environment.json``, ``metrics.jsonl``, ``checkpoints/``, ``initial/``
            (encoder of the initial weights) and ``encoder/`` (of the teacher, renewed at every checkpoint).
        config: what to compute.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU where there is one.
        workers: processes that decode images, of each rank; None for a sensible number.
        fork: go on from a run's checkpoint with a changed config.
        fit: where a step needs more memory than is free, turn on activation checkpointing, share weights out among
            the processes, and make micro-batches smaller (:func:`raddino.training.memory.fit`); a run that continues
            keeps what was chosen.
        track: names of :data:`raddino.training.trackers.TRACKERS` that get the log's numbers too.

    Returns:
        ``out/encoder``.

    Raises:
        ConfigError: ``init`` is still to be chosen.
        RaddinoError: nothing to train on, a changed config without ``fork``, or a loss that is not a number.
        SystemExit: another process of this ``torchrun`` has failed, and says why; or after SIGUSR1, once the state is
            on disk, with :data:`raddino.training.loop.REQUEUE`.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the state is on disk.
    """
    if workers is not None and workers < 0:
        raise ConfigError(f"workers must be 0 or more, got {workers}")
    out = Path(out)
    with together(device != "cpu" and torch.cuda.is_available(), config.sharding) as parallel:
        _train(corpus, out, config, resolve_device(device), workers, fork, fit, track, parallel)
    return out / "encoder"


def _train(
    corpus: Corpus | Path | str,
    out: Path,
    config: PretrainConfig,
    place: torch.device,
    workers: int | None,
    fork: bool,
    change: bool,
    track: Sequence[str],
    parallel: DataParallel,
) -> None:
    """One rank's part; the first alone looks at ``out`` and writes there."""
    if config.init == ASK:
        raise ConfigError(
            "this preset continues from trained weights: give --init dinov2-base, NAME:PLACE, a folder or a file, or "
            "--init none for random weights"
        )
    check_trackers(track)
    parallel.check(config.batch_size, config.accumulate)
    corpus = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    config = decided(config, place).model_copy(update={"precision": computing_precision(config.precision, place)})
    rows = training_rows(corpus, config)
    if parallel.first:
        _refuse_foreign(out)
    if change:
        run = out / CONFIG
        config = memory.as_recorded(config, read_yaml(run) if parallel.first and run.is_file() else {}, parallel)

    def fitting(wanted: PretrainConfig) -> PretrainConfig:
        memory.refuse_giant(wanted, place)
        return memory.fit(wanted, memory.Room.here(place, parallel), change)

    told = _read_json(out / ENVIRONMENT, "restore it, or give another --out") if parallel.first else {}
    scales = guides.scales(corpus, rows, config.ssl, json.loads(parallel.text(json.dumps(told.get("guides", {})))))
    task, config = _build(config, fitting, guides.guides(config.ssl, scales))
    parallel = parallel.sharing(config.sharding)
    prepare_blocks(task, config)
    busy = f"another process trains in {out}: wait for it, or give another --out"
    tracking = Tracking(track if parallel.first else (), out, config)
    with lock(out, busy) if parallel.first else nullcontext(), tracking:
        task.to(place).train()
        optimizer = build_optimizer(task.student, config.optim)
        record, seen, done = Provenance(), None, 0
        if parallel.first:
            environment = _environment(config, corpus, rows, place, parallel)
            told = _read_json(out / ENVIRONMENT, "restore it, or give another --out")
            refuse_change(out, config, environment, told, fork)
            done = latest_step(out / "checkpoints") or 0
            if done > config.steps:
                raise ConfigError(f"{out} has done {done} steps, more than steps={config.steps}; give another --out")
            if done:
                tidy(out / "checkpoints", config.keep_checkpoints, config.keep_every)
                load_checkpoint(out / "checkpoints", done, task, optimizer)
            record = run_record(config, corpus, rows, told, trained=bool(done))
            before = SeenImages.load(out) if done else initial_images(config.init) if config.init else None
            table = corpus.manifest.iloc[rows]
            seen = before.adding(table) if before else SeenImages.of(table)
            seen.save(out)
            write_identity(out, config, environment | {"provenance": record.to_dict()} | guides.record(scales))
            if not done:
                _export(out / "initial", task.teacher.backbone, config, record, 0, before)
        done = parallel.number(done)
        if parallel.size > 1:
            parallel.alike(training_state(task, optimizer))

        log: MetricsLog = NoLog()
        monitor = None
        if parallel.first:
            monitor = Monitor(config.monitor, corpus, rows, config.seed)
            monitor.restore([line for line in read_metrics(out / "metrics.jsonl") if line["step"] < done])
            log = MetricsLog(out / "metrics.jsonl", done, tracking)
        samples = Samples(corpus, rows, config.views, config.seed, guides.targets(corpus, rows, scales))
        loop = Loop(
            task=task,
            optimizer=optimizer,
            schedule=Schedule(config.schedule, config.steps),
            config=config,
            parallel=parallel,
            monitor=monitor,
            log=log,
            checkpoints=out / "checkpoints",
            order=samples.order,
            ids=corpus.manifest["id"].to_numpy(),
            device=place,
            encoder=lambda name: _encoder(task, config, place, name),
            export=lambda step, backbone: _export(out / "encoder", backbone, config, record, step, seen),
        )
        micro = config.batch_size // config.accumulate
        grid = (config.views.global_size // config.vit.patch_size,) * 2
        begun, ended = done * config.accumulate, config.steps * config.accumulate
        loader = make_loader(
            samples,
            Collate(config.views, config.seed, micro, grid, masked=config.ssl.ibot_weight > 0),
            Positions(micro, begun, ended, parallel.rank, parallel.size),
            workers=_workers(place, parallel.here) if workers is None else workers,
            pin=place.type == "cuda",
        )
        if done < config.steps:
            if parallel.first:
                words = [_summary(corpus, rows), *([guides.summary(scales, config.ssl)] if scales else [])]
                print("; ".join(words), file=sys.stderr, flush=True)
            parallel.shard(task, optimizer)
            with kept_pages() if place.type == "cpu" else nullcontext():
                loop.run(loader, done)
        elif parallel.first:
            loop.export(done, task.teacher.backbone)


def _build(
    config: PretrainConfig, fitting: Callable[[PretrainConfig], PretrainConfig], guided: Sequence[Guide] = ()
) -> tuple[SelfDistillation, PretrainConfig]:
    """The task with its initial weights, and the config with the shape of an imported backbone, after ``fitting``."""
    generator = torch.Generator().manual_seed(integer(config.seed, "weights"))
    if config.init is None:
        config = fitting(config)
        return SelfDistillation(config.vit, config.ssl, guided).init_weights(generator), config
    source = _source(config.init)
    asked = config.model_dump()["vit"]
    for key in ARCHITECTURE:
        if key in config.vit.model_fields_set and asked[key] != getattr(source.config, key):
            raise ConfigError(
                f"init has vit.{key}={getattr(source.config, key)}, the config says {asked[key]}: make them equal"
            )
    backbone = fold_grey(source, config.views.mean, config.views.std)
    if config.vit.image_size != backbone.config.image_size:
        backbone = resize_positions(backbone, config.vit.image_size)
    vit = backbone.config.model_copy(
        update={
            "drop_path": config.vit.drop_path,
            "layerscale_init": config.vit.layerscale_init,
            "interpolate_offset": config.vit.interpolate_offset,
            "interpolate_antialias": backbone.config.num_register_tokens > 0,
        }
    )
    config = fitting(validate(PretrainConfig, config.model_dump() | {"vit": vit.model_dump()}))
    task = SelfDistillation(vit, config.ssl, guided).init_weights(generator)
    task.student.backbone.load_state_dict(backbone.state)
    return task.reset_teacher(), config


def _source(init: str) -> Backbone:
    """What ``init`` names: a checkpoint of a run, what :func:`load_backbone` reads, or an encoder by its name."""
    path = Path(init)
    if is_checkpoint(path):
        run = validate(PretrainConfig, read_yaml(path.parents[1] / CONFIG))
        told = Normalisation((run.views.mean,), (run.views.std,))
        return replace(checkpoint_backbone(path, run.vit), normalisation=told)
    if path.exists() or init.partition(":")[0] not in ENCODERS:
        ours = (path / "raddino.json").is_file()  # with digests to hold
        return VitEncoder.load(path, "cpu").backbone if ours else load_backbone(path)
    encoder = load_encoder(init, "cpu")
    if not isinstance(encoder, VitEncoder):
        raise ConfigError(f"init {init}: only encoders in DINOv2's shape are trained further, as dinov2-base is")
    return encoder.backbone


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds something else than a run."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file: give a folder as --out")
    if (
        not (out / CONFIG).is_file()
        and {path.name for path in out.iterdir() if path.suffix != ".draft"} - _WRITTEN_FIRST
    ):
        raise ConfigError(f"{out} is not empty and not a run: give another --out")


_WRITTEN_FIRST = {".lock", ENVIRONMENT, SEEN_IMAGES}


def _environment(
    config: PretrainConfig, corpus: Corpus, rows: np.ndarray, device: torch.device, parallel: DataParallel
) -> dict[str, Any]:
    packages = ("raddino", "torch", "torchvision", "numpy", "transformers", "pydicom")
    table = corpus.manifest.iloc[rows]
    return {
        "corpus": {
            "fingerprint": corpus.fingerprint,
            "images": len(rows),
            "patients": int(table["patient"].nunique()),
            "sources": {str(k): int(v) for k, v in table["source"].value_counts().sort_index().items()},
            "synthetic": synthetic(table["synthetic"]),
            **({"weights": corpus.weights} if corpus.weights else {}),
        },
        INIT: initial_weights(config.init),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": parallel.size,
        "threads": torch.get_num_threads(),
        "platform": platform.machine(),
    }


def _summary(corpus: Corpus, rows: np.ndarray) -> str:
    """One line on what is trained on: images of each source, weights and caps, and whether they are synthetic."""
    table = corpus.manifest.iloc[rows]
    weights, caps = corpus.weights, corpus.info.get("caps", {})
    parts = []
    for source, images in table["source"].value_counts().sort_index().items():
        bounds = [f"weight {weights[source]:g}"] if source in weights else []
        bounds += [f"cap {caps[source]}"] if source in caps else []
        parts.append(f"{source} {images}" + (f" ({', '.join(bounds)})" if bounds else ""))
    kind = {True: "synthetic", False: "real", "mixed": "partly synthetic"}[synthetic(table["synthetic"])]
    seen = f"{counted(len(rows), 'image')} of {counted(table['patient'].nunique(), 'patient')}"
    return f"pretrain on {seen}, {kind}: {', '.join(parts)}"


def training_rows(corpus: Corpus, config: PretrainConfig) -> np.ndarray:
    """Rows (N,) of the corpus that a run trains on, ascending.

    Raises:
        RaddinoError: they are fewer than a batch.
    """
    rows = np.concatenate([corpus.rows(split=split, where=config.where) for split in config.splits])
    rows = np.sort(rows).astype(np.int64)
    if config.fraction < 1:
        rows = rows[patient_fraction(corpus.manifest["patient"].to_numpy()[rows], config.fraction, config.seed)]
    if len(rows) < config.batch_size:
        raise RaddinoError(
            f"{len(rows)} images in split {'+'.join(config.splits)}"
            f"{f' where {config.where}' if config.where else ''}: too few for batch_size {config.batch_size}"
        )
    return rows


def _export(
    folder: Path,
    backbone: VisionTransformer,
    config: PretrainConfig,
    record: Provenance,
    step: int,
    seen: SeenImages | None,
) -> None:
    save_encoder(
        folder, backbone, size=config.views.global_size, mean=config.views.mean, std=config.views.std,
        name="trained" if step else "initial", provenance=at_step(record, step, config.batch_size),
        seen=seen,
    )  # fmt: skip


def _encoder(task: SelfDistillation, config: PretrainConfig, device: torch.device, name: str) -> VitEncoder:
    state = {key: whole(part) for key, part in task.teacher.backbone.state_dict().items()}
    backbone = Backbone(config.vit, state, None).build()
    return VitEncoder(
        backbone, size=config.views.global_size, mean=config.views.mean, std=config.views.std, name=name,
        provenance=Provenance(), device=str(device),
    )  # fmt: skip


def computing_precision(precision: str, device: torch.device) -> str:
    """``"bf16"`` or ``"fp32"``; ``"auto"`` is bf16 where the device has it."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split() if Path("/proc/cpuinfo").is_file() else []
    return "bf16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "fp32"


def _workers(device: torch.device, here: int) -> int:
    return max(1, min(usable_cores() // here, 12)) if device.type == "cuda" else 1


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    return read_json(path, remedy) if path.exists() else {}
