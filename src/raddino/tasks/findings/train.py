"""Train a findings writer on a frozen encoder; the same call on the same folder continues or finds the work done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from raddino.config import diff
from raddino.device import resolve_device
from raddino.encoders.base import Encoder
from raddino.errors import RaddinoError
from raddino.features.forward import resolve_precision
from raddino.features.ranks import PATIENCE, Ranks, join_ranks
from raddino.files import draft_of, read_json, sha256, write_json
from raddino.progress import subject
from raddino.tasks.findings.data import Collator, Example, PatchTokens, Reports, Writer, check_length
from raddino.tasks.findings.language import identity, load_language
from raddino.tasks.findings.prompts import load_template
from raddino.tasks.findings.settings import FindingsConfig, Stage
from raddino.tasks.findings.tower import reader

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

JOB = "job.json"


@dataclass(frozen=True)
class Trained:
    """A findings writer on disk.

    Attributes:
        folder: of the model; standard form: ``LlavaForConditionalGeneration.from_pretrained`` loads it.
        chosen: JSON-ready facts that stand beside every number: language model, tuning, stages with steps done and
            validation loss, texts used, empty and cut, whether the folder needs raddino.
    """

    folder: Path
    chosen: dict[str, Any]


def train_findings(
    corpus: Corpus,
    train: Reports,
    val: Reports,
    encoder: Encoder,
    config: FindingsConfig,
    folder: Path,
    *,
    seed: int = 0,
    batch_size: int = 32,
    precision: str = "fp32",
    device: str = "auto",
    cache: Path | None = None,
) -> Trained:
    """Train projector and language model to write the texts of images.

    Args:
        corpus: where images and prompt columns lie.
        train, val: what is learnt, and what selects the best step.
        encoder: frozen, with a patch grid.
        config: settings.
        folder: for checkpoints and, in ``folder/model``, the result.
        seed: of initial weights and order; order is a function of seed and step.
        batch_size, precision, device, cache: of the embedding, see :func:`~raddino.features.extract.embed`. ``device``
            and ``precision`` (``"bf16"``: on a GPU) hold for training too.

    Raises:
        RaddinoError: an encoder without patches, no usable text, a language model that cannot be had, or a folder that
            holds work of other settings.
    """
    from raddino.tasks.findings.model import assemble, image_tokens, is_standard, read_record, save_model

    seen, done = reader(encoder, config.final_norm), folder / "model"
    place, precise = resolve_device(device), resolve_precision(precision, encoder)
    ranks = _join(place)
    if config.fsdp and (place.type != "cuda" or ranks.size == 1):
        raise RaddinoError("fsdp shards over several GPUs: start with torchrun --nproc-per-node N, or set fsdp=false")
    _claim(folder, _job(corpus, train, val, seen, config, seed, precise), ranks)
    if (done / "findings.json").is_file():
        return Trained(done, read_record(done)["chosen"])
    bf16 = precise == "bf16" and place.type == "cuda"
    dtype = torch.bfloat16 if bf16 and config.tuning != "full" else torch.float32
    kept = [text for text in train.texts if text.strip()]
    language = load_language(config, kept, seed, dtype)
    writer = Writer(corpus, language.tokenizer, config, load_template(config.prompt), image_tokens(seen, config))
    learnt, told = _examples(writer, train, "train")
    selecting, counted = _examples(writer, val, "val")
    check_length([*learnt, *selecting], language.positions, config.text_tokens + 1)
    pictures = np.array([row for one in (*learnt, *selecting) for row in one.pictures])
    patches = PatchTokens(
        corpus, seen, pictures,
        cached=config.features == "cached", batch_size=batch_size, precision=precise, cache=cache,
    )  # fmt: skip
    collator = Collator(patches, language.tokenizer.pad_token_id)

    def again() -> Any:
        return assemble(seen, load_language(config, kept, seed, dtype), config, seed)

    options = {"name": subject(encoder.name), "seed": seed, "device": place, "bf16": bf16}
    model = assemble(seen, language, config, seed)
    model, results = _run(model, again, (learnt, selecting), collator, config, folder, ranks, options)
    chosen = {
        "language_model": config.language_name,
        "tuning": config.tuning,
        "stages": results,
        "texts": {"train": told, "val": counted},
        "image_tokens": image_tokens(seen, config),
        "needs_raddino": not is_standard(encoder, config),
    }
    if ranks.rank == 0:
        save_model(done, model.cpu(), encoder, language, config, {"chosen": chosen, "seed": seed})
        for path in folder.glob("stage-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    ranks.wait()
    return Trained(done, chosen)


def _run(
    model: Any,
    again: Callable[[], Any],
    examples: Sequence[Sequence[Example]],
    collator: Collator,
    config: FindingsConfig,
    folder: Path,
    ranks: Ranks,
    options: dict[str, Any],
) -> tuple[Any, list[dict[str, Any]]]:
    """All stages, one after another; a finished one is found by its record. Adapters are merged at the end.

    Args:
        model: before any stage.
        again: makes it anew; after a sharded stage only shards are left of it.
    """
    from raddino.tasks.findings.trainer import run_stage

    files = [folder / f"stage-{number}.json" for number in range(1, len(config.recipe) + 1)]
    done = next((i for i, file in enumerate(files) if not file.is_file()), len(files))
    ranks.wait()  # all have looked before the first one adds to it
    model, adapters = _restore(model, files[:done], config, options["seed"])
    for file, stage in list(zip(files, config.recipe, strict=True))[done:]:
        adapters = _prepare(model, adapters, stage, config, options["seed"])
        name = f"findings on {options['name']}, stage {files.index(file) + 1} of {len(files)}"
        values = options | {"name": name, "ranks": ranks.size}
        result, weights = run_stage(
            model, examples[0], examples[1], collator, config, stage, file.with_suffix(""), **values
        )
        ranks.wait()  # all have read the best checkpoint before it goes
        if ranks.rank == 0:
            _keep(weights, {"train": stage.train, **result}, file)
        ranks.wait()
        if config.fsdp:
            model, adapters = _restore(again(), files[: files.index(file) + 1], config, options["seed"])
    if adapters is not None:
        adapters.merge_and_unload()
    return model, [{key: value for key, value in _told(file).items() if key != "sha256"} for file in files]


def _restore(model: Any, done: Sequence[Path], config: FindingsConfig, seed: int) -> tuple[Any, Any]:
    """The model after finished stages, and its adapters."""
    from raddino.tasks.findings.trainer import load_trained

    adapters = None
    for file, stage in zip(done, config.recipe, strict=False):
        adapters = _prepare(model, adapters, stage, config, seed)
        weights = file.with_suffix(".safetensors")
        if not weights.is_file() or _told(file).get("sha256") not in (None, sha256(weights)):
            raise RaddinoError(f"{weights} is missing or damaged: delete the folder {file.parent} and train again")
        load_trained(model, weights)
    return model, adapters


def _prepare(model: Any, adapters: Any, stage: Stage, config: FindingsConfig, seed: int) -> Any:
    """Let a stage's weights be trained; returns the adapters, made where the stage is the first to need them."""
    if adapters is None and stage.train == "both" and config.tuning == "lora":
        adapters = add_adapters(model, config, seed)
    for name, weight in model.named_parameters():
        language = stage.train == "both" and (config.tuning == "full" or "lora_" in name)
        weight.requires_grad_("multi_modal_projector" in name or language)
    return adapters


