"""RadGraph F1 (Delbrouck et al., EMNLP Findings 2022) by the package ``radgraph``, in a Python of its own.

The package pins and patches what raddino needs in other versions, so it runs as a process that gets texts and
gives numbers through pipes; nothing is written to disk, and nothing is fetched.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from raddino.device import resolve_device
from raddino.encoders.weights import weights_folder
from raddino.errors import RaddinoError
from raddino.metrics.ranking import Floats
from raddino.metrics.text import check_pairs
from raddino.progress import bar

Model = Literal["radgraph", "radgraph-xl", "modern-radgraph-xl"]
REWARDS = ("radgraph_e", "radgraph_er", "radgraph_er_bar")
"""The package's ``simple`` (entities), ``partial`` (and whether each has a relation) and ``complete`` (and which)."""
CHUNK = 16
SILENCE = 900.0
"""Seconds without an answer after which the other Python is given up."""
MISSING = (
    "weights not provided: make another environment with pip install radgraph, name its Python by "
    "RADDINO_RADGRAPH_PYTHON, and unpack {model}.tar.gz of https://huggingface.co/StanfordAIMI/RRG_scorers into "
    "$RADDINO_WEIGHTS/radgraph/{model} (by default ~/.cache/raddino/weights/radgraph/{model})"
)
VERSION = "import importlib.metadata as m; print(m.version('radgraph'))"
WORKER = """
import json, os, sys
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
def tell(**said):
    answer.write(json.dumps(said) + "\\n")
    answer.flush()
job = json.loads(sys.stdin.buffer.read())
try:
    from radgraph import F1RadGraph
    score = F1RadGraph(
        reward_level="all", model_type=job["model"], cuda=job["cuda"], model_cache_dir=job["weights"]
    )
except Exception as error:
    words = ["..." if "/" in word else word for word in str(error).split()]
    tell(error=type(error).__name__ + " while it loads: " + " ".join(words)[:200])
    sys.exit(1)
try:
    for start in range(0, len(job["references"]), job["chunk"]):
        part = slice(start, start + job["chunk"])
        rewards = score(refs=job["references"][part], hyps=job["hypotheses"][part])[1]
        tell(rewards=[[float(one) for one in row] for row in zip(*rewards)])
except Exception as error:
    tell(error=type(error).__name__ + " on a report")
    sys.exit(1)
"""
"""What the other Python runs; neither texts nor paths reach its messages."""


@dataclass(frozen=True)
class RadGraph:
    """Scores pairs of texts. Make one with :func:`find_radgraph`.

    Attributes:
        python: interpreter that has the package.
        version: of the package.
        weights: folder with the model's own folder.
        model: which of the package's networks.
        cuda: number of the GPU, -1 for none.
    """

    python: Path
    version: str
    weights: Path
    model: str
    cuda: int = -1

    @property
    def signature(self) -> str:
        """Package, network and how a number of many reports comes about."""
        return f"radgraph|version:{self.version}|model:{self.model}|mean over reports"

    def __call__(self, references: Sequence[str], hypotheses: Sequence[str]) -> Floats:
        """(N, 3) of :data:`REWARDS`, 0..1; 0 where either text is empty, as in the package.

        Raises:
            ValueError: not as many references as hypotheses.
            RaddinoError: the other Python failed.
        """
        check_pairs(references, hypotheses)
        if not references:
            return np.zeros((0, len(REWARDS)))
        job = {
            "model": self.model,
            "weights": str(self.weights),
            "cuda": self.cuda,
            "chunk": CHUNK,
            "references": [text.strip() for text in references],
            "hypotheses": [text.strip() for text in hypotheses],
        }
        rows: list[list[float]] = []
        with tempfile.TemporaryDirectory() as empty, bar("RadGraph", len(references)) as shown:
            for said in _answers(self.python, job, empty):
                if "error" in said:
                    raise RaddinoError(f"RadGraph failed in its own Python: {said['error']}")
                rows += said["rewards"]
                shown.advance(len(said["rewards"]))
        sound = len(rows) == len(references) and all(len(row) == len(REWARDS) for row in rows)
        scores = np.array(rows if sound else [np.nan], dtype=np.float64)
        if not ((scores >= 0) & (scores <= 1)).all():
            raise RaddinoError(f"RadGraph gave {len(rows)} of {len(references)} scores: it stopped, or is another API")
        return scores


