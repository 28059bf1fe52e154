"""Recomputing changes no bit of a step, compiling no more than rounding; what is compiled is compiled once."""

import os
import shutil
from functools import partial

import pytest
import torch

from raddino import compiler
from raddino.config import load_config
from raddino.errors import ConfigError, RaddinoError
from raddino.ssl import SelfDistillation, Views
from raddino.ssl.guides import Guide
from raddino.training.blocks import compile_parts, decided, fixed_rows, prepare_blocks, recompute_blocks
from raddino.training.pretrain import PretrainConfig, pretrain
from raddino.training.schedule import Schedule
from raddino.training.step import compute_gradients
from raddino.views.masks import batch_masks

GPU, CPU = torch.device("cuda"), torch.device("cpu")
SEPARATE = {"head": {"prototypes": 32, "hidden": 32, "bottleneck": 16},
            "ibot_head": {"prototypes": 24, "hidden": 32, "bottleneck": 16}}  # fmt: skip


def made(config: PretrainConfig, *changes) -> SelfDistillation:
    """A task with the same weights each time, and a guide at its full strength."""
    ssl = config.ssl.model_copy(update={"guide_ramp_steps": 0})
    task = (
        SelfDistillation(config.vit, ssl, [Guide("maker", False, 3)])
        .init_weights(torch.Generator().manual_seed(1))
        .train()
    )
    for change in changes:
        change(task)
    return task


def views(
    config: PretrainConfig, step: int, images: int = 4, rows: int | None = None, device: torch.device = CPU
) -> Views:
    """Of 4 images, with a step's own masks."""
    generator = torch.Generator().manual_seed(step)
    crops, local = (
        torch.randn(n, 1, side, side, generator=generator).to(device) for n, side in ((2 * images, 32), (images, 16))
    )
    masks = torch.from_numpy(batch_masks(0, step, 2 * images, (4, 4), config.views.masks))
    makers = torch.stack([torch.arange(images) % 3, torch.ones(images)], 1)[:, None].to(device)
    return Views.build(crops, local, masks, None, rows, makers)


