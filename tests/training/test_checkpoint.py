"""Checkpoints: every flipped bit is seen, nothing in them is run, and what is not whole is not there."""

import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from raddino.config import validate
from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError, UnwritableError
from raddino.files import DRAFTS, sha256
from raddino.report.artefacts import read_run
from raddino.ssl import SelfDistillation
from raddino.sums import SUMS, write_sums
from raddino.training import loop
from raddino.training import pretrain as pretraining
from raddino.training.checkpoint import (
    OPTIMIZER,
    TASK,
    Saver,
    Snapshot,
    checkpoint_backbone,
    is_checkpoint,
    latest_step,
    load_checkpoint,
    save_checkpoint,
)
from raddino.training.metrics_log import read_metrics
from raddino.training.optimizer import build_optimizer
from raddino.training.pretrain import PretrainConfig, pretrain


@pytest.fixture(scope="module")
def parts(tiny):
    """A config, its task after a step that touched every weight, and its optimiser."""
    config = validate(PretrainConfig, tiny)
    return config, *trained(config, seed=1)


def trained(config, seed):
    task = SelfDistillation(config.vit, config.ssl).init_weights(torch.Generator().manual_seed(seed))
    optimizer = build_optimizer(task.student, config.optim)
    for parameter in task.student.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    optimizer.step()
    return task, optimizer


@pytest.fixture
def saved(parts, tmp_path) -> Path:
    """``step_1``."""
    save_checkpoint(tmp_path / "checkpoints", 1, Snapshot().take(*parts[1:]), keep=2)
    return tmp_path / "checkpoints/step_1"


@pytest.fixture(scope="module")
def run(corpus, tiny, tmp_path_factory) -> Path:
    """A run of two steps."""
    out = tmp_path_factory.mktemp("run") / "run"
    pretrain(corpus, out, validate(PretrainConfig, tiny | {"steps": 2}), device="cpu", workers=0)
    return out


def load(saved, config):
    task, optimizer = trained(config, seed=2)
    load_checkpoint(saved.parent, 1, task, optimizer)
    return task, optimizer


def test_what_is_loaded_is_what_was_saved(saved, parts):
    config, task, optimizer = parts
    other, moments = load(saved, config)
    for name, tensor in task.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    for mine, theirs in zip(task.student.parameters(), other.student.parameters(), strict=True):
        for key in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(optimizer.state[mine][key], moments.state[theirs][key])
    held = checkpoint_backbone(saved, config.vit).build()
    assert all(torch.equal(a, b) for a, b in zip(held.parameters(), task.teacher.backbone.parameters(), strict=True))


def test_sha256sum_agrees(saved):
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", SUMS], cwd=saved, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.splitlines() == [f"{OPTIMIZER}: OK", f"{TASK}: OK"]


def test_every_flipped_bit_is_seen(saved, parts):
    rng = np.random.default_rng(0)
    for file in sorted(saved.iterdir()):
        whole = file.read_bytes()
        bits = {0, 7, 63, 8 * len(whole) - 1, *rng.integers(8 * len(whole), size=40)}
        for bit in bits if file.name != SUMS else range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            with pytest.raises(RaddinoError, match=r"step_1 cannot be loaded \(damaged.*delete it to continue"):
                load_checkpoint(saved.parent, 1, parts[1], parts[2])
        file.write_bytes(whole)
    load(saved, parts[0])


@pytest.mark.parametrize(
    "harm",
    [
        lambda saved: (saved / TASK).write_bytes((saved / TASK).read_bytes()[:100]),
        lambda saved: (saved / TASK).unlink(),
        lambda saved: (saved / SUMS).unlink(),
        lambda saved: (saved / SUMS).write_bytes(b""),
        lambda saved: (saved / ".metadata").write_bytes(b"planted"),
        lambda saved: (saved / "__0_0.distcp").write_bytes(b"planted"),
        lambda saved: [(saved / TASK).unlink(), os.mkfifo(saved / TASK)],
        lambda saved: [(saved / TASK).unlink(), (saved / TASK).symlink_to("/dev/zero")],
        lambda saved: [(saved / TASK).unlink(), (saved / TASK).symlink_to("nowhere")],
        lambda saved: [(saved / SUMS).unlink(), (saved / SUMS).symlink_to("/dev/zero")],
        lambda saved: [shutil.rmtree(saved), saved.mkdir()],
        lambda saved: [(saved / TASK).unlink(), write_sums(saved)],
    ],
)
def test_another_set_of_files_is_damaged(saved, parts, harm):
    harm(saved)
    with pytest.raises(RaddinoError, match=r"step_1 cannot be loaded \(damaged"):
        load_checkpoint(saved.parent, 1, parts[1], parts[2])
    with pytest.raises(RaddinoError, match=r"step_1 cannot be loaded \(damaged"):
        checkpoint_backbone(saved, parts[0].vit)


