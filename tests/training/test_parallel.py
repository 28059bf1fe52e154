"""Several processes train as one on the same batches, and end as one."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from raddino.config import validate
from raddino.errors import ConfigError, RaddinoError
from raddino.training import memory
from raddino.training.checkpoint import latest_step
from raddino.training.loader import Collate, Order, Positions
from raddino.training.loop import REQUEUE, _stop_signal
from raddino.training.metrics_log import read_metrics
from raddino.training.parallel import ALONE, DataParallel
from raddino.training.pretrain import PretrainConfig, pretrain
from raddino.views import ViewPlan, ViewsConfig
from raddino.vit.block import Kept
from training.parallel_job import CASES, KINDS, train
from training.test_pretrain import CLOCK

JOB = Path(__file__).with_name("parallel_job.py")
PATIENCE = 300
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}


@contextmanager
def launched(ranks: int, *arguments: object, logs: Path) -> Iterator[subprocess.Popen]:
    """A ``torchrun`` whose processes write to files under ``logs``; ended with all of them."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks),
        "--log-dir", str(logs), "--redirects", "3", *map(str, arguments),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        for one in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []:
            one.kill()
        process.communicate()


def told(logs: Path) -> list[str]:
    """What the processes said on standard error, rank after rank."""
    return [
        file.read_text(encoding="utf-8") for file in sorted(logs.rglob("stderr.log"), key=lambda file: file.parent.name)
    ]


def finish(process: subprocess.Popen, logs: Path) -> None:
    _, words = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, "\n".join([words[-2000:], *told(logs)])


@pytest.fixture(scope="module")
def alone() -> dict:
    return {name: train(*case, ALONE) for name, case in CASES.items()}


@pytest.fixture(scope="module", params=[2, 3])
def found(request, tmp_path_factory) -> dict:
    """What 2 or 3 processes found, by sharding and case."""
    ranks, out = request.param, tmp_path_factory.mktemp("found")
    with launched(ranks, JOB, "steps", out, logs=out / "logs") as process:
        finish(process, out / "logs")
    return {
        (sharding, name): [torch.load(out / f"{sharding}, {name}, rank {rank}.pt") for rank in range(ranks)]
        for sharding in KINDS
        for name in CASES
    }


@pytest.mark.parametrize("sharding", KINDS)
def test_steps_are_those_of_one_process(alone, found, sharding):
    for name, (figures, state, _, parameters) in alone.items():
        ranks = found[sharding, name]
        tolerance = TOLERANCE[name.split()[-1]]
        assert (min(ranks[-1][2]) == 0) == (len(ranks) == 3), "a rank without masked patches is met"
        kept = [rank[3] for rank in ranks]
        assert sum(kept) == parameters if sharding == "fsdp" else kept == [parameters] * len(ranks)
        for one, other in zip(figures, ranks[0][0], strict=True):
            assert other == pytest.approx(one, rel=tolerance, abs=tolerance / 10), name
        for key, tensor in state.items():
            other = ranks[0][1][key]
            assert all(torch.equal(other, rank[1][key]) for rank in ranks), f"{name}: {key} differs between ranks"
            if "attn.qkv.bias" in key:  # that of the keys has no gradient but noise
                tensor, other = (torch.cat(t.chunk(3)[::2]) for t in (tensor, other))
            least = 1e-8 if ".bias." in key else 0  # moments near 0 of a bias: rounding of sums that cancel
            assert (tensor - other).norm() <= tolerance * tensor.norm() + least, f"{name}: {key}"


def steps_of(out: Path) -> list[dict]:
    lines = [line for line in read_metrics(out / "metrics.jsonl") if "monitor" not in line]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]


TRAINED = {"batch_size": 12, "steps": 6, "monitor": {"every": 3, "images": 16, "patience": 99}}


@pytest.fixture(scope="module")
def values(tiny) -> dict:
    """As one process only without stochastic depth, which draws among each rank's own samples."""
    ssl = tiny["ssl"] | {"guides": {"sex": "remove", "age": "keep"}, "guide_ramp_steps": 2, "guide_hidden": 8}
    return tiny | TRAINED | {"vit": tiny["vit"] | {"drop_path": 0.0}, "schedule": {"length": 6}, "ssl": ssl}