def gradients(task: SelfDistillation, config: PretrainConfig, *micro_batches: Views) -> list[torch.Tensor | None]:
    """Of the student, with other samples kept by stochastic depth at each call."""
    task.zero_grad()
    values, generator = (
        Schedule(config.schedule, 8)[0],
        torch.Generator().manual_seed(len(micro_batches[0].masked_weights)),
    )
    compute_gradients(task, micro_batches, len(micro_batches), values, config.precision, generator)
    return [weight.grad for weight in task.student.parameters()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_are_the_same_to_the_bit(tiny, precision):
    config = PretrainConfig(**{**tiny, "precision": precision})
    plain, lean = made(config), made(config, recompute_blocks)
    assert list(lean.state_dict()) == list(plain.state_dict())
    found = [gradients(task, config, views(config, 0)) for task in (plain, lean)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
def test_what_is_compiled_computes_the_same(tiny):
    torch._dynamo.reset()
    config = PretrainConfig(**{**tiny, "compile": True})
    compiled = made(config, partial(prepare_blocks, config=config))
    assert list(compiled.state_dict()) == list(made(config).state_dict())
    rows = fixed_rows(config, 4)
    for step in range(2):
        found = gradients(compiled, config, views(config, step, rows=rows))
        for a, b in zip(found, gradients(made(config), config, views(config, step, rows=rows)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.fixture
def dynamo(monkeypatch):
    """``torch.compile`` as it is, but for the compiler behind it, which this takes the place of; and its counters."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo
    torch._dynamo.reset()


@pytest.mark.parametrize("change", [
    {}, {"precision": "bf16"}, {"activation_checkpointing": True}, {"ssl": SEPARATE},
    {"ssl": {**SEPARATE, "gram": {"weight": 1.0}, "centering": "softmax"}}, {"ssl": {**SEPARATE, "ibot_weight": 0}},
], ids=["plain", "bf16", "recomputed", "two heads", "anchored", "no masks"])  # fmt: skip
def test_nothing_is_compiled_after_the_first_step(dynamo, tiny, change):
    """Though each step masks another number of patches; and no graph breaks."""
    config = PretrainConfig(**{**tiny, "batch_size": 4, "compile": True, **change})
    task, rows = made(config, partial(prepare_blocks, config=config)), fixed_rows(config, 4)
    if not config.ssl.ibot_weight:
        config = config.model_copy(update={"views": config.views.model_copy(update={"masks": NO_MASKS})})
    gradients(task, config, views(config, 0, rows=rows))
    graphs = dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs >= 4, "blocks and heads, of student and teacher"
    others = [views(config, step, rows=rows) for step in range(1, 8)]
    assert len({len(one.masked_weights) for one in others}) > 2 or not config.ssl.ibot_weight
    with dynamo.config.patch(error_on_recompile=True):
        for one in others:
            gradients(task, config, one)
    assert dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    assert not dynamo.utils.counters["graph_break"]


NO_MASKS = PretrainConfig().views.masks.model_copy(update={"probability": 0.0})


def test_without_fixed_rows_heads_would_be_compiled_again(dynamo, tiny):
    config = PretrainConfig(**{**tiny, "batch_size": 4, "compile": True})
    task = made(config, compile_parts)
    graphs = []
    for step in range(3):
        gradients(task, config, views(config, step))
        graphs.append(dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] < graphs[-1]


def test_fixed_rows_are_the_most_that_a_rank_can_have(tiny):
    plain = PretrainConfig(**{**tiny, "batch_size": 16, "accumulate": 2})
    assert [fixed_rows(plain.model_copy(update={"compile": value}), 8) for value in ("auto", False)] == [None, None]
    config = plain.model_copy(update={"compile": True})
    for ranks in (1, 2, 4):
        images, seen = 8 // ranks, []
        for step in range(300):
            masks = batch_masks(0, step, 16, (4, 4), config.views.masks).reshape(2, ranks, images, -1)
            seen += masks.sum((0, 2, 3)).tolist()
        assert max(seen) <= fixed_rows(config, images) <= 2 * images * 8
    assert fixed_rows(config, 4) > fixed_rows(config, 8) / 2, "a rank may have the largest masks of all"
    assert fixed_rows(config.model_copy(update={"ssl": config.ssl.model_copy(update={"ibot_weight": 0.0})}), 8) == 0


@pytest.mark.parametrize(("ranks", "more"), [(1, 1.02), (2, 2.0), (8, 3.0)])
def test_how_many_more_rows_than_masked_patches_the_page_says(ranks, more):
    config = load_config(PretrainConfig, "rad-dino-vit-b-518", ["compile=true"])
    masked = sum(batch_masks(0, step, 80, (37, 37), config.views.masks).sum() for step in range(3)) / 3 / ranks
    assert fixed_rows(config, 40 // ranks) / masked == pytest.approx(more, rel=0.05 if ranks > 1 else 0.005)


def test_a_run_gives_the_heads_as_many_rows_at_each_step(corpus, tiny, tmp_path, monkeypatch, dynamo):
    seen, real = [], Views.build

    def build(*arguments):
        made = real(*arguments)
        seen.append((len(made.masked_rows), len(made.masked_weights)))
        return made

    monkeypatch.setattr(Views, "build", build)
    config = PretrainConfig(**{**tiny, "steps": 5, "compile": True, "accumulate": 2})
    pretrain(corpus, tmp_path / "run", config, device="cpu", workers=0)
    steps = seen[-10:]
    assert {rows for rows, _ in steps} == {fixed_rows(config, 4)}
    assert len({masked for _, masked in steps}) > 2
    assert dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize(
    ("device", "asked", "there", "expected"),
    [
        (CPU, "auto", True, False), (CPU, True, False, True), (CPU, False, True, False),
        (GPU, "auto", True, True), (GPU, "auto", False, False), (GPU, True, False, True), (GPU, False, True, False),
    ],
)  # fmt: skip
def test_auto_is_on_a_gpu_beside_a_compiler(monkeypatch, device, asked, there, expected):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if there and name == "gcc" else None)
    assert decided(PretrainConfig(compile=asked), device).compile is expected


def test_a_compiler_that_is_named_is_looked_for_alone(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name if name in ("gcc", "mine") else None)
    for name, there in (("mine", True), ("theirs", False), ("", True)):
        monkeypatch.setenv("CC", name)
        assert compiler.has_c_compiler() is there


def test_cuda_graphs_are_refused_where_they_cannot_be(corpus, tiny, tmp_path, monkeypatch):
    config = PretrainConfig(**tiny, cuda_graphs=True)
    with pytest.raises(ConfigError, match=r"cuda_graphs needs a GPU, and this is to run on cpu: leave it out"):
        pretrain(corpus, tmp_path / "run", config, device="cpu", workers=0)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="install gcc"):
        decided(config, GPU)


@pytest.mark.parametrize(("graphs", "mode"), [(True, "reduce-overhead"), (False, None)])
def test_how_torch_is_asked_to_compile(tiny, monkeypatch, graphs, mode):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: asked.append((call.__self__, options)) or call)
    config = PretrainConfig(**{**tiny, "ssl": SEPARATE, "compile": True, "cuda_graphs": graphs})
    task = made(config, partial(prepare_blocks, config=config))
    both = (task.student, task.teacher)
    parts = [part for net in both for part in (*net.backbone.blocks, net.dino_head, net.ibot_head)]
    assert [part for part, _ in asked] == parts
    assert all(options == {"fullgraph": True, "dynamic": False, "mode": mode} for _, options in asked)


def test_graphs_begin_with_each_micro_batch_and_nothing_is_kept_in_their_memory(tiny, monkeypatch):
    """The memory of a micro-batch's gradients, which is the graphs', is overwritten when the next one begins."""
    config = PretrainConfig(**{**tiny, "compile": True, "cuda_graphs": True})
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    begun, in_graphs = [], []
    task, plain = made(config, partial(prepare_blocks, config=config)), made(config)

    def begin():
        begun.append(len(in_graphs))
        for gradient in in_graphs:
            gradient.fill_(torch.nan)

    def micro_batches():
        for step in range(3):
            yield views(config, step)
            in_graphs.extend(weight.grad for weight in task.parameters() if weight.grad is not None)

    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", begin)
    values = Schedule(config.schedule, 8)[0]
    for one, batches in ((task, micro_batches()), (plain, [views(config, step) for step in range(3)])):
        compute_gradients(one, batches, 3, values, "fp32", torch.Generator().manual_seed(0))
    count = len(list(task.student.parameters()))
    assert begun == [0, count, 2 * count]
    for found, expected in zip(task.student.parameters(), plain.student.parameters(), strict=True):
        assert torch.equal(found.grad, expected.grad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("graphs", [False, True])
def test_compiled_steps_of_a_gpu_are_the_plain_ones(tiny, graphs, lean):
    """Of two micro-batches each, over masks of other sizes; nothing is compiled after the first ones."""
    torch._dynamo.reset()
    values = {"batch_size": 4, "compile": True, "cuda_graphs": graphs, "activation_checkpointing": lean}
    config = PretrainConfig(**{**tiny, **values})
    compiled, plain = made(config).to(GPU), made(config).to(GPU)
    prepare_blocks(compiled, config)
    rows = fixed_rows(config, 4)
    for step in range(0, 10, 2):
        pair = [views(config, one, rows=rows, device=GPU) for one in (step, step + 1)]
        with torch._dynamo.config.patch(error_on_recompile=step > 2):
            found = gradients(compiled, config, *pair)
        for a, b in zip(found, gradients(plain, config, *pair), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_compiler_that_fails_is_one_line(corpus, tiny, tmp_path, monkeypatch):
    from torch._dynamo.exc import InternalTorchDynamoError

    def broken(*inputs):
        raise InternalTorchDynamoError("no compiler\nand much more")

    monkeypatch.setattr(torch, "compile", lambda call, **_: broken)
    with pytest.raises(RaddinoError, match=r"\(no compiler\): turn compile off"):
        pretrain(corpus, tmp_path / "run", PretrainConfig(**tiny, compile=True), device="cpu", workers=0)


def test_a_run_from_before_a_setting_goes_on(corpus, tiny, tmp_path):
    """Its ``config.yaml`` does not say whether to compile, or says what ``auto`` is on a CPU."""
    run, config = tmp_path / "run", PretrainConfig(**{**tiny, "steps": 2, "schedule": {"length": 4}})
    pretrain(corpus, run, config, device="cpu", workers=0)
    lines = (run / "config.yaml").read_text(encoding="utf-8").splitlines()
    assert "compile: false" in lines
    older = [line for line in lines if not line.startswith(("compile:", "cuda_graphs:", "steps:"))]
    (run / "config.yaml").write_text("\n".join([*older, "steps: 3"]) + "\n", encoding="utf-8")
    pretrain(corpus, run, config.model_copy(update={"steps": 3}), device="cpu", workers=0)
    with pytest.raises(ConfigError, match="compile: False -> True"):
        pretrain(corpus, run, config.model_copy(update={"steps": 3, "compile": True}), device="cpu", workers=0)