@pytest.mark.parametrize(
    "vit", [{"depth": 3}, {"embed_dim": 64}, {"embed_dim": 2**16, "num_heads": 1}, {"mlp_ratio": 512.0}]
)
def test_another_network_is_refused_before_it_is_made(saved, parts, vit):
    shape = parts[0].vit.model_copy(update=vit)
    with pytest.raises(RaddinoError, match=r"step_1 cannot be loaded \(weights do not fit the network"):
        checkpoint_backbone(saved, shape)


def test_a_forged_file_with_true_digests_is_one_line(saved, parts):
    for content in (b"", b"\xff" * 64, (2**60).to_bytes(8, "little") + b"{}", b"\x02" + bytes(7) + b"{}"):
        (saved / TASK).write_bytes(content)
        write_sums(saved)
        with pytest.raises(RaddinoError, match=r"step_1 cannot be loaded \(") as refused:
            load_checkpoint(saved.parent, 1, parts[1], parts[2])
        assert "\n" not in str(refused.value)


def test_only_the_newest_are_kept_and_drafts_do_not_count(parts, tmp_path):
    for name in ("step_abc", "step_", f"{DRAFTS}/x/new"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "step_9").write_text("a file", encoding="utf-8")
    assert latest_step(tmp_path) is None
    for step in (2, 10, 9 + 2):
        save_checkpoint(tmp_path, step, Snapshot().take(*parts[1:]), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_", "step_10", "step_11", "step_9", "step_abc"]
    assert latest_step(tmp_path) == 11


def test_checkpoints_of_every_so_many_steps_stay(parts, tmp_path):
    state = Snapshot().take(*parts[1:])
    for step in range(10, 80, 10):
        save_checkpoint(tmp_path, step, state, keep=2, keep_every=30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_30", "step_60", "step_70"]
    save_checkpoint(tmp_path, 80, state, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step_80"]


def test_what_a_process_killed_after_its_last_save_left_goes_with_the_next_call(corpus, tiny, tmp_path):
    """Before an older checkpoint was removed, and before the folder of unfinished files was."""
    values = validate(PretrainConfig, tiny | {"steps": 6, "checkpoint_every": 2})
    pretrain(corpus, tmp_path / "run", values, device="cpu", workers=0)
    folder = tmp_path / "run/checkpoints"
    before = sorted(path.name for path in folder.iterdir())
    assert before == ["step_4", "step_6"]
    shutil.copytree(folder / "step_4", folder / "step_2")
    (folder / DRAFTS / "left").mkdir(parents=True)
    pretrain(corpus, tmp_path / "run", values, device="cpu", workers=0)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_old_checkpoint_never_stands_half_removed_under_its_name(parts, tmp_path, monkeypatch):
    state = Snapshot().take(*parts[1:])
    save_checkpoint(tmp_path, 1, state, keep=1)

    def killed(path, **options):
        if (path / "old").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, 2, state, keep=1)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir() if path.name != DRAFTS] == ["step_2"]


def test_a_save_does_not_hold_the_training_and_has_the_state_of_its_step(parts, tmp_path):
    task, optimizer = trained(parts[0], seed=3)
    begun, may_write, written = threading.Event(), threading.Event(), {}

    def write(step, state):
        begun.set()
        assert may_write.wait(60)
        written[step] = {name: tensor.clone() for name, tensor in (state.task | state.moments).items()}

    first = {name: tensor.clone() for name, tensor in whole_state(task, optimizer).items()}
    with Saver(write) as saver:
        saver.save(1, task, optimizer)
        assert begun.wait(60)
        optimizer.step()
        task.update_teacher(0.5)
        saver.check()
        assert not written
        second = {name: tensor.clone() for name, tensor in whole_state(task, optimizer).items()}
        threading.Timer(0.1, may_write.set).start()
        saver.save(2, task, optimizer)
        assert list(written) == [1], "the second waits for the first, whose copy it takes over"
        saver.wait()
    for step, expected in ((1, first), (2, second)):
        assert written[step].keys() == expected.keys()
        assert all(torch.equal(written[step][name], tensor) for name, tensor in expected.items())
    assert not all(torch.equal(first[name], second[name]) for name in first)


def whole_state(task, optimizer) -> dict[str, torch.Tensor]:
    moments = {
        f"{name}.{key}": optimizer.state[parameter][key]
        for name, parameter in task.student.named_parameters()
        for key in ("step", "exp_avg", "exp_avg_sq")
    }
    return task.state_dict() | moments


def test_what_a_save_raises_is_raised_at_the_next_look_once(parts):
    def write(step, state):
        raise UnwritableError("full")

    with Saver(write) as saver:
        saver.save(1, *parts[1:])
        wait([saver._running])
        with pytest.raises(UnwritableError, match="full"):
            saver.check()
        saver.check()
        saver.save(2, *parts[1:])
        with pytest.raises(UnwritableError, match="full"):
            saver.save(3, *parts[1:])


def test_a_save_that_has_begun_is_finished_when_the_training_fails(parts):
    written, begun = [], threading.Event()

    def write(step, state):
        begun.set()
        time.sleep(0.2)
        written.append(step)

    def interrupted():
        with Saver(write) as saver:
            saver.save(1, *parts[1:])
            assert begun.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert written == [1]


def test_a_disk_that_is_full_during_a_save_ends_the_run_and_leaves_the_checkpoint_before(
    corpus, tiny, tmp_path, monkeypatch
):
    real_save, real_update, steps, failed = loop.save_checkpoint, SelfDistillation.update_teacher, [], threading.Event()

    def full_at_20(folder, step, *arguments):
        if step == 20:
            failed.set()
            raise UnwritableError(f"{folder}/step_20 cannot be written (No space left on device)")
        real_save(folder, step, *arguments)

    def update(self, momentum):
        steps.append(1)
        assert len(steps) <= 20 or failed.wait(60)
        real_update(self, momentum)

    monkeypatch.setattr(loop, "save_checkpoint", full_at_20)
    monkeypatch.setattr(SelfDistillation, "update_teacher", update)
    values = validate(PretrainConfig, tiny | {"steps": 60, "checkpoint_every": 10})
    with pytest.raises(UnwritableError, match="step_20 cannot be written"):
        pretrain(corpus, tmp_path / "run", values, device="cpu", workers=0)
    assert latest_step(tmp_path / "run/checkpoints") == 10
    assert 20 < len(steps) < 30, "before the next save"


def test_an_encoder_is_that_of_its_checkpoint_while_training_goes_on(corpus, tiny, tmp_path, monkeypatch):
    real_save, real_begin, real_export = loop.save_checkpoint, Saver.save, pretraining.save_encoder
    exported, second_has_begun = {}, threading.Event()

    def begin(self, step, *state):
        if step == 4:
            second_has_begun.set()
        real_begin(self, step, *state)

    def late(*arguments):
        assert second_has_begun.wait(60), "the training waits for the disk"
        time.sleep(0.3)
        real_save(*arguments)

    def export(folder, model, **about):
        exported[about["provenance"].note] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return real_export(folder, model, **about)

    monkeypatch.setattr(Saver, "save", begin)
    monkeypatch.setattr(loop, "save_checkpoint", late)
    monkeypatch.setattr(pretraining, "save_encoder", export)
    monkeypatch.setattr(pretraining, "at_step", lambda record, step, batch: replace(record, note=str(step)))
    values = validate(PretrainConfig, tiny | {"steps": 5, "checkpoint_every": 2, "keep_checkpoints": 9})
    pretrain(corpus, tmp_path / "run", values, device="cpu", workers=0)
    assert exported.keys() == {"0", "2", "4", "5"}
    for step in ("2", "4", "5"):
        state = checkpoint_backbone(tmp_path / "run/checkpoints" / f"step_{step}", values.vit).state
        assert all(torch.equal(exported[step][name], tensor) for name, tensor in state.items())
    waits = [line["save_wait"] for line in read_metrics(tmp_path / "run/metrics.jsonl") if "save_wait" in line]
    assert len(waits) == 5
    assert [wait > 0 for wait in waits] == [False, False, True, False, True]
    assert waits[4] > 0.2, "the second save waits for the first"


def test_files_are_on_the_disk_before_the_folder_gets_its_name(parts, tmp_path, monkeypatch):
    done = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(handle):
        done.append(os.readlink(f"/proc/self/fd/{handle}"))
        real_sync(handle)

    def replace(source, target):
        done.append(f"-> {target}")
        real_replace(source, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    save_checkpoint(tmp_path / "checkpoints", 1, Snapshot().take(*parts[1:]), keep=2)
    named = done.index(f"-> {tmp_path / 'checkpoints/step_1'}")
    assert {TASK, OPTIMIZER, SUMS, "new"} <= {Path(name).name for name in done[:named]}
    assert done[named + 1 :] == [str(tmp_path / "checkpoints")]


def test_a_checkpoint_is_as_readable_as_its_neighbours(saved, parts):
    (saved.parent / "neighbour").touch()
    rights = (saved.parent / "neighbour").stat().st_mode
    assert {file.stat().st_mode for file in saved.iterdir()} == {rights}


class Calls:
    """Makes an empty file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return (os.system, (f"touch '{self.mark}'",))


def planted(kind: str, mark: Path) -> bytes:
    if kind == "memo bomb":
        return b"\x80\x04" + b"r\xff\xff\xff\x7f" + b"."
    if kind == "deep":
        return b"\x80\x04" + b"(" * 100_000 + b"t" * 100_000 + b"."
    return pickle.dumps(Calls(mark))


def in_a_zip(file: Path, content: bytes) -> None:
    """As ``torch.save`` lays a file out."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("kind", ["call", "memo bomb", "deep"])
@pytest.mark.parametrize("digests", ["none", "old", "true"])
def test_nothing_planted_is_run_by_whatever_opens_it(run, corpus, tiny, tmp_path, kind, digests):
    out, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(run, out)
    step, content = out / "checkpoints/step_2", planted(kind, mark)
    (step / ".metadata").write_bytes(content)
    in_a_zip(step / "__0_0.distcp", content)
    if digests == "none":
        (step / SUMS).unlink()
    elif digests == "true":
        for name in (TASK, OPTIMIZER):
            in_a_zip(step / name, content)
        write_sums(step)
    values = tiny | {"steps": 3}
    refused = "earlier version" if digests == "none" else "cannot be loaded"
    with pytest.raises(RaddinoError, match=refused):
        pretrain(corpus, out, validate(PretrainConfig, values), device="cpu", workers=0, fork=True)
    with pytest.raises(RaddinoError, match=refused):
        pretrain(
            corpus, tmp_path / "b", validate(PretrainConfig, values | {"init": str(step)}), device="cpu", workers=0
        )
    with pytest.raises(RaddinoError):
        load_encoder(str(step), device="cpu")
    read_run(out)
    assert not mark.exists()
    if kind == "call":
        pickle.loads(content)
        assert mark.exists()


def test_a_checkpoint_of_pickles_is_refused_with_a_way_on(run, tmp_path):
    old = tmp_path / "run/checkpoints/step_2"
    old.mkdir(parents=True)
    (old / ".metadata").write_bytes(b"")
    assert is_checkpoint(old)
    with pytest.raises(RaddinoError, match=rf"earlier version.*--init {tmp_path}/run/encoder"):
        checkpoint_backbone(old, validate(PretrainConfig, {}).vit)


def test_an_encoder_folder_may_have_a_name_like_a_checkpoint(run, tmp_path):
    shutil.copytree(run / "encoder", tmp_path / "step_3")
    assert not is_checkpoint(tmp_path / "step_3")


def test_modules_that_open_checkpoints_do_not_unpickle():
    root = Path(sys.modules["raddino"].__file__).parent
    unsafe = [
        path.name
        for path in root.rglob("*.py")
        if path.name not in ("wall.py", "cluster.py")  # whose pickles come from their own run's processes
        for line in path.read_text(encoding="utf-8").splitlines()
        if ("torch.load(" in line and "weights_only=True" not in line)
        or "pickle.load" in line
        or "allow_pickle=True" in line
        or "distributed.checkpoint" in line
    ]
    assert unsafe == []


def test_digests_are_of_the_files(saved):
    lines = dict(reversed(line.split("  ")) for line in (saved / SUMS).read_text(encoding="utf-8").splitlines())
    assert lines == {name: sha256(saved / name) for name in (TASK, OPTIMIZER)}
    assert load_file(saved / OPTIMIZER)
