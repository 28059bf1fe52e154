"""The cost of a step against arithmetic by hand, torch's counter on real tensors, and the allocator's own count."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from raddino.ssl import SelfDistillation, Views
from raddino.training.blocks import fixed_rows, recompute_blocks
from raddino.training.checkpoint import training_state
from raddino.training.cost import _gpu_ways, count_weights, step_cost
from raddino.training.optimizer import build_optimizer
from raddino.training.pretrain import PretrainConfig
from raddino.training.schedule import Schedule
from raddino.training.step import compute_gradients, train_step
from raddino.views.masks import batch_masks

IMAGES = 4
ANCHORED = {"head": {"prototypes": 32, "hidden": 32, "bottleneck": 16}, "gram": {"weight": 2.0, "start": 5, "size": 64}}


def masks_of(config, images=IMAGES):
    grid = (config.views.global_size // config.vit.patch_size,) * 2
    if not config.ssl.ibot_weight:
        return torch.zeros(2 * images, grid[0] * grid[1], dtype=torch.bool)
    return torch.from_numpy(batch_masks(0, 0, 2 * images, grid, config.views.masks))


def prepared(config, images=IMAGES):
    v, generator = config.views, torch.Generator().manual_seed(0)
    local = torch.randn(v.local_views * images, 1, v.local_size, v.local_size, generator=generator)
    crops = torch.randn(2 * images, 1, v.global_size, v.global_size, generator=generator)
    task = SelfDistillation(config.vit, config.ssl).init_weights(generator).train()
    if config.activation_checkpointing:
        recompute_blocks(task)
    size = config.ssl.gram.size
    anchors = torch.randn(2 * images, 1, size, size, generator=generator) if size else None
    views = Views.build(crops, local, masks_of(config, images), anchors, fixed_rows(config, images))
    return task, views, Schedule(config.schedule, config.steps)[config.steps - 1]


def larger(tiny, **values):
    """A net whose activations outweigh what is small and odd."""
    vit = {**tiny["vit"], "embed_dim": 96, "num_heads": 3, "image_size": 64, "depth": 3}
    return PretrainConfig(**{**tiny, "vit": vit, "views": {**tiny["views"], "global_size": 64}, **values})


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"precision": "bf16"},
        {"views": {"global_size": 32, "local_size": 16, "local_views": 0}},
        {"ssl": {"head": {"prototypes": 32, "hidden": 32, "bottleneck": 16, "layers": 1}, "centering": "softmax"}},
        {"ssl": {"head": {"prototypes": 32, "hidden": 32, "bottleneck": 16}, "ibot_weight": 0}},
        {"activation_checkpointing": True, "precision": "bf16"},
        {"compile": True},
        {"compile": True, "ssl": {"head": {"prototypes": 32, "hidden": 32, "bottleneck": 16}, "ibot_weight": 0}},
        {"ssl": ANCHORED},
        {"ssl": {**ANCHORED, "gram": {"weight": 2.0, "start": 99}}},
    ],
)
@pytest.mark.parametrize("gpu", [False, True])
def test_flops_are_those_of_the_real_step(tiny, change, gpu):
    config = PretrainConfig(**{**tiny, **change})
    task, views, values = prepared(config)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        compute_gradients(task, [views], 1, values, config.precision, torch.Generator())
    assert step_cost(config, IMAGES, gpu).flops == counter.get_total_flops()


def test_flops_are_those_by_hand(tiny):
    """Products of 2 m n k each; the backward pass has two for each, the patch embedding only that of its weights."""
    config = PretrainConfig(**{**tiny, "vit": {**tiny["vit"], "drop_path": 0.0}})
    dim, depth, patch = config.vit.embed_dim, config.vit.depth, config.vit.patch_size
    masked = int(masks_of(config).sum())

    def forward(views, side):
        patches = (side // patch) ** 2
        tokens, embedding = views * (patches + 1), 2 * views * patches * patch**2 * dim
        scores = 2 * 2 * views * (patches + 1) ** 2 * dim
        return embedding, depth * (2 * tokens * 12 * dim**2 + scores)

    def head(rows):
        one = config.ssl.head
        widths = dim * one.hidden + one.hidden**2 + one.hidden * one.bottleneck + one.bottleneck * one.prototypes
        return 2 * rows * widths

    v = config.views
    globals_, locals_ = forward(2 * IMAGES, v.global_size), forward(v.local_views * IMAGES, v.local_size)
    teacher = sum(globals_) + head(2 * IMAGES + masked)
    rows = (2 + v.local_views) * IMAGES + masked
    student = 2 * (globals_[0] + locals_[0]) + 3 * (globals_[1] + locals_[1] + head(rows))
    nearest = 2 * 2 * IMAGES**2 * dim
    balanced = 3 * 2 * (2 * IMAGES + masked) * config.ssl.head.prototypes  # vector times matrix; torch counts no other
    assert step_cost(config, IMAGES, gpu=False).flops == teacher + student + nearest + balanced


@pytest.mark.parametrize(
    "change",
    [{}, {"accumulate": 2}, {"activation_checkpointing": True}, {"precision": "bf16"},
     {"ssl": {**ANCHORED, "gram": {"weight": 2.0, "start": 5, "size": 128}}}],
)  # fmt: skip
def test_the_peak_is_what_the_allocator_hands_out(tiny, tmp_path, change):
    """torch's profiler counts every allocation of the real step, also those inside of kernels."""
    config = larger(tiny, batch_size=16, **change)
    images = config.batch_size // config.accumulate
    task, views, values = prepared(config, images)
    optimizer = build_optimizer(task.student, config.optim)
    generator = torch.Generator()

    def step():
        train_step(task, optimizer, [views] * config.accumulate, config.accumulate, values, 3.0, config.precision,
                   generator)  # fmt: skip

    step()
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        step()
    seen.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    memory = sorted((one["ts"], one["args"]["Bytes"]) for one in events if one["name"] == "[memory]")
    alive = peak = 0
    for _, change_ in memory:
        alive += change_
        peak = max(peak, alive)
    inputs = [views.global_crops, views.local_crops, views.masks, views.gram_crops]
    inputs = sum(one.nbytes for one in inputs if one is not None)
    state = sum(one.nbytes for one in training_state(task, optimizer))
    assert step_cost(config, images, gpu=False).peak_bytes == pytest.approx(peak + inputs + state, rel=0.1)


