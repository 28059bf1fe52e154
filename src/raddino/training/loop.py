"""The loop: steps, their record, looks of the monitor, checkpoints, and an orderly stop."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raddino.encoders.ours import VitEncoder
from raddino.errors import RaddinoError
from raddino.progress import Bar, bar
from raddino.ssl import SelfDistillation, Views
from raddino.ssl.guides import ACCURACY, with_accuracies
from raddino.training.blocks import fixed_rows
from raddino.training.checkpoint import Saver, Snapshot, save_checkpoint
from raddino.training.loader import Batch, Loader, Order, Rendered, make_views, reading
from raddino.training.metrics_log import MetricsLog
from raddino.training.monitor import EARLY, Monitor, assignments
from raddino.training.parallel import DataParallel
from raddino.training.schedule import Schedule, StepValues
from raddino.training.settings import PretrainConfig
from raddino.training.step import StepOutcome, train_step
from raddino.views import Multicrop
from raddino.views.randomness import integer
from raddino.vit import VisionTransformer

REQUEUE = os.EX_TEMPFAIL
"""Exit status, 75, of a run that made room and wants to go on: "try again later"."""
STOP, MAKE_ROOM = 2, 1
RECORD_EVERY = 10
IDS_SHOWN = 8


@dataclass
class _Done:
    """A finished step whose figures are still on the device."""

    step: int
    outcome: StepOutcome
    values: StepValues
    data_wait: float
    save_wait: float


@dataclass
class Loop:
    """Drives ``train_step`` from a loader of micro-batches; everything it needs is handed in.

    The first rank alone has a ``monitor``, and a ``log`` that writes.
    """

    task: SelfDistillation
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    config: PretrainConfig
    parallel: DataParallel
    monitor: Monitor | None
    log: MetricsLog
    checkpoints: Path
    order: Order
    ids: np.ndarray
    device: torch.device
    encoder: Callable[[str], VitEncoder]
    export: Callable[[int, VisionTransformer], None]
    _pending: list[_Done] = field(default_factory=list)
    _window: float = 0.0
    _save_wait: float = 0.0

    def run(self, loader: Loader, start: int) -> None:
        """Steps ``start`` to ``config.steps``; stops in order on Ctrl-C, SIGTERM or SIGUSR1.

        Raises:
            RaddinoError: a term of the loss is not a finite number, or a checkpoint cannot be written.
            KeyboardInterrupt: asked to stop; the state is on disk.
            SystemExit: asked by SIGUSR1 to make room, with :data:`REQUEUE`; the state is on disk.
        """
        self._window = time.perf_counter()
        with (
            bar("pretrain", self.config.steps, done=start, silent=not self.parallel.first) as shown,
            _stop_signal(self.parallel) as stopped,
            reading(loader) as batches,
            Saver(self._write if self.parallel.first else None) as saver,
        ):
            views = self._rendered(batches, start)
            for step in range(start, self.config.steps):
                saver.check()
                outcome = self._step(step, views)
                last = step + 1 == self.config.steps
                stop = 0 if last else self.parallel.largest(max(stopped, default=0))
                look = step % self.config.monitor.every == 0 or last
                save = (step + 1) % self.config.checkpoint_every == 0 or last or stop
                if look or save or len(self._pending) == RECORD_EVERY:
                    self._record(shown)
                if look:
                    self._look(step, outcome, shown)
                if save:
                    self._save(saver, step + 1, wait=bool(last or stop))
                shown.advance()
                if stop:
                    if self.parallel.first:
                        shown.say(f"stopped after step {step + 1}; the same command continues from there")
                    raise KeyboardInterrupt if stop == STOP else SystemExit(REQUEUE)
        self.log.close()

    def _rendered(self, batches: Iterator[Batch], start: int) -> Rendered:
        multicrop = Multicrop(self.config.views)
        steps = (step for step in range(start, self.config.steps) for _ in range(self.config.accumulate))
        rows = fixed_rows(self.config, self.config.batch_size // self.config.accumulate // self.parallel.size)

        def render(batch: Batch) -> Views:
            return make_views(batch, multicrop, self.device, self.config.ssl.gram.size_at(next(steps)), rows)

        return Rendered(batches, render, self.device)

    def _step(self, step: int, views: Rendered) -> StepOutcome:
        values, waited = self.schedule[step], views.waited
        outcome = train_step(
            self.task,
            self.optimizer,
            islice(views, self.config.accumulate),
            self.config.accumulate,
            values,
            self.config.optim.clip_grad,
            self.config.precision,
            self.parallel.generator(integer(self.config.seed, "drop_path", step)),
            self.parallel,
        )
        self._pending.append(_Done(step, outcome, values, views.waited - waited, self._save_wait))
        self._save_wait = 0.0
        return outcome

    def _record(self, shown: Bar) -> None:
        """Bring the pending steps' figures to the host, check them and write them."""
        lines = [self._line(done) for done in self._pending]
        now = time.perf_counter()
        rate = len(lines) * self.config.batch_size / max(now - self._window, 1e-9)
        for done, line in zip(self._pending, lines, strict=True):
            self._refuse_nan(done, line)
            waits = {"data_wait": round(done.data_wait, 4), "save_wait": round(done.save_wait, 4)}
            self.log.write(line | {"images_per_second": round(rate, 2)} | waits)
        self.log.flush()
        if lines:
            shown.advance(0, f"loss {lines[-1]['loss']:.3f}  {_told(lines[-1])}{rate:.0f} images/s")
        self._pending.clear()
        self._window = now

    def _line(self, done: _Done) -> dict[str, Any]:
        values = done.values
        terms = {name: value.item() for name, value in done.outcome.terms.items()}
        norms = {f"grad_norm_{part}": norm.item() for part, norm in done.outcome.grad_norms.items()}
        return {
            "step": done.step,
            "samples": (done.step + 1) * self.config.batch_size,
            **with_accuracies(terms),
            "lr": values.lr,
            "weight_decay": values.weight_decay,
            "momentum": values.momentum,
            "teacher_temperature": values.teacher_temperature,
            **norms,
        }

    def _refuse_nan(self, done: _Done, line: dict[str, Any]) -> None:
        terms = [*(name for name in done.outcome.terms if name in line and name != "loss"), "loss"]
        named = [*terms, *(name for name in line if name.startswith("grad_norm_"))]
        bad = [name for name in named if not math.isfinite(line[name])]
        if not bad:
            return
        first = done.step * self.config.batch_size
        ids = [str(self.ids[self.order(position)]) for position in range(first, first + self.config.batch_size)]
        self.log.write({"step": done.step, "failure": bad, "ids": ids})
        self.log.close()
        raise RaddinoError(
            f"step {done.step}: {', '.join(bad)} is not a finite number; batch ids {', '.join(ids[:IDS_SHOWN])}"
            f"{f' and {len(ids) - IDS_SHOWN} more in metrics.jsonl' if len(ids) > IDS_SHOWN else ''}. "
            "Look at these images, or lower schedule.lr; the last checkpoint is sound"
        )

    def _look(self, step: int, outcome: StepOutcome, shown: Bar) -> None:
        values, encoder = assignments(outcome, self.config.ssl.student_temperature), self.encoder("monitor")
        if self.monitor:
            values |= self.monitor.look(encoder)
            words = self.monitor.judge(step, values)
            self.log.write({"step": step, "monitor": True, **values, "verdict": words})
            self.log.flush()
            if words not in ("healthy", EARLY):
                shown.say(f"step {step}: {words}")
        self._window = time.perf_counter()

    def _save(self, saver: Saver, done: int, wait: bool) -> None:
        begun = time.perf_counter()
        saver.save(done, self.task, self.optimizer)
        if wait:
            saver.wait()
            self.parallel.wait()
        self._window = time.perf_counter()
        self._save_wait = self._window - begun

    def _write(self, done: int, state: Snapshot) -> None:
        config = self.config
        save_checkpoint(self.checkpoints, done, state, config.keep_checkpoints, config.keep_every)
        self.export(done, state.backbone(config.vit))