def find_radgraph(
    python: str | Path | None = None, weights: Path | None = None, model: Model = "radgraph", device: str = "auto"
) -> RadGraph | None:
    """The package where the user has it, on weights that the user has.

    Args:
        python: interpreter that has the package; None takes ``$RADDINO_RADGRAPH_PYTHON``, else this one if it has it.
        weights: folder whose folder ``model`` has ``config.json`` and ``weights.th``; None looks in the ``radgraph``
            folder beside other weights.
        model: ``"radgraph"`` is what the MAIRA line reports; the others are newer and give other numbers.
        device: see :func:`~raddino.device.resolve_device`.

    Returns:
        None where no Python, or no weights, are given or placed; :func:`missing` is the reason.

    Raises:
        RaddinoError: what was given is not there, or cannot run the package.
    """
    given = python or os.environ.get("RADDINO_RADGRAPH_PYTHON")
    place = weights_folder() / "radgraph" if weights is None else Path(weights).expanduser()
    chosen = given or (sys.executable if importlib.util.find_spec("radgraph") else None)
    if chosen is None or (weights is None and not (place / model).is_dir()):
        return None
    for name in ("config.json", "weights.th"):
        if not (place / model / name).is_file():
            raise RaddinoError(f"RadGraph: its folder has no {model}/{name}: unpack {model}.tar.gz there")
    interpreter = Path(chosen).expanduser().absolute()
    device_used = resolve_device(device)
    cuda = (device_used.index or 0) if device_used.type == "cuda" else -1
    return RadGraph(interpreter, _version(interpreter), place.absolute(), model, cuda)


def missing(model: Model = "radgraph") -> str:
    """Why there is no score, and what to do."""
    return MISSING.format(model=model)


def _version(python: Path) -> str:
    try:
        done = subprocess.run(
            [python, "-c", VERSION],
            capture_output=True,
            encoding="utf-8",
            env=_environment(),
            timeout=60,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RaddinoError(f"RadGraph: the Python that was named does not run ({type(error).__name__})") from None
    if done.returncode:
        raise RaddinoError("RadGraph: the Python that was named has no package radgraph: pip install radgraph there")
    if not re.fullmatch(r"\d[\w.+!-]*", version := done.stdout.strip()):
        raise RaddinoError("RadGraph: the Python that was named does not tell the package's version: is it a Python?")
    return version


def _answers(python: Path, job: dict[str, Any], folder: str) -> Any:
    """What the worker says, one mapping a line, as it comes; the process and its children end with the last."""
    with subprocess.Popen(
        [python, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=_environment(),
        start_new_session=True,
    ) as process:
        watch = _Watch(process.pid)
        try:
            _send(process.stdin, json.dumps(job).encode())
            for line in process.stdout or ():
                watch.rearm()
                yield _said(line)
        finally:
            watch.end()
        if watch.barked:
            raise RaddinoError(f"RadGraph's Python was silent for {SILENCE:.0f} s: try it on a few reports by hand")


class _Watch:
    """Kills a process group that stays silent for :data:`SILENCE` seconds."""

    def __init__(self, group: int) -> None:
        self.group, self.barked = group, False
        self.timer = self._armed()

    def rearm(self) -> None:
        self.timer.cancel()
        self.timer = self._armed()

    def end(self) -> None:
        self.timer.cancel()
        self._kill()

    def _armed(self) -> threading.Timer:
        timer = threading.Timer(SILENCE, self._bark)
        timer.daemon = True
        timer.start()
        return timer

    def _bark(self) -> None:
        self.barked = True
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, signal.SIGKILL)


def _said(line: bytes) -> dict[str, Any]:
    """One answer: ``{"error": text}`` or ``{"rewards": rows of numbers}``."""
    try:
        said = json.loads(line)
        if "error" in said:
            return {"error": str(said["error"])}
        return {"rewards": [[float(one) for one in row] for row in said["rewards"]]}
    except (ValueError, KeyError, TypeError):
        raise RaddinoError("RadGraph's Python answered something else than scores") from None


def _send(pipe: IO[bytes] | None, content: bytes) -> None:
    """Give a process all that it reads; one that ended before gives no answer, which is told then."""
    assert pipe is not None
    with suppress(BrokenPipeError):
        pipe.write(content)
    with suppress(BrokenPipeError):
        pipe.close()


def _environment() -> dict[str, str]:
    """This process's, without its own module paths, and with the hub switched off."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**own, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
