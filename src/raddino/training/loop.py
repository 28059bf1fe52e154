"""The loop: steps, their record, looks of the monitor, checkpoints, and an orderly stop."""

from __future__ import annotations

import math
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
from raddino.ssl import SelfDistillation
from raddino.training.checkpoint import save_checkpoint
from raddino.training.loader import Loader, Order, Rendered, make_views, reading
from raddino.training.metrics_log import MetricsLog
from raddino.training.monitor import EARLY, Monitor, assignments
from raddino.training.parallel import DataParallel
from raddino.training.schedule import Schedule, StepValues
from raddino.training.settings import PretrainConfig
from raddino.training.step import StepOutcome, train_step
from raddino.views import Multicrop
from raddino.views.randomness import integer

RECORD_EVERY = 10
IDS_SHOWN = 8


@dataclass
class _Done:
    """A finished step whose figures are still on the device."""

    step: int
    outcome: StepOutcome
    values: StepValues
    data_wait: float


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
    export: Callable[[int], None]
    _pending: list[_Done] = field(default_factory=list)
    _window: float = 0.0

    def run(self, loader: Loader, start: int) -> None:
        """Steps ``start`` to ``config.steps``; stops in order on Ctrl-C or SIGTERM.

        Raises:
            RaddinoError: a term of the loss is not a finite number.
            KeyboardInterrupt: asked to stop; the state is on disk.
        """
        multicrop = Multicrop(self.config.views)
        self._window = time.perf_counter()
        with (
            bar("pretrain", self.config.steps, done=start, silent=not self.parallel.first) as shown,
            _stop_signal(self.parallel) as stopped,
            reading(loader) as batches,
        ):
            views = Rendered(batches, lambda batch: make_views(batch, multicrop, self.device), self.device)
            for step in range(start, self.config.steps):
                outcome = self._step(step, views)
                last = step + 1 == self.config.steps
                stop = self.parallel.any(bool(stopped)) and not last
                look = step % self.config.monitor.every == 0 or last
                save = (step + 1) % self.config.checkpoint_every == 0 or last or stop
                if look or save or len(self._pending) == RECORD_EVERY:
                    self._record(shown)
                if look:
                    self._look(step, outcome, shown)
                if save:
                    self._save(step + 1)
                shown.advance()
                if stop:
                    if self.parallel.first:
                        shown.say(f"stopped after step {step + 1}; the same command continues from there")
                    raise KeyboardInterrupt
        self.log.close()

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
        self._pending.append(_Done(step, outcome, values, views.waited - waited))
        return outcome

    def _record(self, shown: Bar) -> None:
        """Bring the pending steps' figures to the host, check them and write them."""
        lines = [self._line(done) for done in self._pending]
        now = time.perf_counter()
        rate = len(lines) * self.config.batch_size / max(now - self._window, 1e-9)
        for done, line in zip(self._pending, lines, strict=True):
            self._refuse_nan(done, line)
            self.log.write(line | {"images_per_second": round(rate, 2), "data_wait": round(done.data_wait, 4)})
        self.log.flush()
        if lines:
            shown.advance(0, f"loss {lines[-1]['loss']:.3f}  {rate:.0f} images/s")
        self._pending.clear()
        self._window = now

    def _line(self, done: _Done) -> dict[str, Any]:
        values = done.values
        terms = {name: value.item() for name, value in done.outcome.terms.items()}
        norms = {f"grad_norm_{part}": norm.item() for part, norm in done.outcome.grad_norms.items()}
        return {
            "step": done.step,
            "samples": (done.step + 1) * self.config.batch_size,
            **terms,
            "lr": values.lr,
            "weight_decay": values.weight_decay,
            "momentum": values.momentum,
            "teacher_temperature": values.teacher_temperature,
            **norms,
        }

    def _refuse_nan(self, done: _Done, line: dict[str, Any]) -> None:
        terms = ("dino_local", "dino_global", "koleo", "ibot", "loss")
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
        values = assignments(outcome, self.config.ssl.student_temperature)
        if self.monitor:
            values |= self.monitor.look(self.encoder("monitor"))
            words = self.monitor.judge(step, values)
            self.log.write({"step": step, "monitor": True, **values, "verdict": words})
            self.log.flush()
            if words not in ("healthy", EARLY):
                shown.say(f"step {step}: {words}")
        self._window = time.perf_counter()

    def _save(self, done: int) -> None:
        if self.parallel.first:
            save_checkpoint(self.checkpoints, done, self.task, self.optimizer, self.config.keep_checkpoints)
            self.export(done)
        self.parallel.wait()
        self._window = time.perf_counter()


@contextmanager
def _stop_signal(parallel: DataParallel) -> Iterator[list[int]]:
    """A list that is filled at the first SIGINT or SIGTERM; the second stops at once. What is ignored stays so.

    On several ranks a second one changes nothing: ``torchrun`` passes on what they have heard themselves. A rank that
    fails hears none any more: ``torchrun`` ends the others of one that died, the first of which has a line to say.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: Any) -> None:
        if received and parallel.size == 1:
            raise KeyboardInterrupt
        received.append(number)
        if parallel.first and len(received) == 1:
            print("stopping after this step …", file=sys.stderr, flush=True)

    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
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