@pytest.fixture(scope="module")
def whole(corpus, values, tmp_path_factory) -> Path:
    """A run of one process."""
    out = tmp_path_factory.mktemp("whole") / "run"
    pretrain(corpus, out, validate(PretrainConfig, values), device="cpu", workers=0)
    return out


@pytest.mark.parametrize("sharding", KINDS)
def test_a_run_goes_on_with_another_number_of_processes(corpus, values, whole, tmp_path, sharding):
    out = tmp_path / "run"

    def go_on(steps, ranks):
        config = tmp_path / f"{steps}.yaml"
        config.write_text(yaml.safe_dump(values | {"steps": steps, "sharding": sharding}), encoding="utf-8")
        command = ["pretrain", corpus.path, "--out", out, "--preset", config, "--device", "cpu", "--fork"]
        with launched(ranks, "-m", "raddino", *command, logs=tmp_path / f"logs-{steps}") as process:
            finish(process, tmp_path / f"logs-{steps}")
        words = told(tmp_path / f"logs-{steps}")
        assert "pretrain on" in words[0]
        assert set(words[1:]) == {""}

    go_on(2, ranks=2)
    pretrain(corpus, out, validate(PretrainConfig, values | {"steps": 4}), device="cpu", workers=0, fork=True)
    go_on(6, ranks=3)
    assert steps_of(out) == [pytest.approx(line, rel=1e-4) for line in steps_of(whole)]
    alike = (whole / "config.yaml").read_text(encoding="utf-8").replace("sharding: none", f"sharding: {sharding}")
    assert (out / "config.yaml").read_text(encoding="utf-8") == alike
    assert '"processes": 3' in (out / "environment.json").read_text(encoding="utf-8")
    first, second = (load_file(run / "encoder/model.safetensors") for run in (whole, out))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-5)


def cramped(ranks, corpus, values, tmp_path, free, monkeypatch, *options) -> list[str]:
    """A run on machines with so much memory, in ``tmp_path/run``; what its processes said."""
    monkeypatch.setenv("FREE", str(int(free)))
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    command = ["pretrain", corpus.path, "--out", tmp_path / "run", "--preset", tmp_path / "preset.yaml", *options]
    logs = tmp_path / f"logs-{ranks}-{len(options)}"
    with launched(ranks, JOB, "cramped", *command, "--device", "cpu", "--workers", "0", logs=logs) as process:
        finish(process, logs)
    return told(logs)


def test_several_are_made_to_fit_by_sharing_weights_out(corpus, values, whole, tmp_path, monkeypatch):
    for name, value in (("PROCESS", 0), ("LEAN_SLACK", memory.SLACK)):
        monkeypatch.setattr(memory, name, value)
    config, two = validate(PretrainConfig, values), memory.Room("cpu", False, 0, 2)
    lean = config.model_copy(update={"activation_checkpointing": True})
    shared = lean.model_copy(update={"sharding": "fsdp"})
    free = two.needed(lean) + two.needed(shared)  # of both processes together
    words = cramped(2, corpus, values, tmp_path, free, monkeypatch, "--fit")
    assert re.match(r"fit: .* activation_checkpointing=true .* and sharding=fsdp \(.*GB\n", words[0])
    assert [one.count("shares weights out") for one in words] == [1, 1]
    written = yaml.safe_load((tmp_path / "run/config.yaml").read_text(encoding="utf-8"))
    assert (written["sharding"], written["activation_checkpointing"], written["accumulate"]) == ("fsdp", True, 1)
    assert steps_of(tmp_path / "run") == [pytest.approx(line, rel=1e-4) for line in steps_of(whole)]
    pretrain(corpus, tmp_path / "run", config, device="cpu", workers=0, fit=True)


