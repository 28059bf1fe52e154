"""``raddino pretrain``: from a corpus to an encoder, resumable at any moment."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from pydantic import Field, model_validator

from raddino.config import Config, diff, read_yaml, validate
from raddino.corpus.dataset import Corpus
from raddino.encoders.base import Provenance
from raddino.encoders.ours import VitEncoder, save_encoder
from raddino.errors import ConfigError, RaddinoError
from raddino.ssl import SelfDistillation, SslConfig
from raddino.training.checkpoint import checkpoint_backbone, latest_step, load_checkpoint
from raddino.training.loader import Collate, Positions, Samples, make_loader
from raddino.training.loop import Loop
from raddino.training.metrics_log import MetricsLog, read_metrics
from raddino.training.monitor import Monitor, MonitorConfig
from raddino.training.optimizer import OptimConfig, build_optimizer
from raddino.training.schedule import Schedule, ScheduleConfig
from raddino.views import ViewsConfig
from raddino.views.randomness import integer
from raddino.vit import VisionTransformer, VitConfig
from raddino.vit.weights import Backbone, fold_grey, load_backbone, resize_positions

ARCHITECTURE = ("embed_dim", "depth", "num_heads", "patch_size", "mlp_ratio", "num_register_tokens", "ffn")


class PretrainConfig(Config):
    """Everything that decides what a run computes.

    Attributes:
        steps: optimiser steps.
        batch_size: images per optimiser step.
        accumulate: micro-batches per optimiser step; must divide ``batch_size``.
        seed: of weights, order, views and masks.
        precision: ``"auto"`` is bf16 where the processor has it, else fp32.
        init: encoder folder, ``step_N`` folder of a run, Hugging Face Dinov2 folder or official DINOv2 file to
            start from; None is random.
        splits: of the corpus; images of other splits are never seen.
        where: further condition on the manifest, for example ``"view == 'PA'"``.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many stay.
    """

    steps: int = Field(35_000, gt=0)
    batch_size: int = Field(64, gt=1)
    accumulate: int = Field(1, gt=0)
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    init: str | None = None
    splits: tuple[str, ...] = ("train",)
    where: str | None = None
    checkpoint_every: int = Field(500, gt=0)
    keep_checkpoints: int = Field(2, gt=0)
    vit: VitConfig = VitConfig()
    ssl: SslConfig = SslConfig()
    views: ViewsConfig = ViewsConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    optim: OptimConfig = OptimConfig()
    monitor: MonitorConfig = MonitorConfig()

    @model_validator(mode="after")
    def _fits(self) -> PretrainConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}")
        if self.batch_size // self.accumulate < 2:
            raise ValueError("a micro-batch needs at least 2 images: KoLeo compares them")
        for size in (self.views.global_size, self.views.local_size):
            if size % self.vit.patch_size:
                raise ValueError(f"view size {size} is no multiple of patch_size {self.vit.patch_size}")
        if self.vit.in_channels != 1:
            raise ValueError("pre-training is on grey images: vit.in_channels must be 1")
        return self


def pretrain(
    corpus: Corpus | Path | str,
    out: Path | str,
    config: PretrainConfig,
    *,
    device: str = "auto",
    workers: int | None = None,
    fork: bool = False,
) -> Path:
    """Train a student and its teacher, or continue a run that was cut short.

    The same call on the same folder continues by itself from the newest checkpoint; on CPU the result is
    bit-identical to an uninterrupted run, whatever the number of workers.

    Args:
        corpus: what to train on.
        out: run folder: ``config.yaml``, ``environment.json``, ``metrics.jsonl``, ``checkpoints/``, ``initial/``
            (encoder of the initial weights) and ``encoder/`` (of the teacher, renewed at every checkpoint).
        config: what to compute.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU where there is one.
        workers: processes that decode images; None for a sensible number.
        fork: go on from a run's checkpoint with a changed config.

    Returns:
        ``out/encoder``.

    Raises:
        RaddinoError: nothing to train on, a changed config without ``fork``, or a loss that is not a number.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the state is on disk.
    """
    corpus = corpus if isinstance(corpus, Corpus) else Corpus.open(Path(corpus))
    out, place = Path(out), torch.device(_device(device))
    config = config.model_copy(update={"precision": _precision(config.precision, place)})
    rows = _rows(corpus, config)
    task, config = _build(config)
    _claim(out, config, corpus, rows, place, fork)
    task.to(place).train()
    optimizer = build_optimizer(task.student, config.optim)
    done = latest_step(out / "checkpoints") or 0
    if done > config.steps:
        raise ConfigError(f"{out} has done {done} steps, more than steps={config.steps}; give another --out")
    if done:
        load_checkpoint(out / "checkpoints", done, task, optimizer)
    elif not (out / "initial").is_dir():
        _export(out / "initial", task.teacher.backbone, config, corpus, rows, 0)

    monitor = Monitor(config.monitor, corpus, rows, config.seed)
    monitor.restore([line for line in read_metrics(out / "metrics.jsonl") if line["step"] < done])
    loop = Loop(
        task=task,
        optimizer=optimizer,
        schedule=Schedule(config.schedule, config.steps),
        config=config,
        monitor=monitor,
        log=MetricsLog(out / "metrics.jsonl", start=done),
        checkpoints=out / "checkpoints",
        ids=corpus.manifest["id"].to_numpy(),
        device=place,
        encoder=lambda name: _encoder(task, config, place, name),
        export=lambda step: _export(out / "encoder", task.teacher.backbone, config, corpus, rows, step),
    )
    micro = config.batch_size // config.accumulate
    grid = (config.views.global_size // config.vit.patch_size,) * 2
    loader = make_loader(
        Samples(corpus, rows, config.views, config.seed),
        Collate(config.views, config.seed, grid, masked=config.ssl.ibot_weight > 0),
        Positions(micro, done * config.accumulate, config.steps * config.accumulate),
        workers=_workers(place) if workers is None else workers,
        pin=place.type == "cuda",
    )
    loop.run(loader, done)
    return out / "encoder"


def _build(config: PretrainConfig) -> tuple[SelfDistillation, PretrainConfig]:
    """The task with its initial weights, and the config with the shape of an imported backbone."""
    generator = torch.Generator().manual_seed(integer(config.seed, "weights"))
    if config.init is None:
        return SelfDistillation(config.vit, config.ssl).init_weights(generator), config
    source = _source(Path(config.init))
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
            "interpolate_antialias": config.vit.interpolate_antialias,
        }
    )
    task = SelfDistillation(vit, config.ssl).init_weights(generator)
    task.student.backbone.load_state_dict(backbone.state)
    return task.reset_teacher(), config.model_copy(update={"vit": vit})


def _source(path: Path) -> Backbone:
    """What ``init`` names: a checkpoint of a run, or anything that :func:`load_backbone` reads."""
    if not (path / ".metadata").is_file():
        return load_backbone(path)
    return checkpoint_backbone(path, validate(PretrainConfig, read_yaml(path.parents[1] / "config.yaml")).vit)


def _claim(
    out: Path, config: PretrainConfig, corpus: Corpus, rows: np.ndarray, device: torch.device, fork: bool
) -> None:
    """Write config and environment of a new run, or check that an old one is being continued unchanged."""
    new = json.loads(config.model_dump_json())
    environment = _environment(corpus, rows, device)
    if (out / "config.yaml").is_file() and not fork:
        old, old_corpus = (
            read_yaml(out / "config.yaml"),
            _read_json(out / "environment.json").get("corpus", {}),
        )
        changes = diff({"corpus": old_corpus} | old, {"corpus": environment["corpus"]} | new)
        if changes:
            raise ConfigError(
                f"{out} holds a run with another config ({'; '.join(changes)}): "
                "give another --out, undo the change, or pass --fork to go on with it"
            )
        return
    if not fork and out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and not a run: give another --out")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("environment.json", json.dumps(environment, indent=2) + "\n"),
        ("config.yaml", yaml.safe_dump(new, sort_keys=False)),
    ):
        partial = out / f".{name}.partial"
        partial.write_text(text)
        os.replace(partial, out / name)


def _environment(corpus: Corpus, rows: np.ndarray, device: torch.device) -> dict[str, Any]:
    packages = ("raddino", "torch", "torchvision", "numpy", "transformers", "pydicom")
    table = corpus.manifest.iloc[rows]
    return {
        "corpus": {
            "fingerprint": corpus.fingerprint,
            "images": len(rows),
            "patients": int(table["patient"].nunique()),
            "sources": {str(k): int(v) for k, v in table["source"].value_counts().sort_index().items()},
            "synthetic": _synthetic(table["synthetic"]),
        },
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "platform": platform.machine(),
    }


def _rows(corpus: Corpus, config: PretrainConfig) -> np.ndarray:
    rows = np.concatenate([corpus.rows(split=split, where=config.where) for split in config.splits])
    rows = np.sort(rows).astype(np.int64)
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
    corpus: Corpus,
    rows: np.ndarray,
    step: int,
) -> None:
    table = corpus.manifest.iloc[rows]
    provenance = Provenance(
        sources=sorted(table["source"].unique()) if step else [],
        supervision="self-supervised" if step else "none",
        licence="other",
        synthetic=_synthetic(table["synthetic"]) if step else None,
        note=f"After {step} steps of {config.batch_size} images." if step else "Initial weights, not trained here.",
    )
    if config.init is not None:
        provenance = _with_ancestor(provenance, Path(config.init))
    save_encoder(
        folder, backbone, size=config.views.global_size, mean=config.views.mean, std=config.views.std,
        name="trained" if step else "initial", provenance=provenance,
    )  # fmt: skip


def _with_ancestor(provenance: Provenance, init: Path) -> Provenance:
    """Add what the weights that training started from had seen; unknown stays unknown."""
    before = _read_json(init / "raddino.json").get("provenance") if init.is_dir() else None
    before = before or {"sources": None, "supervision": "unknown"}
    known = before["sources"] is not None
    return Provenance(
        sources=sorted({*before["sources"], *(provenance.sources or [])}) if known else None,
        supervision=before["supervision"] if provenance.supervision == "none" else provenance.supervision,
        licence=provenance.licence,
        synthetic=provenance.synthetic,
        note=f"{provenance.note} Started from {init.name}.",
    )


def _encoder(task: SelfDistillation, config: PretrainConfig, device: torch.device, name: str) -> VitEncoder:
    backbone = task.teacher.backbone
    return VitEncoder(
        backbone, size=config.views.global_size, mean=config.views.mean, std=config.views.std, name=name,
        provenance=Provenance(), device=str(device),
    )  # fmt: skip


def _synthetic(values: Any) -> bool | str:
    return bool(values.all()) if values.nunique() == 1 else "mixed"


def _device(device: str) -> str:
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _precision(precision: str, device: torch.device) -> str:
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").is_file() else []
    return "bf16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "fp32"


def _workers(device: torch.device) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 12) if device.type == "cuda" else 1


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
