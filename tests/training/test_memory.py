"""What is free, what a step needs, and what is changed where it does not fit."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from raddino.errors import ConfigError
from raddino.ssl.gram import GramConfig
from raddino.training import memory
from raddino.training.loop import Loop
from raddino.training.memory import Room, advice, as_recorded, fit, free_of_machine, shortage
from raddino.training.parallel import ALONE
from raddino.training.pretrain import PretrainConfig, pretrain
from raddino.vit import VisionTransformer

PLENTY = Room("cpu", False, 10**12)


@pytest.fixture
def config(tiny) -> PretrainConfig:
    """A deep net, whose activations outweigh its weights."""
    vit = {**tiny["vit"], "depth": 8, "drop_path": 0.0}
    return PretrainConfig(**{**tiny, "vit": vit, "batch_size": 16, "accumulate": 1})


@pytest.fixture(autouse=True)
def small_processes(monkeypatch):
    """Of the tiny nets of these tests the process itself would be most, and the heap keeps little."""
    monkeypatch.setattr(memory, "PROCESS", 0)
    monkeypatch.setattr(memory, "LEAN_SLACK", memory.SLACK)


def needs(config, **values) -> int:
    return int(PLENTY.needed(config.model_copy(update=values)))


def room(free, ranks=1) -> Room:
    return replace(PLENTY, free=int(free), ranks=ranks)


def test_what_fits_is_left_alone(config, capsys):
    for change in (False, True):
        assert fit(config, room(needs(config) + 1), change) is config
    assert capsys.readouterr() == ("", "")
    assert shortage(config, PLENTY) == advice(config, PLENTY) == ""


def test_what_may_not_fit_is_said(config, capsys):
    cost = PLENTY.cost(config)
    assert fit(config, room((cost.peak_bytes + needs(config)) / 2), change=False) is config
    said = capsys.readouterr().err
    assert said.startswith("note: a step needs about 0.0")
    assert said.endswith("which may not be enough: --fit makes it fit\n")


def test_what_cannot_fit_is_refused_with_what_to_change(config):
    lean = needs(config, activation_checkpointing=True)
    with pytest.raises(
        ConfigError, match=r"a step needs about .* cpu has .* free: --fit sets activation_check"
    ) as seen:
        fit(config, room(lean + 1), change=False)
    assert "accumulate" not in str(seen.value)
    with pytest.raises(ConfigError, match=r"accumulate=4 \(micro-batches of 4 images instead of 16, which KoLeo"):
        fit(config, room(needs(config, activation_checkpointing=True, accumulate=4) + 1), change=False)
    with pytest.raises(ConfigError, match="smallest micro-batch does not fit either"):
        fit(config, room(1e5), change=False)


def test_checkpointing_comes_first_then_larger_micro_batches_before_smaller(config, capsys):
    ways = [{}, {"activation_checkpointing": True}]
    ways += [{"activation_checkpointing": True, "accumulate": count} for count in (2, 4, 8)]
    needed = [needs(config, **way) for way in ways]
    assert needed == sorted(needed, reverse=True), "each way needs less than the one before"
    for way, most in list(zip(ways, needed, strict=True))[1:]:
        assert fit(config, room(most + 1), change=True) == config.model_copy(update=way)
        said = capsys.readouterr().err
        assert said.startswith("fit: a step needs about")
        assert said.count("\n") == 1
        assert ("accumulate" in said) == ("accumulate" in way)
    with pytest.raises(ConfigError, match="smallest micro-batch does not fit either"):
        fit(config, room(needed[-1] * 0.9), change=True)


def test_the_heap_of_a_cpu_keeps_more_under_checkpointing(config, monkeypatch):
    lean = config.model_copy(update={"activation_checkpointing": True})
    monkeypatch.setattr(memory, "LEAN_SLACK", 2 * memory.SLACK)
    cost = PLENTY.cost(lean)
    assert PLENTY.needed(lean) == pytest.approx(2 * memory.SLACK * cost.peak_bytes + memory.SAVED * cost.state_bytes)
    gpu = Room("cuda", True, 0)
    assert gpu.needed(lean) == pytest.approx(memory.SLACK * gpu.cost(lean).peak_bytes)


def test_ranks_share_a_micro_batch_evenly(config):
    """A micro-batch of 2 images cannot be shared by 4, and one of 4 gives each rank 1."""
    four = room(0, ranks=4)
    assert [way.accumulate for way in memory._ways(config, four.ranks)] == [1, 1, 1, 2, 4]
    cost, alone = four.cost(config), PLENTY.cost(config.model_copy(update={"batch_size": 4}))
    assert cost == alone


def test_the_neediest_rank_decides(config, monkeypatch):
    monkeypatch.setattr(memory, "all_max", lambda own: torch.full_like(own, 2))
    assert fit(config, PLENTY, change=True).accumulate == 2


def test_what_a_run_chose_is_kept(config):
    chosen = as_recorded(config, {"activation_checkpointing": True, "accumulate": 4, "steps": 99}, ALONE)
    assert chosen == config.model_copy(update={"activation_checkpointing": True, "accumulate": 4})
    assert as_recorded(config, {}, ALONE) == config
    assert type(chosen.activation_checkpointing) is bool


@pytest.mark.parametrize("broken", [{"accumulate": "many"}, {"accumulate": [1]}, {"activation_checkpointing": None}])
def test_a_damaged_record_changes_nothing(config, broken):
    assert as_recorded(config, broken, ALONE) == config


def test_a_record_that_is_not_possible_is_refused(config):
    with pytest.raises(ConfigError, match="accumulate 3 does not divide batch_size 16"):
        as_recorded(config, {"accumulate": 3}, ALONE)


def machine(root: Path, meminfo: int, membership: str, groups: dict[str, dict[str, str]]) -> Path:
    files = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:   {meminfo} kB\n", "proc/self/cgroup": membership}
    files |= {f"sys/fs/cgroup/{group}/{name}": text for group, all_ in groups.items() for name, text in all_.items()}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")
    return root


V2 = {"memory.max": "5000000\n", "memory.current": "3000000\n", "memory.stat": "anon 7\ninactive_file 1000\n"}
V1 = {"memory.limit_in_bytes": "4000000", "memory.usage_in_bytes": "1000000", "memory.stat": "total_inactive_file 5\n"}


@pytest.mark.parametrize(
    ("membership", "groups", "free"),
    [
        ("0::/\n", {}, 9_216_000),
        ("0::/\n", {".": V2}, 2_001_000),
        ("0::/job/step\n", {"job": V2}, 2_001_000),
        ("0::/job/step\n", {"job": V2 | {"memory.max": "max\n"}, "job/step": V2 | {"memory.max": "3000001"}}, 1_001),
        ("4:memory:/job\n3:cpu:/x\n", {"memory/job": V1}, 3_000_005),
        ("4:cpu,cpuacct:/job\n", {"memory/job": V1}, 9_216_000),
        ("0::/\n", {".": V2 | {"memory.max": "1000"}}, 0),
    ],
)
def test_what_is_free_is_the_least_of_machine_and_groups(tmp_path, membership, groups, free):
    assert free_of_machine(machine(tmp_path, 9000, membership, groups)) == free


def test_a_system_that_does_not_say_has_all_of_its_memory(tmp_path):
    assert free_of_machine(tmp_path) > 2**28
    assert 0 < free_of_machine() <= free_of_machine(tmp_path)


def test_a_run_that_was_made_to_fit_resumes_and_computes_the_same(corpus, tiny, tmp_path, monkeypatch, capsys):
    """Checkpointing alone changes no bit; the same command on a roomier machine goes on with what was chosen."""
    shape = {"vit": {**tiny["vit"], "depth": 6}, "schedule": {"length": 4}}
    config = PretrainConfig(**{**tiny, **shape, "steps": 4, "checkpoint_every": 2})
    pretrain(corpus, tmp_path / "plain", config, device="cpu", workers=0)
    lean = needs(config, activation_checkpointing=True)
    monkeypatch.setattr(memory, "free_of_machine", lambda: lean + 1)
    with pytest.raises(ConfigError, match="--fit sets activation_checkpointing=true"):
        pretrain(corpus, tmp_path / "run", config, device="cpu", workers=0)
    assert not (tmp_path / "run").exists()
    pretrain(corpus, tmp_path / "run", config.model_copy(update={"steps": 2}), device="cpu", workers=0, fit=True)
    assert "fit: a step needs" in capsys.readouterr().err
    written = yaml.safe_load((tmp_path / "run/config.yaml").read_text(encoding="utf-8"))
    assert written["activation_checkpointing"] is True
    assert written["accumulate"] == 1
    monkeypatch.setattr(memory, "free_of_machine", lambda: 10**12)
    pretrain(corpus, tmp_path / "run", config, device="cpu", workers=0, fit=True, fork=True)
    written = yaml.safe_load((tmp_path / "run/config.yaml").read_text(encoding="utf-8"))
    assert written["activation_checkpointing"] is True
    weights = [load_file(tmp_path / name / "encoder/model.safetensors") for name in ("plain", "run")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    with pytest.raises(ConfigError, match="activation_checkpointing: True -> False"):
        pretrain(corpus, tmp_path / "run", config, device="cpu", workers=0)


def test_shared_weights_need_less_and_are_named(config):
    """Of weights, moments, teacher and gradients a rank of four keeps a quarter; whole they are at the start alone."""
    four, shared = room(0, ranks=4), config.model_copy(update={"sharding": "fsdp"})
    cost = four.cost(config)
    kept = (cost.state_bytes + 4 * cost.parameters) / 4
    activations = cost.peak_bytes - cost.state_bytes - 4 * cost.parameters
    assert four.tensors(config) == cost.peak_bytes
    assert four.tensors(shared) == pytest.approx(max(cost.state_bytes, kept + activations))
    assert room(0).tensors(shared) == room(0).tensors(config), "one process shares nothing"
    less = replace(four, free=int(four.needed(config) * 0.95))
    assert "share the weights alone, sharding=fsdp" in advice(config, less)
    assert "sharding=fsdp" not in advice(shared, replace(four, free=int(four.needed(shared) * 0.95)))
    assert "by sharding=fsdp, which needs several" in advice(config, room(needs(config) * 0.95))


def test_several_share_weights_out_before_micro_batches_get_smaller(config, capsys):
    """What keeps the results comes before what does not."""
    config = config.model_copy(update={"batch_size": 256})
    ways = [{}, {"activation_checkpointing": True}, {"activation_checkpointing": True, "sharding": "fsdp"}]
    ways += [ways[-1] | {"accumulate": count} for count in (2, 4, 8)]
    ways = [config.model_copy(update=way) for way in ways]
    four = room(0, ranks=4)
    needed = [int(four.needed(way)) for way in ways]
    assert needed == sorted(set(needed), reverse=True), "each way needs less than the one before"
    for way, most in list(zip(ways, needed, strict=True))[1:]:
        assert fit(config, replace(four, free=most + 1), change=True) == way
        assert ("and sharding=fsdp (the same but" in capsys.readouterr().err) == (way.sharding == "fsdp")
    assert memory._ways(ways[2], 4) == ways[2:] + [
        ways[2].model_copy(update={"accumulate": count}) for count in (16, 32, 64)
    ], "what is set already is no way"
    assert {way.sharding for way in memory._ways(config, 1)} == {"none"}


def test_one_process_is_told_that_others_could_share(config):
    """Only where a share would fit."""
    smallest = config.model_copy(update={"activation_checkpointing": True, "accumulate": 8})
    with pytest.raises(ConfigError, match=r"on more GPUs or machines with sharding=fsdp, or make vit"):
        fit(config, room(needs(smallest) * 0.99), change=True)
    with pytest.raises(ConfigError, match="does not fit either: make vit, "):
        fit(config, room(PLENTY.cost(config).state_bytes * 0.9), change=True)


def test_a_network_that_no_device_holds_is_refused_with_all_that_training_holds(config, monkeypatch):
    """Five of each weight, and of the backbone's a sixth where patches are anchored; at exactly as much it goes on."""
    anchored = config.model_copy(update={"ssl": config.ssl.model_copy(update={"gram": GramConfig(weight=1.0)})})
    backbone = sum(weight.numel() for weight in VisionTransformer(config.vit).parameters())
    for given, held in ((config, 0), (anchored, backbone)):
        held = 4 * (held + 5 * PLENTY.cost(given).parameters)
        for there in (held, held - 1):
            monkeypatch.setattr(memory.os, "sysconf", lambda name, there=there: there if "PHYS" in name else 1)
            if there == held:
                memory.refuse_giant(given, torch.device("cpu"))
            else:
                with pytest.raises(ConfigError, match="GB to train, cpu has"):
                    memory.refuse_giant(given, torch.device("cpu"))


def test_steps_on_a_cpu_keep_the_pages_that_they_free(tiny, corpus, tmp_path, monkeypatch):
    seen, inside = [], []

    @contextmanager
    def told():
        inside.append(True)
        yield
        inside.clear()

    run = Loop.run
    monkeypatch.setattr("raddino.training.pretrain.kept_pages", told)
    monkeypatch.setattr(Loop, "run", lambda *given: seen.append(bool(inside)) or run(*given))
    config = PretrainConfig(**{**tiny, "steps": 1})
    pretrain(corpus, tmp_path / "run", config, device="cpu", workers=0)
    assert (seen, inside) == ([True], [])