def test_state_is_what_a_checkpoint_holds(tiny):
    for change in ({"centering": "softmax"}, {"centering": "sinkhorn_knopp"}, {"gram": {"weight": 1.0}}):
        config = PretrainConfig(**{**tiny, "ssl": {**tiny["ssl"], **change}})
        task, views, values = prepared(config)
        optimizer = build_optimizer(task.student, config.optim)
        train_step(task, optimizer, [views], 1, values, 3.0, generator=torch.Generator())
        cost = step_cost(config, IMAGES, gpu=False)
        counters = len(list(task.student.parameters())) * 4
        state = training_state(task, optimizer)
        assert cost.state_bytes == sum(one.nbytes for one in state) - counters
        assert cost.parameters == sum(weight.numel() for weight in task.student.parameters())
        centres = sum(one.nbytes for one in task.buffers())
        assert count_weights(config.vit, config.ssl) == (
            cost.parameters, cost.parameters + (cost.state_bytes - centres) // 4,
        )  # fmt: skip


def test_what_needs_more_and_less(tiny):
    plain = step_cost(larger(tiny), 8, gpu=False)
    assert step_cost(larger(tiny), 16, gpu=False).peak_bytes > 1.5 * plain.peak_bytes
    lean = step_cost(larger(tiny, activation_checkpointing=True), 8, gpu=False)
    assert lean.peak_bytes < 0.7 * plain.peak_bytes
    assert lean.state_bytes == plain.state_bytes
    assert plain.flops < lean.flops < 1.4 * plain.flops, "the student's blocks once more"
    half = larger(tiny, precision="bf16")
    assert step_cost(half, 8, gpu=False).peak_bytes < plain.peak_bytes
    accumulated = step_cost(larger(tiny, accumulate=2), 8, gpu=False)
    assert accumulated.peak_bytes > plain.peak_bytes, "the gradients of the micro-batch before"


def test_a_gpu_keeps_no_scores_but_norms_in_float32(tiny):
    """On a CPU in bf16 short sequences keep their attention scores; CUDA's autocast keeps norms in float32."""
    many_heads = {"precision": "bf16", "vit": {**tiny["vit"], "num_heads": 16, "image_size": 128}}
    for change, factor in ((many_heads, 0.6), ({"precision": "fp32"}, 1.0)):
        config = PretrainConfig(**{**tiny, **change, "views": {"global_size": 128, "local_views": 0}})
        here, gpu = (step_cost(config, 8, gpu) for gpu in (False, True))
        assert gpu.flops == here.flops
        assert gpu.peak_bytes <= factor * here.peak_bytes
    with torch.autocast("cpu", torch.bfloat16), _gpu_ways():
        assert torch.nn.LayerNorm(8)(torch.ones(2, 8, dtype=torch.bfloat16)).dtype == torch.float32


def test_no_memory_is_taken_and_nothing_is_left_behind(tiny):
    """A step of 10 TB is counted, and torch is as it was."""
    config = PretrainConfig(**{**tiny, "views": {"global_size": 512, "local_size": 256, "local_views": 8}})
    assert step_cost(config, 2**18, gpu=True).peak_bytes > 1e13
    assert not type(torch.ones(1)).__name__.startswith("Fake")