def _told(line: dict[str, Any]) -> str:
    """How well each guide tells its classes."""
    known = {name.removeprefix(ACCURACY): value for name, value in line.items() if name.startswith(ACCURACY)}
    return "".join(f"{name} {value:.0%}  " for name, value in known.items())


@contextmanager
def _stop_signal(parallel: DataParallel) -> Iterator[list[int]]:
    """A list filled by signals: SIGINT and SIGTERM with :data:`STOP`, SIGUSR1 with :data:`MAKE_ROOM`.

    A second SIGINT or SIGTERM stops at once. What is ignored stays so. On several ranks a second one changes nothing:
    ``torchrun`` passes on what they have heard themselves. A rank that fails hears none any more: ``torchrun`` ends the
    others of one that died, the first of which has a line to say.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: Any) -> None:
        asked = MAKE_ROOM if number == signal.SIGUSR1 else STOP
        if received and asked == STOP and parallel.size == 1:
            raise KeyboardInterrupt
        received.append(asked)
        if parallel.first and len(received) == 1:
            print("stopping after this step …", file=sys.stderr, flush=True)

    known = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    heard = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]
    old = {number: signal.signal(number, note) for number in heard}
    try:
        yield received
    except Exception:
        if parallel.size > 1:
            old.clear()
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