def add_adapters(model: Any, config: FindingsConfig, seed: int) -> Any:
    """Put LoRA beside every linear layer of the language model's blocks, in place.

    Args:
        model: of :func:`~raddino.tasks.findings.model.assemble`.
        config: rank, alpha, dropout.
        seed: of the adapters' first factor; the second starts at 0.

    Returns:
        peft's tuner, whose ``merge_and_unload`` puts plain layers back.

    Raises:
        RaddinoError: peft is not installed.
    """
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError:
        raise RaddinoError("tune=lora needs peft: pip install 'raddino[llm]', or set tune=full") from None
    inside = "model.language_model."
    layers = [
        name
        for name, layer in model.named_modules()
        if name.startswith(inside) and isinstance(layer, torch.nn.Linear)
    ]  # fmt: skip
    values = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout, target_modules=layers
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LoraModel(model, {"default": values}, "default")


def _keep(weights: dict[str, Any], result: dict[str, Any], record: Path) -> None:
    """A stage's weights first, then the record that makes them count; its checkpoints go."""
    from safetensors.torch import save_file

    with draft_of(record.with_suffix(".safetensors")) as draft:
        save_file(weights, draft)
    write_json(record, result | {"sha256": sha256(record.with_suffix(".safetensors"))})
    shutil.rmtree(record.with_suffix(""))


def _join(device: torch.device) -> Ranks:
    """The processes of a ``torchrun``; on GPUs they exchange tensors by NCCL."""
    if device.type == "cuda" and "TORCHELASTIC_RUN_ID" in os.environ and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)
    return join_ranks()


def _examples(writer: Writer, reports: Reports, split: str) -> tuple[list[Example], dict[str, int]]:
    """Examples of a split, and counts of texts used, empty and cut."""
    if len(reports.rows) != len(reports.texts):
        raise RaddinoError(f"{split}: {len(reports.rows)} images but {len(reports.texts)} texts")
    pairs = [(int(row), text) for row, text in zip(reports.rows, reports.texts, strict=True) if text.strip()]
    if not pairs:
        raise RaddinoError(f"{split}: none of {len(reports.texts)} images has a text to learn from")
    counts = {"used": len(pairs), "empty": len(reports.texts) - len(pairs)}
    counts["cut"] = sum(writer.is_cut(text) for _, text in pairs)
    return [writer.example(row, text) for row, text in pairs], counts


def _job(
    corpus: Corpus, train: Reports, val: Reports, encoder: Encoder, config: FindingsConfig, seed: int, precision: str
) -> dict[str, Any]:
    """What decides the result."""
    texts = hashlib.sha256()
    for part in (train, val):
        texts.update(json.dumps([[int(row) for row in part.rows], list(part.texts)]).encode())
    return {
        "corpus": corpus.fingerprint,
        "prompt": load_template(config.prompt).model_dump(),
        "texts": texts.hexdigest()[:16],
        "encoder": encoder.fingerprint,
        "seed": seed,
        "precision": precision,
        "config": config.public(),
        "language_model": identity(config.language_model),
    }


def _told(file: Path) -> dict[str, Any]:
    """What a JSON file of the folder says."""
    return read_json(file, f"delete the folder {file.parent} and train again")


def _claim(folder: Path, job: dict[str, Any], ranks: Ranks) -> None:
    """Note what a folder is for, or refuse one that is for something else."""
    file = folder / JOB
    if file.is_file():
        if changes := diff(_told(file), job):
            raise RaddinoError(f"{folder} holds work of other settings ({changes[0]}): delete it or take another")
        return
    ranks.wait()
    if ranks.rank == 0:
        write_json(file, job)
    ranks.wait()
