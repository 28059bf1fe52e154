"""``benchmarks/memory_floor.py`` against what the operators of a real step are given and return."""

import re
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raddino.config import load_config
from raddino.ssl import Views
from raddino.training.pretrain import PretrainConfig
from raddino.training.step import train_step
from raddino.views.masks import batch_masks

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = [
    "vit.embed_dim=24", "vit.depth=3", "vit.num_heads=2", "vit.drop_path=0.4", "vit.image_size=28",
    "views.global_size=28", "views.local_size=14", "views.local_views=3", "batch_size=4",
    "ssl.head.prototypes=40", "ssl.head.hidden=32", "ssl.head.bottleneck=16",
]  # fmt: skip
OPTIONS = {
    "plain": [],
    "separate head": ["ssl.ibot_head.prototypes=56", "ssl.ibot_head.hidden=48", "ssl.ibot_head.bottleneck=8"],
    "centred, registers": ["ssl.centering=softmax", "vit.num_register_tokens=2", "vit.interpolate_antialias=true"],
    "gated": ["vit.ffn=swiglu", "vit.drop_path=0"],
}
FEED_FORWARD = "feed-forward: inputs of GELU or gate written, read going back"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(BENCHMARKS))
    yield import_module("pretrain_step")
    sys.path.remove(str(BENCHMARKS))


class Traffic(TorchDispatchMode):
    """Bytes of the tensors that operators are given, and of those that they return, by operator."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.written, self.saved = Counter(), Counter(), Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        self.read[name] += size((args, kwargs))
        self.written[name] += size(out)
        if name in {"gelu_backward", "native_layer_norm_backward"}:
            self.saved[name] += size(args[1])
        return out


def size(tree) -> int:
    """Bytes of all tensors."""
    tensors = [one for one in tree_leaves(tree) if isinstance(one, torch.Tensor)]
    return sum(one.numel() * one.element_size() for one in tensors)


def stepped(benchmark, values):
    """The floor of a step in float32, the student's bytes, and what its operators moved."""
    config = load_config(PretrainConfig, "cpu-smoke", [*SMALL, *values, "precision=fp32"])
    device = torch.device("cpu")
    task, optimizer, at, _ = benchmark.prepared(config, device)
    masks = torch.from_numpy(batch_masks(0, 0, 8, (2, 2), config.views.masks))
    masks[:, 0] = True
    views = Views.build(torch.randn(8, 1, 28, 28), torch.randn(12, 1, 14, 14), masks)
    train_step(task, optimizer, [views], 1, at, 3.0)
    with Traffic() as seen:
        train_step(task, optimizer, [views], 1, at, 3.0)
    parameters = sum(one.numel() for one in task.student.parameters())
    return benchmark.least_bytes(config, 4, len(views.masked_rows), parameters), 4 * parameters, seen, views


@pytest.mark.parametrize("values", OPTIONS.values(), ids=OPTIONS)
def test_no_more_than_operators_move(benchmark, values):
    floor, weights, seen, views = stepped(benchmark, values)
    rows = {"classes": 8, "crops": 20, "masked": len(views.masked_rows)}
    final = 24 * 4 * (2 * (rows["classes"] + rows["masked"]) + 5 * (rows["crops"] + rows["masked"]))
    assert floor["final norm"] == final

    last = 24 * 4 * (rows["crops"] + rows["masked"])
    backward = floor["norms, backward: tokens and gradient read"]
    assert 2 * (seen.saved["native_layer_norm_backward"] - last) == backward
    assert floor["residual gradients: read and written"] == backward
    tokens = seen.read["native_layer_norm"] - last - 24 * 4 * (rows["classes"] + rows["masked"])
    norms = floor["norms: tokens read, normed ones written"]
    gains = 4 * 24 * 2 * (2 * 2 * 3 + 2)
    assert norms == 2 * (tokens - gains) == 2 * floor["residual sums: tokens read"]

    assert floor["clipping: gradients read"] == weights
    step_counters = 4 * 200
    assert 0 <= seen.read["_fused_adamw_"] - 4 * weights < step_counters
    assert floor["AdamW: weights, gradients, moments read; weights, moments written"] == 7 * weights
    assert seen.read["_foreach_lerp_"] == 2 * weights == floor["moving average: teacher read and written"]

    moved = {name: seen.read[name] + seen.written[name] for name in seen.read}
    products = ("mm", "linear", "attention", "view", "expand", "t", "transpose", "permute", "split", "select", "slice")
    others = sum(count for name, count in moved.items() if not any(one in name for one in products))
    assert sum(floor.values()) < others


