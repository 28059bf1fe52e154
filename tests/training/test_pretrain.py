"""Whole runs: resume to the bit, whatever stops them, and refusal of what cannot be continued."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from raddino.config import validate
from raddino.corpus.combine import combine
from raddino.encoders.load import load_encoder
from raddino.errors import ConfigError, RaddinoError
from raddino.files import DRAFTS
from raddino.ssl import SelfDistillation
from raddino.training.checkpoint import latest_step
from raddino.training.loader import Order, make_views
from raddino.training.metrics_log import read_metrics
from raddino.training.pretrain import PretrainConfig, pretrain

TINY_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8, "image_size": 32}
CLOCK = ("images_per_second", "data_wait", "save_wait")


def run(corpus, out, values, **options) -> Path:
    return pretrain(corpus, out, validate(PretrainConfig, values), device="cpu", **{"workers": 0} | options)


def figures(out: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_metrics(out / "metrics.jsonl")]


def same_weights(a: Path, b: Path) -> bool:
    first, second = load_file(a / "encoder/model.safetensors"), load_file(b / "encoder/model.safetensors")
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole(corpus, tiny, tmp_path_factory):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(corpus, out, tiny)
    return out


def test_what_a_run_leaves(whole, corpus):
    steps = [line for line in read_metrics(whole / "metrics.jsonl") if "monitor" not in line]
    looks = [line for line in read_metrics(whole / "metrics.jsonl") if "monitor" in line]
    assert [line["step"] for line in steps] == list(range(8))
    assert [line["step"] for line in looks] == [0, 4, 7]
    for key in ("dino_local", "dino_global", "koleo", "ibot", "lr", "momentum", "grad_norm_backbone", *CLOCK):
        assert key in steps[0]
    assert {"effective_rank", "mean_cosine", "student_entropy", "teacher_entropy", "verdict"} <= set(looks[0])
    assert latest_step(whole / "checkpoints") == 8
    environment = json.loads((whole / "environment.json").read_text(encoding="utf-8"))
    assert environment["corpus"]["synthetic"] is True
    initial, trained = load_encoder(str(whole / "initial")), load_encoder(str(whole / "encoder"))
    assert trained.provenance.sources == ["synthetic"]
    assert initial.provenance.sources == []
    assert initial.fingerprint != trained.fingerprint


def test_only_the_chosen_splits_are_seen(whole, corpus):
    environment = json.loads((whole / "environment.json").read_text(encoding="utf-8"))
    assert environment["corpus"]["images"] == len(corpus.rows(split="train")) < len(corpus)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(whole, corpus, tiny, tmp_path, workers):
    run(corpus, tmp_path / "run", tiny, workers=workers)
    assert same_weights(whole, tmp_path / "run")
    assert figures(whole) == figures(tmp_path / "run")


def test_an_interrupted_run_continues_to_the_same_bits(whole, corpus, tiny, tmp_path, monkeypatch):
    real = SelfDistillation.update_teacher
    calls = []

    def dies(self, momentum):
        calls.append(1)
        if len(calls) == 6:
            raise MemoryError
        real(self, momentum)

    monkeypatch.setattr(SelfDistillation, "update_teacher", dies)
    with pytest.raises(MemoryError):
        run(corpus, tmp_path / "run", tiny)
    monkeypatch.undo()
    assert latest_step(tmp_path / "run/checkpoints") == 3
    (tmp_path / f"run/checkpoints/{DRAFTS}/left/new").mkdir(parents=True)
    with (tmp_path / "run/metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "lo')
    run(corpus, tmp_path / "run", tiny)
    assert same_weights(whole, tmp_path / "run")
    assert figures(whole) == figures(tmp_path / "run")


def command(corpus, tmp_path, values) -> list[str]:
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return [
        sys.executable, "-m", "raddino.cli", "pretrain", str(corpus.path), "--out", str(tmp_path / "run"),
        "--preset", str(tmp_path / "preset.yaml"), "--device", "cpu", "--workers", "1",
    ]  # fmt: skip


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "the run did not get that far"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_command_continues_by_itself(corpus, tiny, tmp_path, number):
    values = tiny | {"steps": 40, "checkpoint_every": 5}
    run(corpus, tmp_path / "reference", values)
    call = command(corpus, tmp_path, values)
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(call, stderr=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=environment)
    wait_for(lambda: (latest_step(tmp_path / "run/checkpoints") or 0) >= 5, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    if number == signal.SIGINT:
        assert "the same command continues" in errors
        assert "Traceback" not in errors
    done = latest_step(tmp_path / "run/checkpoints")
    assert 0 < done < 40
    subprocess.run(call, check=True, capture_output=True, env=environment, timeout=120)
    assert same_weights(tmp_path / "reference", tmp_path / "run")
    assert figures(tmp_path / "reference") == figures(tmp_path / "run")
    assert (tmp_path / "run/curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_changed_config_is_refused_with_its_diff_unless_forked(whole, corpus, tiny, tmp_path):
    values = tiny | {"steps": 4}
    run(corpus, tmp_path / "run", values)
    changed = values | {"steps": 6, "schedule": {"lr": 5e-4}}
    with pytest.raises(ConfigError, match=r"schedule\.lr: 0\.001 -> 0\.0005; steps: 4 -> 6.*--fork"):
        run(corpus, tmp_path / "run", changed)
    run(corpus, tmp_path / "run", changed, fork=True)
    assert latest_step(tmp_path / "run/checkpoints") == 6
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text(encoding="utf-8"))["schedule"]["lr"] == 5e-4


def test_a_run_stopped_inside_its_schedule_goes_on_as_if_it_had_not(whole, corpus, tiny, tmp_path):
    schedule = {"schedule": {"length": tiny["steps"]}}
    run(corpus, tmp_path / "run", tiny | schedule | {"steps": 5})
    run(corpus, tmp_path / "run", tiny | schedule | {"steps": 5})  # finished: left as it is
    assert latest_step(tmp_path / "run/checkpoints") == 5
    values = [line["lr"] for line in figures(whole) if "lr" in line]
    assert [line["lr"] for line in figures(tmp_path / "run") if "lr" in line] == values[:5]
    with pytest.raises(ConfigError, match="steps: 5 -> 8"):
        run(corpus, tmp_path / "run", tiny | schedule)
    run(corpus, tmp_path / "run", tiny | schedule, fork=True)
    assert same_weights(tmp_path / "run", whole)
    run(corpus, tmp_path / "shorter", tiny | {"steps": 5})
    assert not same_weights(tmp_path / "run", tmp_path / "shorter")


def test_a_run_from_before_its_settings_continues(corpus, tiny, tmp_path):
    """A config that lacks all that has its default; but not what differs from it."""
    run(corpus, tmp_path / "run", tiny)
    path = tmp_path / "run/config.yaml"

    def without(values: dict, defaults: dict) -> dict:
        return {
            key: without(value, defaults[key]) if isinstance(value, dict) else value
            for key, value in values.items()
            if value != defaults[key]
        }

    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    old = without(told, json.loads(PretrainConfig().model_dump_json()))
    assert "schedule" not in old
    path.write_text(yaml.safe_dump(old), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"schedule\.length: None -> 9"):
        run(corpus, tmp_path / "run", tiny | {"schedule": {"length": 9}})
    del old["ssl"]["centering"]
    path.write_text(yaml.safe_dump(old), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"ssl\.centering: softmax -> sinkhorn_knopp"):
        run(corpus, tmp_path / "run", tiny)
    path.write_text(yaml.safe_dump(old | {"ssl": told["ssl"]}), encoding="utf-8")
    run(corpus, tmp_path / "run", tiny)
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == told


def test_a_run_killed_before_its_last_export_exports_on_the_next_call(corpus, tiny, tmp_path):
    out = tmp_path / "run"
    run(corpus, out, tiny | {"steps": 2})
    weights = (out / "encoder/model.safetensors").read_bytes()
    shutil.rmtree(out / "encoder")
    run(corpus, out, tiny | {"steps": 2})
    assert (out / "encoder/model.safetensors").read_bytes() == weights


def test_a_run_killed_before_its_config_was_written_starts(corpus, tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/environment.json").write_text("{}", encoding="utf-8")
    run(corpus, tmp_path / "run", tiny | {"steps": 1})
    assert latest_step(tmp_path / "run/checkpoints") == 1


def test_a_refused_fork_leaves_the_run_as_it_was(corpus, tiny, tmp_path):
    values = tiny | {"steps": 3}
    run(corpus, tmp_path / "run", values)
    with pytest.raises(ConfigError, match="has done 3 steps"):
        run(corpus, tmp_path / "run", values | {"steps": 2}, fork=True)
    run(corpus, tmp_path / "run", values)


def test_two_processes_do_not_share_a_run(corpus, tiny, tmp_path):
    (tmp_path / "run").mkdir()
    with (tmp_path / "run/.lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RaddinoError, match="another process trains"):
            run(corpus, tmp_path / "run", tiny)


def test_a_finished_run_is_left_as_it_is(whole, corpus, tiny):
    before = (whole / "encoder/model.safetensors").read_bytes()
    run(corpus, whole, tiny)
    assert (whole / "encoder/model.safetensors").read_bytes() == before


def test_the_views_of_one_micro_batch_lie_in_memory_at_a_time(corpus, tiny, tmp_path, monkeypatch):
    made, alive = [], []

    def watched(*args):
        alive.append(sum(one() is not None for one in made))
        views = make_views(*args)
        made.append(weakref.ref(views))
        return views

    monkeypatch.setattr("raddino.training.loop.make_views", watched)
    run(corpus, tmp_path / "run", tiny | {"accumulate": 2, "steps": 3})
    assert alive == [0] * 6


def test_accumulation_takes_the_same_images_in_the_same_number_of_steps(corpus, tiny, tmp_path):
    run(corpus, tmp_path / "run", tiny | {"accumulate": 2, "steps": 3})
    assert [line["samples"] for line in read_metrics(tmp_path / "run/metrics.jsonl") if "samples" in line] == [
        8,
        16,
        24,
    ]


def test_not_a_number_stops_with_step_term_and_ids(corpus, tiny, tmp_path, monkeypatch):
    real = SelfDistillation.forward

    def poisoned(self, views, temperature, *others):
        losses = real(self, views, temperature, *others)
        if temperature > 0.05:
            losses.ibot = losses.ibot * float("nan")
        return losses

    monkeypatch.setattr(SelfDistillation, "forward", poisoned)
    values = tiny | {"schedule": {"teacher_temperature_steps": 6}}
    with pytest.raises(RaddinoError, match=r"step 2: ibot is not a finite number; batch ids \S+") as stopped:
        run(corpus, tmp_path / "run", values)
    failure = read_metrics(tmp_path / "run/metrics.jsonl")[-1]
    assert failure["failure"] == ["ibot"]
    assert len(failure["ids"]) == 8
    assert set(failure["ids"]) <= set(corpus.manifest["id"])
    assert failure["ids"][0] in str(stopped.value)


def test_starting_from_a_checkpoint_is_starting_from_its_encoder(whole, corpus, tiny, tmp_path):
    for name, init in (("a", whole / "encoder"), ("b", whole / "checkpoints/step_8")):
        run(corpus, tmp_path / name, tiny | {"init": str(init), "steps": 1})
    first, second = (load_file(tmp_path / f"{name}/initial/model.safetensors") for name in ("a", "b"))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=1e-6)


def test_continuing_from_a_backbone_with_heads_warmed_up(whole, corpus, tiny, tmp_path):
    values = tiny | {"init": str(whole / "encoder"), "steps": 2, "schedule": {"freeze_backbone_steps": 1}}
    run(corpus, tmp_path / "run", values)
    start, before = (
        load_file(tmp_path / "run/initial/model.safetensors"),
        load_file(whole / "encoder/model.safetensors"),
    )
    for name, tensor in before.items():
        torch.testing.assert_close(start[name], tensor, rtol=1e-5, atol=1e-6)
    provenance = load_encoder(str(tmp_path / "run/encoder")).provenance
    assert provenance.sources == ["synthetic"]
    with pytest.raises(ConfigError, match=r"vit\.depth=2, the config says 3"):
        run(corpus, tmp_path / "other", values | {"vit": tiny["vit"] | {"depth": 3}})


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"batch_size": 1000}, "too few for batch_size"),
        ({"batch_size": 8, "accumulate": 3}, "does not divide"),
        ({"batch_size": 8, "accumulate": 8}, "at least 2 images"),
        ({"where": "colour == 1"}, "colour"),
        ({"splits": ["trian"]}, "trian"),
        ({"splits": []}, "at least one split"),
        ({"vit": {"num_register_tokens": 2, "patch_size": 8, "image_size": 32}}, "interpolate_antialias=true"),
        ({"init": "absent.pth"}, "no weights at"),
        ({"views": {"global_size": 30, "local_size": 16}}, "no multiple of patch_size"),
        ({"vit": TINY_VIT | {"depth": 10**9}}, r"vit\.depth 1000000000 is more than 1000"),
        ({"vit": TINY_VIT | {"depth": 1000, "embed_dim": 2**16}}, r"needs [\d,]+ GB to train, cpu has"),
        ({"ssl": {"head": {"prototypes": 2**24, "bottleneck": 2**16}}}, r"needs [\d,]+ GB to train, cpu has"),
        ({"vit": TINY_VIT | {"embed_dim": 2**62}}, "no machine holds"),
        ({"vit": TINY_VIT | {"mlp_ratio": 1e300}}, "no machine holds"),
        ({"vit": TINY_VIT | {"image_size": 8 * 10**9}}, r"GB to train|no machine holds"),
        ({"steps": 10**12}, "steps"),
        ({"schedule": {"length": 7}}, r"schedule\.length 7 is shorter than steps 8"),
        ({"schedule": {"warmup_steps": 10**15}}, "warmup_steps"),
        ({"seed": 2**200}, "seed"),
        ({"views": {"global_size": 32, "local_size": 16, "local_views": 10**9}}, "local_views"),
    ],
)
def test_impossible_runs_are_refused(corpus, tiny, tmp_path, values, match):
    with pytest.raises(RaddinoError, match=match):
        run(corpus, tmp_path / "run", tiny | values)
    assert not (tmp_path / "run/metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("file", "text", "match"),
    [
        ("environment.json", "[" * 10_000, "environment.json is damaged"),
        ("environment.json", "[1]", "environment.json is damaged"),
        ("environment.json", '{"corpus": NaN}', "environment.json is damaged"),
        ("environment.json", '{"corpus": 7}', "another config"),
        ("config.yaml", "vit: {depth: 1000000000}", r"vit.*another|another config"),
        ("config.yaml", "7", "config.yaml"),
    ],
)
def test_what_a_foreign_run_says_is_one_line(whole, corpus, tiny, tmp_path, file, text, match):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / file).write_text(text, encoding="utf-8")
    with pytest.raises(RaddinoError, match=match) as refused:
        run(corpus, tmp_path / "run", tiny)
    assert "\n" not in str(refused.value)
    if file == "config.yaml":
        with pytest.raises(RaddinoError) as refused:
            run(corpus, tmp_path / "other", tiny | {"init": str(tmp_path / "run/checkpoints/step_8")})
        assert "\n" not in str(refused.value)


def test_odd_figures_of_a_foreign_run_do_not_end_it(whole, corpus, tiny, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/step_8")
    lines = (tmp_path / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    odd = [json.dumps(json.loads(line) | {"effective_rank": ["x"], "verdict": 7}) for line in lines]
    (tmp_path / "run/metrics.jsonl").write_text("\n".join(odd) + "\n", encoding="utf-8")
    run(corpus, tmp_path / "run", tiny)
    assert same_weights(whole, tmp_path / "run")


def test_a_lock_is_free_after_a_failure_in_the_same_process(corpus, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("raddino.training.pretrain.Monitor", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as failed:
        run(corpus, tmp_path / "run", tiny)
    monkeypatch.undo()
    run(corpus, tmp_path / "run", tiny | {"steps": 8})
    assert failed.traceback


def test_a_foreign_folder_is_not_written_into(corpus, tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="not empty and not a run"):
        run(corpus, tmp_path / "run", tiny)


def test_order_of_samples_is_a_shuffled_pass_each():
    order = Order(np.arange(10) + 5, np.full(10, "a"), {}, seed=4)
    passes = np.array([order(p) for p in range(30)]).reshape(3, 10)
    assert all(sorted(one) == list(range(5, 15)) for one in passes)
    assert not np.array_equal(passes[0], passes[1])


def test_weights_decide_how_often_a_source_is_drawn():
    rows, sources = np.arange(30), np.repeat(["a", "b", "c"], [10, 16, 4])
    order = Order(rows, sources, {"a": 2, "b": 0.25}, seed=4)
    assert len(order) == 20 + 4 + 4
    drawn = np.array([order(p) for p in range(4 * 28)]).reshape(4, 28)
    for one in drawn:
        assert np.bincount(np.searchsorted([10, 26], one, side="right")).tolist() == [20, 4, 4]
        assert set(np.bincount(one, minlength=30)[:10]) == {2}
    assert np.bincount(drawn.ravel(), minlength=30).tolist() == [8] * 10 + [1] * 16 + [4] * 4
    shuffled = np.random.default_rng(0).permutation(4 * 28)
    assert [order(p) for p in shuffled] == drawn.ravel()[shuffled].tolist()


@pytest.mark.parametrize(
    "damage",
    [b"[1]\n", b'{"a": 1}\n', b"\xff\xfe\n", b'{"step": 1', b'{"step": true}\n', b'{"step": "1"}\n',
     b'{"step": 1, "a": ' + 10_000 * b"[", b'{"step": 1, "a": "' + 2**25 * b"x" + b'"}\n',
     b'{"step": 1' + 10_000 * b"0"],
)  # fmt: skip
def test_a_damaged_line_ends_the_metrics(tmp_path, damage):
    (tmp_path / "m.jsonl").write_bytes(b'{"step": 0}\n' + damage)
    assert read_metrics(tmp_path / "m.jsonl") == [{"step": 0}]


def test_a_weighted_combination_trains_continues_and_is_not_mixed_up(corpus, tiny, tmp_path):
    source = corpus.manifest["source"][0]
    double = combine([corpus], weights={source: 2})
    run(double, tmp_path / "whole", tiny)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts/checkpoints/step_8")
    with pytest.raises(ConfigError, match=rf"corpus\.weights\.{source}: 2 -> 3"):
        run(combine([corpus], weights={source: 3}), tmp_path / "parts", tiny)
    run(double, tmp_path / "parts", tiny)
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")
    assert same_weights(tmp_path / "parts", tmp_path / "whole")
    provenance = json.loads((tmp_path / "whole/encoder/raddino.json").read_text(encoding="utf-8"))["provenance"]
    assert provenance["corpora"] == {corpus.fingerprint: ["train"]}
    assert json.loads((tmp_path / "whole/environment.json").read_text(encoding="utf-8"))["corpus"]["weights"] == {
        source: 2
    }


def test_a_run_from_before_fractions_continues(corpus, tiny, tmp_path):
    run(corpus, tmp_path / "run", tiny)
    path = tmp_path / "run/config.yaml"
    path.write_text(
        "".join(line for line in path.read_text(encoding="utf-8").splitlines(True) if not line.startswith("fraction")),
        encoding="utf-8",
    )
    run(corpus, tmp_path / "run", tiny)
    with pytest.raises(ConfigError, match=r"fraction: 1\.0 -> 0\.9"):
        run(corpus, tmp_path / "run", tiny | {"fraction": 0.9})
