"""The numbers of ``metrics.jsonl`` in TensorBoard, MLflow or W&B too: beside the training, never in its way."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from queue import Full, Queue
from types import TracebackType
from typing import Any, Protocol

from raddino.errors import ConfigError, did_you_mean
from raddino.files import read_json, write_text
from raddino.training.settings import PretrainConfig

RUNS = "trackers.json"
"""In the run folder: the names under which trackers know the run."""
PRIVATE = ("init", "where")
"""Settings that stay here: they may name places or people."""
WAITING_LINES = 10_000
PATIENCE_SECONDS, HURRY_SECONDS = 60.0, 3.0
"""How long trackers may take to finish when a run ends, in order and otherwise."""


class Tracker(Protocol):
    """A run in another program's books."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers of a step; a step that is written again has the same numbers."""
        ...

    def close(self) -> None:
        """Hand over what is left."""
        ...


class TensorBoard:
    """Event files in ``run/tensorboard``; those of steps from ``start`` on are void."""

    def __init__(self, out: Path, config: PretrainConfig, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=start)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """See :class:`Tracker`."""
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        """See :class:`Tracker`."""
        self._writer.close()


class Mlflow:
    """A run in ``run/mlflow``, or at ``MLFLOW_TRACKING_URI``, of ``MLFLOW_EXPERIMENT_NAME``, else ``raddino``."""

    def __init__(self, out: Path, config: PretrainConfig, start: int) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric = Metric
        local = (out / "mlflow").resolve().as_uri()
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or local)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "raddino"
        self._run = _known(out, "mlflow")
        if self._run:
            self._client.update_run(self._run, status="RUNNING")
            return
        there = self._client.get_experiment_by_name(name)
        experiment = there.experiment_id if there else self._client.create_experiment(name)
        self._run = self._client.create_run(experiment, run_name=out.resolve().name).info.run_id
        _remember(out, "mlflow", self._run)
        params = [Param(key, str(value)) for key, value in _flat(_public(config)).items()]
        for first in range(0, len(params), 100):
            self._client.log_batch(self._run, params=params[first : first + 100])

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """See :class:`Tracker`."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[self._metric(*item, now, step) for item in numbers.items()])

    def close(self) -> None:
        """See :class:`Tracker`."""
        self._client.set_terminated(self._run)


class Wandb:
    """A run of ``WANDB_PROJECT``, else ``raddino``, offline in ``run/wandb`` unless ``WANDB_MODE`` says otherwise."""

    def __init__(self, out: Path, config: PretrainConfig, start: int) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        name = _known(out, "wandb")
        if not name:
            name = uuid.uuid4().hex
            _remember(out, "wandb", name)
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_meta=True,
                               x_disable_stats=True)  # fmt: skip
        self._run = wandb.init(
            id=name, resume="allow", dir=str(out), config=_public(config), settings=quiet,
            project=os.environ.get("WANDB_PROJECT") or "raddino", mode=os.environ.get("WANDB_MODE") or "offline",
        )  # fmt: skip
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """See :class:`Tracker`."""
        self._run.log({"step": step, **numbers})

    def close(self) -> None:
        """See :class:`Tracker`."""
        self._run.finish()


TRACKERS: dict[str, tuple[str, Callable[[Path, PretrainConfig, int], Tracker]]] = {
    "tensorboard": ("tensorboard", TensorBoard),
    "mlflow": ("mlflow", Mlflow),
    "wandb": ("wandb", Wandb),
}
"""By name: the package that it needs, and what opens it."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse what is no tracker, or not installed.

    Raises:
        ConfigError: which, and what to do.
    """
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(
                f"unknown tracker {name!r}.{did_you_mean(name, TRACKERS)} Known: {', '.join(TRACKERS)}; "
                "metrics.jsonl is always written"
            )
        if find_spec(TRACKERS[name][0]) is None:
            raise ConfigError(f"tracker {name} is not installed: pip install 'raddino[track]'")


class Tracking:
    """Hands lines of the log to trackers in a thread of its own, opened with the first line.

    A tracker that fails, or falls behind, is given up with one line on the terminal; nothing waits for it.

    Args:
        names: of trackers, checked by :func:`check_trackers`.
        out: run folder.
        config: of the run.
    """

    def __init__(self, names: Sequence[str], out: Path, config: PretrainConfig) -> None:
        self._names, self._out, self._config = list(dict.fromkeys(names)), out, config
        self._lines: Queue[tuple[int, dict[str, float]] | None] = Queue(WAITING_LINES)
        self._thread: threading.Thread | None = None

    def put(self, line: Mapping[str, Any]) -> None:
        """Pass a line on; of it the numbers, never ids or words."""
        if not self._names:
            return
        numbers = {key: float(value) for key, value in line.items() if type(value) in (int, float) and key != "step"}
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(line["step"],), daemon=True, name="trackers")
            self._thread.start()
        try:
            self._lines.put_nowait((line["step"], numbers))
        except Full:
            for name in self._names.copy():
                self._give_up(name, "does not keep up")

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let trackers finish, for a minute after a run that ended in order, else for a moment."""
        if self._thread is None or not self._names:
            return
        patience = PATIENCE_SECONDS if kind is None else HURRY_SECONDS
        with suppress(Full):
            self._lines.put(None, timeout=patience)
        self._thread.join(patience)
        if self._thread.is_alive():
            for name in self._names.copy():
                self._give_up(name, "does not finish")

    def _work(self, start: int) -> None:
        opened: dict[str, Tracker] = {}
        for name in self._names.copy():
            with self._failing(name):
                opened[name] = TRACKERS[name][1](self._out, self._config, start)
        while self._names and (item := self._lines.get()) is not None:
            for name in self._names.copy():
                with self._failing(name):
                    opened[name].log(*item)
        for name in self._names.copy():
            with self._failing(name):
                opened[name].close()

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """A block whose errors cost its tracker alone."""
        try:
            yield
        except Exception as error:
            self._give_up(name, f"fails ({type(error).__name__})")

    def _give_up(self, name: str, why: str) -> None:
        if name in self._names:
            self._names.remove(name)
            print(
                f"tracker {name} {why}: it is given up, training goes on and metrics.jsonl has every line",
                file=sys.stderr,
                flush=True,
            )


def _public(config: PretrainConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude=set(PRIVATE))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"vit": {"depth": 12}}`` as ``{"vit.depth": 12}``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _runs(out: Path) -> dict[str, Any]:
    return read_json(out / RUNS, "delete it") if (out / RUNS).is_file() else {}


def _known(out: Path, tracker: str) -> str:
    """The name under which a tracker knows this run; empty if it does not."""
    name = _runs(out).get(tracker, "")
    return name if isinstance(name, str) else ""


def _remember(out: Path, tracker: str, name: str) -> None:
    write_text(out / RUNS, json.dumps(_runs(out) | {tracker: name}, indent=2) + "\n")