def test_one_process_of_torchrun_shares_out_if_asked(corpus, values, whole, tmp_path, monkeypatch):
    """As ``make gpu`` tries it on a machine with one GPU."""
    asked = values | {"sharding": "fsdp"}
    (words,) = cramped(1, corpus, asked, tmp_path, 10**12, monkeypatch)
    assert words.count("shares weights out") == 1
    assert steps_of(tmp_path / "run") == [pytest.approx(line, rel=1e-4) for line in steps_of(whole)]
    first, second = (load_file(run / "encoder/model.safetensors") for run in (whole, tmp_path / "run"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-5)


ENDLESS = {"steps": 10**6, "checkpoint_every": 10**6, "monitor": {"every": 10**5, "images": 16, "patience": 99}}


@contextmanager
def running(ranks: int, corpus, values, tmp_path: Path) -> Iterator[tuple[subprocess.Popen, dict[int, psutil.Process]]]:
    """A ``torchrun`` of the command, slow to save, that has trained some steps, and its processes by rank."""
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(values | ENDLESS | {"schedule": {}}), encoding="utf-8")
    command = ["pretrain", corpus.path, "--out", tmp_path / "run", "--preset", tmp_path / "preset.yaml"]
    command += ["--device", "cpu", "--workers", "0"]
    with launched(ranks, JOB, "slow", *command, logs=tmp_path / "logs") as process:
        end = time.monotonic() + PATIENCE
        while len(read_metrics(tmp_path / "run/metrics.jsonl")) < 3:
            assert process.poll() is None, told(tmp_path / "logs")
            assert time.monotonic() < end, "no steps were done"
            time.sleep(0.05)
        yield process, {int(one.environ()["RANK"]): one for one in psutil.Process(process.pid).children()}


@pytest.mark.parametrize(
    ("number", "everywhere", "status"),
    [(signal.SIGTERM, False, 130), (signal.SIGTERM, True, None), (signal.SIGUSR1, False, REQUEUE)],
)
def test_a_signal_stops_all_after_the_same_step(corpus, values, tmp_path, number, everywhere, status):
    with running(2, corpus, values, tmp_path) as (process, by_rank):
        for one in [by_rank[0], process, by_rank[1]] if everywhere else [by_rank[1]]:
            one.send_signal(number)
        _, report = process.communicate(timeout=PATIENCE)
    if status:
        assert re.search(rf"exitcode\s*: {status}\b", report)
    done = latest_step(tmp_path / "run/checkpoints")
    assert done is not None
    assert read_metrics(tmp_path / "run/metrics.jsonl")[-1]["step"] == done - 1
    words = told(tmp_path / "logs")
    assert words[0].count(f"stopped after step {done}; the same command continues from there") == 1
    assert "stop" not in words[1]
    assert "error" not in "".join(words)
    assert "before the checkpoint" not in words[1]
    assert "Traceback" not in "".join(words)


@pytest.mark.parametrize("killed", [0, 2])
def test_a_killed_process_ends_the_others_with_one_line(corpus, values, tmp_path, killed):
    with running(3, corpus, values, tmp_path) as (process, by_rank):
        begun = time.monotonic()
        by_rank[killed].kill()
        process.wait(PATIENCE)
        psutil.wait_procs(by_rank.values(), PATIENCE)
        assert time.monotonic() - begun < 60
    words = "".join(told(tmp_path / "logs"))
    assert words.count("error: another process of this run has died or hangs (killed, or out of memory)") == 1
    assert words.count("error:") == 1
    assert "Traceback" not in words


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_rank_that_fails_is_not_ended_before_its_line_is_out(ranks):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(RaddinoError), _stop_signal(DataParallel(0, ranks)):
            raise RaddinoError("lost")
        assert (signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]) == (ranks == 1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("job", "changes", "match"),
    [
        ("damaged", {}, "error: shard x is damaged$"),
        ("poisoned", {}, r"error: step 0: .*loss.* is not a finite number; batch ids .* and 4 more in metrics\.jsonl"),
        (
            "full",
            {"checkpoint_every": 2},
            r"error: .*step_2 cannot be written \(No space left on device\)$",
        ),
        ("command", {"batch_size": 7}, "error: a micro-batch of 7 images .* cannot be shared evenly by 2 processes"),
    ],
)
def test_what_fails_in_a_process_is_one_line(corpus, values, tmp_path, job, changes, match):
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    command = ["pretrain", corpus.path, "--out", tmp_path / "run", "--preset", tmp_path / "preset.yaml"]
    with launched(2, JOB, job, *command, "--device", "cpu", "--workers", "0", logs=tmp_path / "logs") as process:
        process.wait(PATIENCE)
    lines = [
        line for words in told(tmp_path / "logs") for line in words.splitlines() if not line.startswith("pretrain")
    ]
    assert len(lines) == 1, lines
    assert re.search(match, lines[0])
    if job == "poisoned":
        assert len(read_metrics(tmp_path / "run/metrics.jsonl")[-1]["ids"]) == 12