@pytest.mark.parametrize("name", ["plain", "separate head", "centred, registers"])
def test_what_gelu_keeps(benchmark, name):
    floor, _, seen, views = stepped(benchmark, OPTIONS[name])
    masked = len(views.masked_rows)
    widths = [(32, 20), (48, masked)] if name == "separate head" else [(32, 20 + masked)]
    in_heads = sum(2 * 4 * width * rows for width, rows in widths)
    assert 2 * (seen.saved["gelu_backward"] - in_heads) == floor[FEED_FORWARD]


def test_a_gate_keeps_both_halves(benchmark):
    floor, *_ = stepped(benchmark, OPTIONS["gated"])
    tokens, halves = 8 * 5 + 12 * 2, 2 * 64
    assert floor[FEED_FORWARD] == 2 * 4 * 3 * tokens * halves


def test_heads_targets_and_losses_written_out(benchmark):
    floor, _, _, views = stepped(benchmark, [])
    masked = len(views.masked_rows)
    teacher, student = 8 + masked, 20 + masked
    unit, prototypes = 16 * (2 * teacher + 5 * student), 40 * 16 * 7
    assert floor["heads: inputs of GELU, unit lengths, prototypes"] == 4 * (2 * 2 * 32 * student + unit + prototypes)
    assert floor["targets: logits read, targets written"] == 4 * 40 * teacher * (2 + 4)
    losses = 4 * 40 * (3 * student + 2 * (8 + 4 + masked))
    assert floor["losses: logits and targets read, twice; gradients written"] == losses


def test_half_precision_halves_activations_alone(benchmark):
    full, half = (
        benchmark.least_bytes(load_config(PretrainConfig, "cpu-smoke", [*SMALL, f"precision={one}"]), 4, 9, 1000)
        for one in ("fp32", "bf16")
    )
    for name, count in full.items():
        if name.startswith(("norms", "residual", "feed", "final")):
            assert 2 * half[name] == count
        elif name.startswith(("clipping", "AdamW", "moving")):
            assert half[name] == count
        else:
            assert half[name] < count < 2 * half[name]
    assert half.keys() - full.keys() == {"weights of student and teacher written in the type of products"}
    assert half["weights of student and teacher written in the type of products"] == 1000 * 2 * 2


def test_the_table_adds_up(benchmark, capsys):
    benchmark.print_floor({"one": 2_000_000, "two": 6_000_000}, 1e9, 0.010, 0.024)
    said = capsys.readouterr().out
    assert "| two | 6.0 | 6.00 |" in said
    assert "| memory, at 1.0 GB/s | 8.0 | 8.0 |" in said
    assert "| **floor** | | 18.0 |" in said
    assert said.endswith("| step | | 24.0: 75% of its speed is reached |\n")


def test_the_benchmark_prints_a_floor(benchmark, monkeypatch, capsys):
    memory_floor = import_module("memory_floor")
    monkeypatch.setattr(memory_floor, "TRIAD", 1 << 12)
    monkeypatch.setattr(memory_floor.Triad, "moved", 3 * 4 << 12)
    monkeypatch.setattr(sys, "argv", ["x", "--device", "cpu", "--precision", "fp32", "--floor", "--set", *SMALL])
    benchmark.main()
    said = capsys.readouterr().out
    memory, products, floor = (
        float(re.search(pattern, said)[1])
        for pattern in (r"memory, at .* \| ([\d.]+) \|\n", r"products \| \| ([\d.]+)", r"floor\*\* \| \| ([\d.]+)")
    )
    assert floor == pytest.approx(memory + products, abs=0.11)
    assert re.search(r"fp32: .*images/s.* in matrix products: \d+%", said)
