"""How blocks and heads run in training: compiled, recomputed, as a config says; what they compute stays."""

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from raddino.compiler import has_c_compiler, plain_errors
from raddino.errors import ConfigError
from raddino.ssl import SelfDistillation
from raddino.training.settings import PretrainConfig
from raddino.views.masks import most_masked


def decided(config: PretrainConfig, device: torch.device) -> PretrainConfig:
    """The config with ``compile`` true or false: ``"auto"`` is true on a GPU beside a C compiler.

    Raises:
        ConfigError: CUDA graphs without a GPU, or of what is not compiled.
    """
    gpu = device.type == "cuda"
    if config.cuda_graphs and not gpu:
        raise ConfigError(f"cuda_graphs needs a GPU, and this is to run on {device.type}: leave it out")
    compile = gpu and has_c_compiler() if config.compile == "auto" else config.compile
    if config.cuda_graphs and not compile:
        raise ConfigError("cuda_graphs needs compile, which needs a C compiler: install gcc, or leave cuda_graphs out")
    return config.model_copy(update={"compile": compile})


def fixed_rows(config: PretrainConfig, images: int) -> int | None:
    """Masked patches that heads get at each step of one rank's ``images`` of a micro-batch; None for those there are.

    Fixed where heads are compiled for sizes that stay: as many as masks can ever have there.

    Args:
        config: with ``compile`` decided.
        images: of the rank.
    """
    if config.compile is not True:
        return None
    if not config.ssl.ibot_weight:
        return 0
    grid = (config.views.global_size // config.vit.patch_size,) * 2
    return most_masked(2 * (config.batch_size // config.accumulate), grid, config.views.masks, 2 * images)


def prepare_blocks(task: SelfDistillation, config: PretrainConfig) -> None:
    """Let blocks and heads run as a config with ``compile`` decided says: first compiled, then recomputed."""
    if config.compile is True:
        compile_parts(task, config.cuda_graphs)
    if config.activation_checkpointing:
        recompute_blocks(task)


def compile_parts(task: SelfDistillation, cuda_graphs: bool = False) -> None:
    """Let student's and teacher's blocks and heads run as ``torch.compile`` makes them, without a break, by size met.

    With ``cuda_graphs`` a GPU replays each as one graph.
    """
    for network in (task.student, task.teacher):
        for part in (*network.backbone.blocks, network.dino_head, network.ibot_head):
            if part is not None:
                mode = "reduce-overhead" if cuda_graphs else None
                part.forward = plain_errors(torch.compile(part.forward, fullgraph=True, dynamic=False, mode=mode))
    if cuda_graphs:
        task.register_forward_pre_hook(_begin_graphs)


def _begin_graphs(task: torch.nn.Module, _: Any) -> None:
    """Before a micro-batch: its graphs write where those of the one before wrote, the student's gradients too."""
    for weight in task.parameters():
        if weight.grad is not None:
            weight.grad = weight.grad.clone()
    torch.compiler.cudagraph_mark_step_begin()


def recompute_blocks(task: SelfDistillation) -> None:
    """Activation checkpointing: the student's blocks keep their inputs alone, and are computed again going back."""
    for block in task.student.backbone.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