@pytest.mark.parametrize(("batch_size", "accumulate", "ranks"), [(8, 1, 3), (8, 2, 8), (7, 1, 2), (4, 1, 8)])
def test_a_batch_that_cannot_be_shared_is_refused(batch_size, accumulate, ranks):
    with pytest.raises(ConfigError, match=f"cannot be shared evenly by {ranks} processes"):
        DataParallel(0, ranks).check(batch_size, accumulate)
    DataParallel(0, ranks).check(ranks * accumulate, accumulate)


@pytest.mark.parametrize("ranks", [2, 4])
def test_stochastic_depth_keeps_the_same_share_on_each_rank_drawn_apart(ranks):
    def kept(rank, ranks):
        generator = DataParallel(rank, ranks).generator(2**62 + 1)
        return Kept([(32 // ranks, 1), (64 // ranks, 1)], 0.25, generator, torch.device("cpu"))

    shares = [kept(rank, ranks) for rank in range(ranks)]
    assert sum(len(share.rows) for share in shares) == len(kept(0, 1).rows) == 72
    assert len({tuple(share.rows.tolist()) for share in shares}) == ranks
    assert ALONE.generator(7).initial_seed() == 7


def test_order_of_many_ranks_is_that_of_one():
    """A million images on 64 ranks, resumed on 48: each image once in each pass."""
    images, micro, changed, last = 1_000_000, 1920, 300, 1042
    parts = []
    for start, stop, ranks in ((0, changed, 64), (changed, last, 48)):
        shares = [Positions(micro, start, stop, rank, ranks) for rank in range(ranks)]
        assert {len(one) for share in shares for one in share} == {micro // ranks}
        parts += [np.array(positions).ravel() for positions in zip(*shares, strict=True)]
    positions = np.concatenate(parts)
    np.testing.assert_array_equal(positions, np.arange(last * micro))
    order = Order(np.arange(images), np.full(images, "a"), {}, seed=5)
    rows = np.fromiter(map(order, positions), dtype=np.int64)
    for begin in (0, images):
        assert np.bincount(rows[begin : begin + images]).tolist() == [1] * images


@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_shares_of_masks_and_plans_make_up_the_whole(ranks):
    views, size, number = ViewsConfig(global_size=32, local_size=16), 6, 7
    collate = Collate(views, 3, size, (4, 4), masked=True)

    def batch(rank, ranks):
        (positions,) = Positions(size, number, number + 1, rank, ranks)
        return collate(
            [
                (p, torch.full((40, 40), p % 256).byte(), ViewPlan.draw(views, 40, 40, 3, p), torch.full((3, 2), p))
                for p in positions
            ]
        )

    whole, shares = batch(0, 1), [batch(rank, ranks) for rank in range(ranks)]
    assert whole.masks.any()
    for half in (0, 1):
        parts = [share.masks.unflatten(0, (2, -1))[half] for share in shares]
        assert torch.equal(torch.cat(parts), whole.masks.unflatten(0, (2, -1))[half])
    assert torch.equal(torch.cat([share.images for share in shares]), whole.images)
    assert torch.equal(torch.cat([share.plan.boxes for share in shares]), whole.plan.boxes)
    assert torch.equal(torch.cat([share.targets for share in shares]), whole.targets)
    assert whole.targets[:, 0, 0].tolist() == list(range(size * number, size * (number + 1)))
