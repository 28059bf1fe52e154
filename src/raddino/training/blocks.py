"""How the blocks of a network run in training: compiled, recomputed, as a config says; what they compute stays."""

from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from raddino.ssl import SelfDistillation
from raddino.training.settings import PretrainConfig


def prepare_blocks(task: SelfDistillation, config: PretrainConfig) -> None:
    """Let blocks run as ``config.compile`` and ``config.activation_checkpointing`` say, in that order."""
    if config.compile:
        compile_blocks(task)
    if config.activation_checkpointing:
        recompute_blocks(task)


def compile_blocks(task: SelfDistillation) -> None:
    """Let student's and teacher's blocks run as ``torch.compile`` makes them, without a break, by the sizes met."""
    for network in (task.student, task.teacher):
        for block in network.backbone.blocks:
            block.forward = torch.compile(block.forward, fullgraph=True, dynamic=False)


def recompute_blocks(task: SelfDistillation) -> None:
    """Activation checkpointing: the student's blocks keep their inputs alone, and are computed again going back."""
    for block in task.student.backbone.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
