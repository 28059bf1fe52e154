"""Transformers' Trainer as findings generation uses it: two learning rates, small checkpoints, our progress bar."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

from raddino.encoders.huggingface import quiet
from raddino.errors import RaddinoError
from raddino.files import draft_of, writing
from raddino.progress import Bar, bar
from raddino.sums import SUMS, sums_hold, write_sums
from raddino.tasks.findings.data import Collator, Example
from raddino.tasks.findings.settings import FindingsConfig, Stage

WEIGHTS = "model.safetensors"
STATE = "trainer_state.json"
PROJECTOR = "multi_modal_projector"


class FindingsTrainer(Trainer):
    """Checkpoints hold what is trained; frozen weights, the encoder's above all, are not in them."""

    def __init__(self, *args: Any, stage: Stage, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stage = stage

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with the projector's and the language model's learning rates; decay on matrices alone."""
        model = self.model if model is None else model
        if self.optimizer is None:
            groups: dict[tuple[float, float], list[Any]] = {}
            for name, weight in model.named_parameters():
                if weight.requires_grad:
                    lr = self.stage.lr if PROJECTOR in name else self.stage.language_lr or self.stage.lr
                    decay = self.args.weight_decay if weight.ndim > 1 else 0.0
                    groups.setdefault((lr, decay), []).append(weight)
            self.optimizer = torch.optim.AdamW(
                [{"params": weights, "lr": lr, "weight_decay": decay} for (lr, decay), weights in groups.items()]
            )
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(str(output_dir or self.args.output_dir))
        with draft_of(folder / WEIGHTS) as draft:
            save_file(trained(self.model, state_dict), draft)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            write_sums(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_trained(model or self.model, Path(resume_from_checkpoint) / WEIGHTS)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _read_from(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _read_from(checkpoint):
            super()._load_rng_state(checkpoint)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            best = Path(str(self.args.output_dir)) / Path(str(self.state.best_model_checkpoint)).name
            _check(best)
            load_trained(self.model, best / WEIGHTS)

    def gathered(self) -> dict[str, torch.Tensor]:
        """The trained weights, whole; on the first rank where the model is sharded."""
        if not self.is_fsdp_enabled:
            return trained(self.model)
        state = self.accelerator.get_state_dict(self.model)
        return trained(self.model, state) if self.args.should_save else {}


class _Progress(TrainerCallback):
    """Moves the bar, and validates and saves after the last step too."""

    def __init__(self, shown: Bar) -> None:
        self.shown, self.text = shown, ""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.shown.advance(state.global_step - self.shown.done, self.text)
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        told = {"loss": "loss", "eval_loss": "validation"}
        parts = [f"{told[key]} {value:.3f}" for key, value in (logs or {}).items() if key in told]
        self.text = "  ".join(parts) or self.text


def run_stage(
    model: Any,
    train: Sequence[Example],
    val: Sequence[Example],
    collator: Collator,
    config: FindingsConfig,
    stage: Stage,
    folder: Path,
    *,
    name: str,
    seed: int,
    device: torch.device,
    bf16: bool,
    ranks: int = 1,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Train what requires gradients; continues from the newest whole checkpoint in ``folder``.

    The best weights by validation loss are in ``model`` afterwards, as its shards under FSDP.

    Returns:
        JSON-ready: steps done, reports in each, the best step and its validation loss; and the trained weights (on the
        first rank).

    Raises:
        RaddinoError: the loss is not finite.
    """
    at_once = config.batch_size * config.accumulate * ranks
    steps, warmup = stage.over(len(train), at_once)
    trainer = FindingsTrainer(
        model=model,
        args=_arguments(config, stage, (steps, warmup), folder, seed, device, bf16),
        train_dataset=train,
        eval_dataset=val,
        data_collator=collator,
        callbacks=[EarlyStoppingCallback(config.patience)] if config.patience else [],
        stage=stage,
    )
    for printer in ("PrinterCallback", "ProgressCallback"):
        for held in [one for one in trainer.callback_handler.callbacks if type(one).__name__ == printer]:
            trainer.remove_callback(held)
    newest = _newest(folder)
    if newest:
        _check(newest)
    done = int(newest.name.split("-")[-1]) if newest else 0
    with quiet(), writing(folder), bar(name, total=steps, done=done) as shown:
        trainer.add_callback(_Progress(shown))
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    state = trainer.state
    if state.best_metric is None or not math.isfinite(state.best_metric):
        raise RaddinoError(f"{name}: the validation loss is not finite; lower lr")
    best = {"best_step": state.best_global_step, "validation_loss": float(state.best_metric)}
    return {"steps": state.global_step, "reports_a_step": at_once, **best}, trainer.gathered()


def trained(model: Any, state: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
    """Weights that require gradients, by name, on the CPU; out of ``state`` where one is given."""
    names = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    held = state if state is not None else names
    return {name: held[name].detach().cpu().contiguous().clone() for name in names}


def load_trained(model: Any, file: Path) -> None:
    """Fill the weights that require gradients from a file of :func:`trained`.

    Raises:
        RaddinoError: it is damaged, or holds others.
    """
    with _read_from(str(file.parent)):
        held = load_file(file)
        names = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        if held.keys() != names.keys():
            raise ValueError("other weights")
        with torch.no_grad():
            for name, weight in names.items():
                weight.copy_(held[name])


@contextmanager
def _read_from(checkpoint: str | None) -> Iterator[None]:
    """Whatever fails in reading a checkpoint as one line; safetensors, torch and Transformers raise many kinds."""
    try:
        yield
    except Exception as error:
        raise RaddinoError(
            f"checkpoint {checkpoint} cannot be loaded ({type(error).__name__}): delete it to continue from before"
        ) from None


def _check(checkpoint: Path) -> None:
    with _read_from(str(checkpoint)):
        if not sums_hold(checkpoint):
            raise ValueError(f"its files are not those of {SUMS}")


def _newest(folder: Path) -> Path | None:
    """The newest whole checkpoint; others are removed."""
    found: list[tuple[int, Path]] = []
    for path in sorted(folder.glob("checkpoint-*")):
        if (step := _step(path)) is not None:
            found.append((step, path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(found)[1] if found else None


def _step(checkpoint: Path) -> int | None:
    """Steps behind a checkpoint that has all its parts (digests are written last) and the best one; else None."""
    parts = (WEIGHTS, "optimizer*", "scheduler.pt", "rng_state*.pth", SUMS)
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        best = checkpoint.with_name(Path(state["best_model_checkpoint"]).name)
        counted = checkpoint.name == f"checkpoint-{state['global_step']}" and state["train_batch_size"] > 0
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    whole = counted and (best / WEIGHTS).is_file() and all(any(checkpoint.glob(part)) for part in parts)
    return int(state["global_step"]) if whole else None


def _arguments(
    config: FindingsConfig,
    stage: Stage,
    length: tuple[int, int],
    folder: Path,
    seed: int,
    device: torch.device,
    bf16: bool,
) -> TrainingArguments:
    steps, warmup = length
    every = min(config.evaluate_every, steps)
    options: dict[str, Any] = {"gradient_checkpointing": True} if config.gradient_checkpointing else {}
    if config.fsdp:
        options |= {"fsdp": True, "fsdp_config": {"state_dict_type": "FULL_STATE_DICT"}}
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=stage.lr,
        weight_decay=config.weight_decay,
        warmup_steps=warmup,
        lr_scheduler_type="cosine",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(1, every // 10),
        report_to="none",
        disable_tqdm=True,
        prediction_loss_only=True,
        label_names=["labels"],
        remove_unused_columns=False,
        seed=seed,
        use_cpu=device.type == "cpu",
        bf16=bf16,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=device.type == "cuda",
        **options,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs are torchrun's, not nn.DataParallel's
    return arguments
